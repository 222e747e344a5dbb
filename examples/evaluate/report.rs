//! Counts and prints.
//!
//! Owns the tables. A rule is one row: a cosine threshold alone, or a preset of the verifier.

use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use ish::cache::verify::{Preset, Profile};
use ish::embedding::{DIM, dot};

use crate::corpus::{self, Pair, Qqp};
use crate::texts::Texts;

/// What decides.
#[derive(Clone, Copy)]
enum Rule {
    Cosine(f32),
    Verifier(Preset),
}

const RULES: [Rule; 6] = [
    Rule::Cosine(0.80),
    Rule::Cosine(0.90),
    Rule::Cosine(0.95),
    Rule::Verifier(Preset::Strict),
    Rule::Verifier(Preset::Balanced),
    Rule::Verifier(Preset::Loose),
];

impl Rule {
    fn name(self) -> String {
        match self {
            Self::Cosine(threshold) => format!("cosine {threshold:.2}"),
            Self::Verifier(preset) => format!("{preset:?}").to_lowercase(),
        }
    }

    fn serves(self, texts: &Texts, a: &str, b: &str) -> bool {
        match self {
            Self::Cosine(threshold) => texts.similarity(a, b).get() >= threshold,
            Self::Verifier(preset) => texts.veto(preset, a, b).is_none(),
        }
    }
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.2} %", 100.0 * part as f64 / whole.max(1) as f64)
}

fn prepare(texts: &mut Texts, pairs: &[Pair]) -> Result<()> {
    texts.prepare(pairs.iter().flat_map(|pair| [pair.a.as_str(), pair.b.as_str()]))
}

/// Pair by pair, each pair one look-up with one candidate.
pub fn labelled(texts: &mut Texts, name: &str, pairs: &[Pair]) -> Result<()> {
    prepare(texts, pairs)?;
    let same = pairs.iter().filter(|pair| pair.same).count();
    println!("\n### {name}: {} pairs, {same} labelled as duplicates\n", pairs.len());
    println!("| rule | served of all | duplicates served | non-duplicates served | wrong among served |");
    println!("|---|---|---|---|---|");
    for rule in RULES {
        let served: Vec<&Pair> = pairs.iter().filter(|pair| rule.serves(texts, &pair.a, &pair.b)).collect();
        let right = served.iter().filter(|pair| pair.same).count();
        let wrong = served.len() - right;
        println!(
            "| {} | {} | {} | {} | {} |",
            rule.name(),
            percent(served.len(), pairs.len()),
            percent(right, same),
            percent(wrong, pairs.len() - same),
            percent(wrong, served.len())
        );
    }
    Ok(())
}

/// Our own pairs, by category.
pub fn own(texts: &mut Texts, path: &str) -> Result<()> {
    let pairs = corpus::own_pairs(path.as_ref())?;
    prepare(texts, &pairs)?;
    let mut categories: BTreeMap<&str, Vec<&Pair>> = BTreeMap::new();
    for pair in &pairs {
        categories.entry(&pair.category).or_default().push(pair);
        categories.entry("~ all").or_default().push(pair);
    }
    println!("\n### {path}\n\nServed of the pairs that match / of the pairs that differ.\n");
    println!("| category | {} |", RULES.map(Rule::name).join(" | "));
    println!("|---|{}", "---|".repeat(RULES.len()));
    for (category, pairs) in categories {
        let count = |rule: Rule, same: bool| {
            let of_label: Vec<_> = pairs.iter().filter(|pair| pair.same == same).collect();
            let served = of_label.iter().filter(|pair| rule.serves(texts, &pair.a, &pair.b)).count();
            format!("{served} of {}", of_label.len())
        };
        let cells = RULES.map(|rule| format!("{} / {}", count(rule, true), count(rule, false)));
        println!("| {} | {} |", category.trim_start_matches("~ "), cells.join(" | "));
    }
    Ok(())
}

/// Pairs that must not match.
pub fn finance(texts: &mut Texts, pairs: &[Pair]) -> Result<()> {
    prepare(texts, pairs)?;
    println!("\n### Finance: {} pairs that must not match\n\n| rule | served |\n|---|---|", pairs.len());
    for rule in RULES {
        let served = pairs.iter().filter(|pair| rule.serves(texts, &pair.a, &pair.b)).count();
        println!("| {} | {served} |", rule.name());
    }
    Ok(())
}

