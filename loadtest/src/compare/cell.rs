//! The cells of a comparison: what is sent where, and what proves that it was measured.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use loadtest::generator::{Expected, Plan, Prompts, Target};

use super::CompareArgs;
use super::subjects::Subjects;
use crate::child::Child;
use crate::probe::Probe;

/// Events of the provider's stream: role, 20 tokens, finish, `[DONE]`.
const STREAM_EVENTS: usize = 23;
/// A server on its own asks for none, and takes any.
const KEY: &str = "loadtest";
/// More than a cell asks of one prompt in one round.
const SPACINGS_PER_ROUND: u64 = 50_000;

/// One row of the table.
pub(super) struct Cell {
    pub(super) name: &'static str,
    /// The row that it is measured against.
    pub(super) floor: Option<&'static str>,
    /// Whether every request must reach the provider, or none may.
    pub(super) upstream: Upstream,
    subject: Subject,
    stream: bool,
    prompts: Source,
    cache: Option<&'static str>,
    bypass: bool,
    /// Whether a hit needs the prompt's embedding.
    embeds: bool,
}

/// What the provider must have seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Upstream {
    OncePerRequest,
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Fixed,
    Proxy,
    Server,
}

/// Where a cell's prompts come from; made into [`Prompts`] anew for every round.
#[derive(Clone)]
enum Source {
    /// The number tells the prompts of one cell from those of another.
    Unique(u64),
    InTurn(Arc<[String]>),
    Respaced(Arc<[String]>),
}

/// What the server's cache holds before the first round.
#[derive(Default)]
pub(super) struct Warmed {
    /// Prompts that have been answered and stored.
    pub(super) stored: Arc<[String]>,
    /// Other wordings that the server answers from those entries by meaning.
    pub(super) paraphrases: Arc<[String]>,
    /// Other wordings that were tried, by what the cache said.
    pub(super) verdicts: BTreeMap<String, usize>,
}

/// All cells, in the order of measurement: every floor next to what is compared with it.
pub(super) fn all(subjects: &Subjects, warmed: &Warmed) -> Vec<Cell> {
    let mut cells = floors();
    if subjects.server.is_some() {
        cells.extend(passing());
        cells.extend(hits(warmed));
    }
    cells
}

fn floors() -> Vec<Cell> {
    let cell = |number, name, subject, stream, upstream| Cell {
        name,
        floor: None,
        upstream,
        subject,
        stream,
        prompts: Source::Unique(number),
        cache: None,
        bypass: false,
        embeds: false,
    };
    vec![
        cell(0, "floor: fixed JSON", Subject::Fixed, false, Upstream::Never),
        cell(1, "floor: fixed SSE", Subject::Fixed, true, Upstream::Never),
        cell(2, "floor: proxy JSON", Subject::Proxy, false, Upstream::OncePerRequest),
        cell(3, "floor: proxy SSE", Subject::Proxy, true, Upstream::OncePerRequest),
    ]
}

fn passing() -> Vec<Cell> {
    let cell = |number, name, floor, stream, cache, bypass| Cell {
        name,
        floor: Some(floor),
        upstream: Upstream::OncePerRequest,
        subject: Subject::Server,
        stream,
        prompts: Source::Unique(number),
        cache: Some(cache),
        bypass,
        embeds: false,
    };
    vec![
        cell(4, "pass-through JSON", "floor: proxy JSON", false, "BYPASS", true),
        cell(5, "pass-through SSE", "floor: proxy SSE", true, "BYPASS", true),
        cell(6, "storable miss JSON", "floor: proxy JSON", false, "MISS", false),
        cell(7, "storable miss SSE", "floor: proxy SSE", true, "MISS", false),
    ]
}

