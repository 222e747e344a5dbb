//! The cases of `tests/ui/fail`, given to the compiler as a program that uses the library: each fails with the errors that its
//! head tells, every one of which names the fix and points at the cause. The attributes' own errors are told by `macros`'s own
//! tests as well; here it is seen that nothing else fails beside them.
//!
//! All cases of a kind are modules of one program, so that the library is read once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// An error: its message and the text that it points at.
type Told = (String, String);

#[test]
fn errors_of_the_attributes_come_alone() {
    let (of_the_compiler, ours): (Vec<_>, Vec<_>) = cases().into_iter().partition(Case::is_the_compilers);
    assert!(ours.len() >= 60 && of_the_compiler.len() >= 8, "{} and {}", ours.len(), of_the_compiler.len());
    check(&ours);
}

#[test]
fn errors_of_the_compiler_name_the_fix() {
    let cases: Vec<Case> = cases().into_iter().filter(Case::is_the_compilers).collect();
    check(&cases);
}

/// A case: its name and its text.
struct Case {
    path: PathBuf,
    text: String,
}

impl Case {
    fn is_the_compilers(&self) -> bool {
        self.text.lines().any(|line| line == "//~ by the compiler")
    }

    fn said<'c>(&'c self, word: &'c str) -> impl Iterator<Item = String> + 'c {
        self.text.lines().filter_map(move |line| line.strip_prefix("//~ ")?.strip_prefix(word)).map(str::to_owned)
    }

    fn name(&self) -> String {
        self.path.file_stem().unwrap().to_string_lossy().into_owned()
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui/fail");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| Case { text: fs::read_to_string(&path).unwrap(), path }).collect()
}

/// Compiles all of them, and holds what is told of each to what its head says.
fn check(cases: &[Case]) {
    let mut told = compiled(cases);
    let mut wrong = String::new();
    for case in cases {
        let (mut errors, mut beside) = told.remove(&case.name()).unwrap_or_default();
        // Of a negative number the compiler tells where its sign is.
        let at = case.said("at: ").map(|at| if at.starts_with('-') { "-".to_owned() } else { at });
        let mut wanted: Vec<Told> = case.said("error: ").zip(at).collect();
        errors.sort();
        wanted.sort();
        beside.retain(|note| !note.is_empty());
        let notes_are_there = case.said("note: ").all(|note| beside.contains(&note));
        if errors != wanted || wanted.is_empty() || !notes_are_there {
            writeln!(wrong, "== {}", case.name()).unwrap();
            for (error, at) in errors {
                writeln!(wrong, "//~ error: {error}\n//~ at: {at}").unwrap();
            }
            for note in beside {
                writeln!(wrong, "//~ note: {note}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty() && told.is_empty(), "{wrong}\nand {told:?}");
}

/// What the compiler tells of each case: errors, and what stands beside them.
fn compiled(cases: &[Case]) -> BTreeMap<String, (Vec<Told>, Vec<String>)> {
    let folder = tempfile::tempdir().unwrap();
    let modules =
        cases.iter().map(|case| format!("#[path = {:?}] mod {};\n", case.path.to_str().unwrap(), case.name()));
    let program = folder.path().join("program.rs");
    fs::write(&program, modules.collect::<String>() + "fn main() {}\n").unwrap();
    let library = library();
    let output = Command::new("rustc")
        .args(["--edition", "2024", "--emit", "metadata", "--error-format", "json", "-A", "warnings"])
        .arg("--out-dir")
        .arg(folder.path())
        .arg("-L")
        .arg(format!("dependency={}", library.parent().unwrap().display()))
        .arg("--extern")
        .arg(format!("ish={}", library.display()))
        .arg(&program)
        .output()
        .unwrap();
    let mut told = BTreeMap::<String, (Vec<Told>, Vec<String>)>::new();
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { panic!("{line}") };
        let Some(at) = message["spans"].as_array().unwrap().iter().find(|span| span["is_primary"] == true) else {
            continue;
        };
        let name = Path::new(at["file_name"].as_str().unwrap()).file_stem().unwrap().to_string_lossy().into_owned();
        let (errors, beside) = told.entry(name).or_default();
        errors.push((message["message"].as_str().unwrap().to_owned(), text_of(at)));
        let labels = message["spans"].as_array().into_iter().flatten().map(|span| &span["label"]);
        let notes = message["children"].as_array().into_iter().flatten().map(|child| &child["message"]);
        beside.extend(labels.chain(notes).map(|text| text.as_str().unwrap_or_default().to_owned()));
    }
    told
}

/// What a span covers.
fn text_of(span: &Value) -> String {
    let lines = span["text"].as_array().unwrap().iter().map(|line| {
        let (text, at) = (line["text"].as_str().unwrap(), |name: &str| line[name].as_u64().unwrap() as usize - 1);
        text.chars().skip(at("highlight_start")).take(at("highlight_end") - at("highlight_start")).collect::<String>()
    });
    lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>().join(" ")
}

/// The library that this test is linked with, by Cargo's own notes: with the test, the fingerprint of each thing that it was built
/// from; with each library, its own.
fn library() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let (built, name) = (own.parent().unwrap(), own.file_name().unwrap().to_string_lossy());
    let notes = built.with_file_name(".fingerprint");
    let of_test = notes.join(name.replace("it-", "ish-")).join("test-integration-test-it.json");
    let of_test: Value = serde_json::from_slice(&fs::read(&of_test).unwrap()).unwrap();
    let of_library = of_test["deps"].as_array().unwrap().iter().find(|note| note[1] == "ish").unwrap();
    let wanted = of_library[3].as_u64().unwrap().to_le_bytes().map(|byte| format!("{byte:02x}")).concat();
    let all = fs::read_dir(notes).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |note: &PathBuf| fs::read_to_string(note.join("lib-ish")).is_ok_and(|own| own == wanted);
    let hash = all.filter(is_it).find_map(|note| Some(note.file_name()?.to_str()?.strip_prefix("ish-")?.to_owned()));
    built.join(format!("libish-{}.rlib", hash.expect("Cargo has noted the library that it has built")))
}