/// The nearest neighbours of each row of `queries` among `cached`, nearest first.
fn neighbours(texts: &Texts, queries: &[&str], cached: &[&str], k: usize) -> Vec<Vec<usize>> {
    let matrix: Vec<&[f32; DIM]> = cached.iter().map(|text| texts.get(text).embedding.values()).collect();
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let search = |part: &[&str]| -> Vec<Vec<usize>> {
        let nearest = |query: &&str| {
            let query = texts.get(query).embedding.values();
            let mut scored: Vec<(f32, usize)> =
                matrix.iter().enumerate().map(|(index, row)| (dot(query, row), index)).collect();
            let k = k.min(scored.len());
            scored.select_nth_unstable_by(k - 1, |a, b| b.0.total_cmp(&a.0));
            scored.truncate(k);
            scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
            scored.into_iter().map(|(_, index)| index).collect()
        };
        part.iter().map(nearest).collect()
    };
    thread::scope(|scope| {
        let parts: Vec<_> =
            queries.chunks(queries.len().div_ceil(threads)).map(|part| scope.spawn(|| search(part))).collect();
        parts.into_iter().flat_map(|part| part.join().expect("invariant: the search does not panic")).collect()
    })
}

/// Every second text is cached, the others look up; an answer is right if its intent is the same.
pub fn intents(texts: &mut Texts, name: &str, rows: &[(String, String)]) -> Result<()> {
    texts.prepare(rows.iter().map(|(text, _)| text.as_str()))?;
    let (cached, queries): (Vec<_>, Vec<_>) = rows.iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let cached_texts: Vec<&str> = cached.iter().map(|(_, (text, _))| text.as_str()).collect();
    let query_texts: Vec<&str> = queries.iter().map(|(_, (text, _))| text.as_str()).collect();
    let near = neighbours(texts, &query_texts, &cached_texts, 8);
    println!("\n### {name} as a cache: {} cached, {} look-ups; another intent is wrong\n", cached.len(), queries.len());
    println!("| rule | hits of look-ups | wrong among hits | wrong of look-ups |\n|---|---|---|---|");
    for rule in RULES {
        let (mut hits, mut wrong) = (0, 0);
        for ((_, (query, intent)), near) in queries.iter().zip(&near) {
            if let Some(&hit) = near.iter().find(|&&index| rule.serves(texts, query, cached_texts[index])) {
                hits += 1;
                wrong += usize::from(cached[hit].1.1 != *intent);
            }
        }
        let of = queries.len();
        println!("| {} | {} | {} | {} |", rule.name(), percent(hits, of), percent(wrong, hits), percent(wrong, of));
    }
    Ok(())
}

/// QQP as traffic: the first text of each pair is cached, the second looks up among all.
struct Traffic<'a> {
    cached: Vec<&'a str>,
    queries: Vec<&'a str>,
    /// What the data says about a look-up and cached texts.
    labels: BTreeMap<&'a str, Vec<(&'a str, bool)>>,
    /// For each look-up the 8 nearest cached texts, nearest first.
    near: Vec<Vec<usize>>,
}

impl<'a> Traffic<'a> {
    fn new(texts: &Texts, pairs: &'a [Pair]) -> Self {
        let mut cached: Vec<&str> = pairs.iter().map(|pair| pair.a.as_str()).collect();
        cached.sort_unstable();
        cached.dedup();
        let mut labels: BTreeMap<&str, Vec<(&str, bool)>> = BTreeMap::new();
        for pair in pairs.iter().filter(|pair| cached.binary_search(&pair.b.as_str()).is_err()) {
            labels.entry(&pair.b).or_default().push((&pair.a, pair.same));
        }
        let queries: Vec<&str> = labels.keys().copied().collect();
        let near = neighbours(texts, &queries, &cached, 8);
        Self { cached, queries, labels, near }
    }

    /// Each look-up that hits, what it hits, and the label if there is one.
    fn hits(&self, texts: &Texts, rule: Rule) -> Vec<(&'a str, &'a str, Option<bool>)> {
        let hit = |(query, near): (&&'a str, &Vec<usize>)| {
            let &hit = near.iter().find(|&&index| rule.serves(texts, query, self.cached[index]))?;
            let known = self.labels[query].iter().find(|(text, _)| *text == self.cached[hit]);
            Some((*query, self.cached[hit], known.map(|(_, same)| *same)))
        };
        self.queries.iter().zip(&self.near).filter_map(hit).collect()
    }
}