fn hits(warmed: &Warmed) -> Vec<Cell> {
    let cell = |name, stream, prompts, cache| Cell {
        name,
        floor: Some(if stream { "floor: fixed SSE" } else { "floor: fixed JSON" }),
        upstream: Upstream::Never,
        subject: Subject::Server,
        stream,
        prompts,
        cache: Some(cache),
        bypass: false,
        embeds: false,
    };
    let mut cells = vec![
        cell("exact hit JSON", false, Source::InTurn(warmed.stored.clone()), "HIT"),
        cell("exact hit SSE", true, Source::InTurn(warmed.stored.clone()), "HIT"),
        cell("normalized hit JSON", false, Source::Respaced(warmed.stored.clone()), "NORMALIZED_HIT"),
    ];
    if !warmed.paraphrases.is_empty() {
        let paraphrases = Source::Respaced(warmed.paraphrases.clone());
        let semantic = cell("semantic hit JSON", false, paraphrases, "SEMANTIC_HIT");
        cells.push(Cell { embeds: true, ..semantic });
    }
    cells
}

impl Cell {
    /// The load of this cell in this round.
    pub(super) fn plan(&self, args: &CompareArgs, subjects: &Subjects, round: u32) -> anyhow::Result<Plan> {
        let child = self.child(subjects)?;
        let prefix = if self.subject == Subject::Fixed && self.stream { "/stream" } else { "" };
        let passes = self.upstream == Upstream::OncePerRequest;
        let target = Target::parse(&format!("{}{prefix}/v1/chat/completions", child.url()))?;
        Ok(Plan {
            stream: self.stream,
            headers: self.bypass.then(|| ("x-ish-cache".into(), "off".to_owned())).into_iter().collect(),
            expected: Expected {
                // A stored answer may be replayed in other portions than it came in.
                events: passes.then_some(STREAM_EVENTS),
                header: self.cache.map(|cache| ("x-ish-cache", cache)),
                ..Expected::default()
            },
            connections: if self.embeds { args.semantic_connections } else { args.connections },
            warm_up: Duration::try_from_secs_f64(args.warm_up_seconds)?,
            rate: args.rate,
            pid: Some(child.pid()),
            ..Plan::new(target, self.prompts.of_round(round), Duration::try_from_secs_f64(args.seconds)?)
        })
    }

    fn child<'a>(&self, subjects: &'a Subjects) -> anyhow::Result<&'a Child> {
        match self.subject {
            Subject::Fixed => Ok(&subjects.fixed),
            Subject::Proxy => Ok(&subjects.proxy),
            Subject::Server => subjects.server.as_ref().context("no server under test"),
        }
    }
}

impl Source {
    fn of_round(&self, round: u32) -> Prompts {
        match self {
            Self::Unique(cell) => Prompts::Unique { salt: 1000 * (cell + 1) + u64::from(round) },
            Self::InTurn(prompts) => Prompts::InTurn(prompts.clone()),
            Self::Respaced(prompts) => {
                Prompts::Respaced { prompts: prompts.clone(), skip: 1 + SPACINGS_PER_ROUND * u64::from(round) }
            }
        }
    }
}

/// Reads pairs of a prompt and another wording of it.
pub(super) fn paraphrases(path: Option<&Path>) -> anyhow::Result<Vec<(String, String)>> {
    let text = match path {
        Some(path) => fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => include_str!("../../data/paraphrases.tsv").to_owned(),
    };
    let pairs: Vec<_> =
        text.lines().filter_map(|line| line.split_once('\t')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    ensure!(!pairs.is_empty(), "no line of the form prompt<TAB>paraphrase");
    Ok(pairs)
}

/// Has the server store every prompt, then keeps the paraphrases that it answers by meaning.
pub(super) async fn warm(pairs: &[(String, String)], probe: &Probe, server: &str) -> anyhow::Result<Warmed> {
    for (prompt, _) in pairs {
        probe.ask(server, KEY, prompt).await?;
    }
    // Entries may be indexed a moment after their replies. A paraphrase asked too early would be
    // stored itself and could never be a semantic hit again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut hits = Vec::new();
    let mut verdicts = BTreeMap::new();
    for (_, paraphrase) in pairs {
        let verdict = probe.ask(server, KEY, paraphrase).await?;
        if verdict == "SEMANTIC_HIT" {
            hits.push(paraphrase.clone());
        }
        *verdicts.entry(verdict).or_default() += 1;
    }
    let stored = pairs.iter().map(|(prompt, _)| prompt.clone()).collect();
    Ok(Warmed { stored, paraphrases: hits.into(), verdicts })
}
