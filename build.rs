//! Lays the embedded model's weights out as the runtime reads them in place; from an ONNX file it copies each one, which
//! costs 35 MB. What is between the weights stands in `models/*.layout`, made by `scripts/build_layout.py`.

use std::path::Path;
use std::{env, fs};

const MODEL: &str = "models/minilm-l6-v2-int8.onnx";
const LAYOUT: &str = "models/minilm-l6-v2-int8.layout";

#[expect(clippy::disallowed_methods, reason = "cargo names the folder of outputs in the environment")]
fn main() {
    for file in ["build.rs", MODEL, LAYOUT] {
        println!("cargo::rerun-if-changed={file}");
    }
    let read = |file| fs::read(file).unwrap_or_else(|error| panic!("{file} cannot be read: {error}"));
    let folder = env::var_os("OUT_DIR").expect("cargo names the folder of outputs");
    let output = Path::new(&folder).join("minilm.rten");
    let model = assemble(&read(MODEL), &read(LAYOUT));
    fs::write(&output, model).unwrap_or_else(|error| panic!("{} cannot be written: {error}", output.display()));
}

/// Records of the layout: a length and that many bytes, then offset and length of a piece of `weights` that follows them.
fn assemble(weights: &[u8], mut layout: &[u8]) -> Vec<u8> {
    let mut model = Vec::with_capacity(weights.len() + layout.len());
    while !layout.is_empty() {
        let literal = number::<4>(&mut layout);
        model.extend_from_slice(take(&mut layout, literal));
        let (start, length) = (number::<8>(&mut layout), number::<8>(&mut layout));
        model.extend_from_slice(&weights[start..start + length]);
    }
    model
}

fn number<const BYTES: usize>(layout: &mut &[u8]) -> usize {
    let mut bytes = [0; 8];
    bytes[..BYTES].copy_from_slice(take(layout, BYTES));
    usize::try_from(u64::from_le_bytes(bytes)).expect("the model fits into memory")
}

fn take<'a>(layout: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = layout.split_at(count);
    *layout = rest;
    taken
}