/// The best verified of 8 neighbours answers.
pub fn as_cache(texts: &mut Texts, pairs: &[Pair]) -> Result<()> {
    prepare(texts, pairs)?;
    let traffic = Traffic::new(texts, pairs);
    let Traffic { cached, queries, labels, .. } = &traffic;
    let answerable = labels.values().filter(|known| known.iter().any(|(_, same)| *same)).count();
    println!(
        "\n### QQP as a cache: {} cached, {} look-ups, {answerable} with a labelled duplicate\n",
        cached.len(),
        queries.len()
    );
    println!(
        "| rule | hits of look-ups | answerable look-ups that hit their duplicate | hits labelled right | labelled wrong | without a label | labelled wrong of look-ups |"
    );
    println!("|---|---|---|---|---|---|---|");
    for rule in RULES {
        let served = traffic.hits(texts, rule);
        let hits = served.len();
        let right = served.iter().filter(|(.., label)| *label == Some(true)).count();
        let wrong = served.iter().filter(|(.., label)| *label == Some(false)).count();
        let of = queries.len();
        println!(
            "| {} | {} | {} | {right} | {wrong} | {} | {} |",
            rule.name(),
            percent(hits, of),
            percent(right, answerable),
            hits - right - wrong,
            percent(wrong, of)
        );
    }
    costs(texts, pairs);
    Ok(())
}

/// What the verifier costs on pairs that a search would bring to it.
fn costs(texts: &Texts, pairs: &[Pair]) {
    let near: Vec<&Pair> = pairs.iter().filter(|pair| texts.similarity(&pair.a, &pair.b).get() >= 0.8).collect();
    let started = Instant::now();
    let served = near.iter().filter(|pair| texts.veto(Preset::Balanced, &pair.a, &pair.b).is_none()).count();
    let each = started.elapsed() / near.len().max(1) as u32;
    println!("\n{} pairs at 0.80 or above: {each:?} for each verdict at `balanced`, {served} served.", near.len());
    let started = Instant::now();
    let tokens: usize = near.iter().map(|pair| Profile::new(&pair.a).tokens.len()).sum();
    let each = started.elapsed() / near.len().max(1) as u32;
    println!("A profile took {each:?}, with {:.1} tokens on average.", tokens as f64 / near.len().max(1) as f64);
}

/// What every guard says about each pair that is decided wrongly.
pub fn explain(texts: &mut Texts, pairs: &[Pair]) -> Result<()> {
    prepare(texts, pairs)?;
    for pair in pairs {
        let verdict = texts.verdict(Preset::Balanced, &pair.a, &pair.b);
        if verdict.serve == pair.same {
            continue;
        }
        let similarity = texts.similarity(&pair.a, &pair.b);
        let word = if pair.same { "MISSED" } else { "SERVED" };
        println!("{word} [{}] {similarity} {} | {}", pair.category, pair.a, pair.b);
        for check in verdict.checks.iter().filter(|check| !check.passed) {
            println!("       {}: {}", check.guard, check.detail);
        }
    }
    Ok(())
}

/// Hits at `balanced` that are labelled wrong or, in the cache, not at all, for reading: `part, similarity, text_a,
/// text_b`.
pub fn audit(texts: &mut Texts, qqp: &Qqp) -> Result<()> {
    for (part, pairs) in [("tuning", &qqp.tuning), ("held-out", &qqp.held_out)] {
        prepare(texts, pairs)?;
        for pair in pairs.iter().filter(|pair| !pair.same) {
            if texts.veto(Preset::Balanced, &pair.a, &pair.b).is_none() {
                println!("{part}\t{}\t{}\t{}", texts.similarity(&pair.a, &pair.b), pair.a, pair.b);
            }
        }
    }
    let traffic = Traffic::new(texts, &qqp.held_out);
    let hits = traffic.hits(texts, Rule::Verifier(Preset::Balanced));
    for (query, hit, _) in hits.into_iter().filter(|(.., label)| label.is_none()) {
        println!("unlabelled\t{}\t{query}\t{hit}", texts.similarity(query, hit));
    }
    Ok(())
}
