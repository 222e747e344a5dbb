//! Measures the verifier: `cargo run --release --example evaluate -- ../shared/data [part ...]`.
//!
//! Owns which figures are printed, as Markdown. Parts: `pairs`, `qqp`, `cache`, `paws`, `finance`, `intents`,
//! `conversations`; all of them without a name. `explain FILE` prints every guard's word on the pairs of a TSV file, `audit` prints hits that
//! are labelled wrong. `--vectors FILE` before the folder keeps the vectors there for the next run.

mod conversations;
mod corpus;
mod report;
mod texts;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::conversations::Asking;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let vectors = arguments.next_if_eq("--vectors").and_then(|_| arguments.next()).map(PathBuf::from);
    let data = PathBuf::from(arguments.next().context("usage: evaluate [--vectors FILE] DATA_FOLDER [part ...]")?);
    let parts: Vec<String> = arguments.collect();
    let mut texts = texts::Texts::open(vectors)?;
    if parts.first().is_some_and(|part| part == "explain") {
        let file = parts.get(1).context("usage: evaluate DATA_FOLDER explain FILE")?;
        return report::explain(&mut texts, &corpus::own_pairs(file.as_ref())?);
    }
    if parts.first().is_some_and(|part| part == "audit") {
        return report::audit(&mut texts, &corpus::qqp(&data)?);
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    if wanted("pairs") {
        report::own(&mut texts, "tests/fixtures/pairs.tsv")?;
        report::own(&mut texts, "tests/fixtures/dev_pairs.tsv")?;
        report::own(&mut texts, "tests/fixtures/fresh_pairs.tsv")?;
    }
    if wanted("finance") {
        report::finance(&mut texts, &corpus::finance(&data)?)?;
    }
    if wanted("paws") {
        report::labelled(&mut texts, "PAWS-QQP", &corpus::paws(&data)?)?;
    }
    if wanted("intents") {
        report::intents(&mut texts, "Banking77", &corpus::banking(&data)?)?;
        report::intents(&mut texts, "CLINC150", &corpus::clinc(&data)?)?;
    }
    if wanted("conversations") {
        let cast = corpus::cast(&data)?;
        let (alone, first, again) = (Asking::InItsConversation, Asking::AsFirstMessage, Asking::Again);
        conversations::run("CAsT", &cast, &cast, &[alone, first, again])?;
        let recorded = corpus::recorded(&data)?;
        conversations::run("MeanCache", &recorded.first, &recorded.again, &[alone, first])?;
    }
    if wanted("qqp") {
        let qqp = corpus::qqp(&data)?;
        report::labelled(&mut texts, "QQP, tuning part", &qqp.tuning)?;
        report::labelled(&mut texts, "QQP, held-out part", &qqp.held_out)?;
    }
    if wanted("cache") {
        report::as_cache(&mut texts, &corpus::qqp(&data)?.held_out)?;
    }
    Ok(())
}
