//! Reads the labelled data.
//!
//! Owns the formats and the split of QQP by groups of duplicates, so that no question stands in both parts.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;

/// Two texts, whether they mean the same, and where they belong.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Category of our own pairs, else empty.
    pub category: String,
    /// Labelled as meaning the same.
    pub same: bool,
    /// One text.
    pub a: String,
    /// The other.
    pub b: String,
}

/// QQP in two parts that share no question.
pub struct Qqp {
    /// Rules and thresholds were set on these.
    pub tuning: Vec<Pair>,
    /// Figures are reported on these.
    pub held_out: Vec<Pair>,
}

/// One turn of a conversation.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The conversation's name and the turn's, with `_` between them.
    pub name: String,
    /// The turns before it, each with its answer.
    pub history: Vec<(String, String)>,
    /// What is said.
    pub text: String,
}

/// Conversations that took place twice, the second time in other words.
pub struct Recorded {
    /// The first time.
    pub first: Vec<Turn>,
    /// The second time.
    pub again: Vec<Turn>,
}

fn read(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("{} is missing", path.display()))?;
    let mut text = String::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        GzDecoder::new(file).read_to_string(&mut text)?;
    } else {
        return Ok(fs::read_to_string(path)?);
    }
    Ok(text)
}

fn pair(a: &str, b: &str, same: bool) -> Pair {
    Pair { category: String::new(), same, a: a.to_owned(), b: b.to_owned() }
}

/// `category, label, text_a, text_b`.
pub fn own_pairs(path: &Path) -> Result<Vec<Pair>> {
    let text = read(path)?;
    let rows = text.lines().skip(1).map(|line| {
        let mut fields = line.split('\t');
        let mut next = || fields.next().context("four columns").map(str::to_owned);
        Ok(Pair { category: next()?, same: next()? == "match", a: next()?, b: next()? })
    });
    rows.collect()
}

/// Pairs of questions, split by connected groups of duplicates.
pub fn qqp(data: &Path) -> Result<Qqp> {
    let text = read(&data.join("qqp_pairs.tsv.gz"))?;
    let mut pairs = Vec::new();
    for line in text.lines().skip(1) {
        let mut fields = line.split('\t');
        if let (Some(a), Some(b), Some(label)) = (fields.next(), fields.next(), fields.next()) {
            pairs.push(pair(a, b, label == "1"));
        }
    }
    let mut groups = Groups::default();
    for pair in &pairs {
        groups.join(&pair.a, &pair.b);
    }
    // A group's first question decides by its hash; pairs join groups, so both ends are in the same part.
    let (held_out, tuning) = pairs.into_iter().partition(|pair| {
        let root = groups.root_of(&pair.a);
        blake3::hash(root.as_bytes()).as_bytes()[0].is_multiple_of(2)
    });
    Ok(Qqp { tuning, held_out })
}

/// Union-find over texts.
#[derive(Default)]
struct Groups {
    numbers: HashMap<String, usize>,
    texts: Vec<String>,
    parents: Vec<usize>,
}

impl Groups {
    fn number(&mut self, text: &str) -> usize {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.texts.len();
        self.numbers.insert(text.to_owned(), number);
        self.texts.push(text.to_owned());
        self.parents.push(number);
        number
    }

    fn root(&self, mut number: usize) -> usize {
        while self.parents[number] != number {
            number = self.parents[number];
        }
        number
    }

    fn join(&mut self, a: &str, b: &str) {
        let (a, b) = (self.number(a), self.number(b));
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b)] = a.min(b);
    }

    fn root_of(&self, text: &str) -> &str {
        &self.texts[self.root(self.numbers[text])]
    }
}

/// Adversarial pairs with the same words; the file wraps its texts in Python's byte notation.
pub fn paws(data: &Path) -> Result<Vec<Pair>> {
    let text = read(&data.join("paws_qqp.tsv"))?;
    let plain = |field: &str| {
        let field = field.trim_start_matches('b');
        let field = field.trim_matches(['"', '\'']).replace("\\'", "'");
        let field = field.replace(" 's", "'s").replace(" n't", "n't").replace(" 'm", "'m").replace(" 're", "'re");
        let field = field.replace(" 've", "'ve").replace(" 'll", "'ll").replace(" 'd", "'d");
        field.replace(" ?", "?").replace(" ,", ",").replace(" .", ".").replace("( ", "(").replace(" )", ")")
    };
    let rows = text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [_, a, b, label] = fields[..] else { return None };
        Some(pair(&plain(a), &plain(b), label.trim() == "1"))
    });
    Ok(rows.collect())
}

/// Pairs that must not match.
pub fn finance(data: &Path) -> Result<Vec<Pair>> {
    let value: serde_json::Value = serde_json::from_str(&read(&data.join("finance_adversarial_pairs.json"))?)?;
    let mut pairs = Vec::new();
    for category in value.as_array().context("a list")? {
        for entry in category["pairs"].as_array().context("pairs")? {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let category = category["category"].as_str().unwrap_or_default().to_owned();
            pairs.push(Pair { category, same: false, a: text("a"), b: text("b") });
        }
    }
    Ok(pairs)
}

/// Customer questions with their intent: `(text, intent)`.
pub fn banking(data: &Path) -> Result<Vec<(String, String)>> {
    let text = read(&data.join("banking77_test.csv.gz"))?;
    let mut rows = Vec::new();
    let mut record = String::new();
    for line in text.lines().skip(1) {
        record.push_str(line);
        // A quoted text may run over several lines.
        if !record.matches('"').count().is_multiple_of(2) {
            record.push(' ');
            continue;
        }
        if let Some((question, intent)) = record.rsplit_once(',') {
            rows.push((question.trim_matches('"').replace("\"\"", "\""), intent.to_owned()));
        }
        record.clear();
    }
    Ok(rows)
}

/// Requests to an assistant with their intent; those out of scope are each an intent of their own, so that any hit on or
/// by one is wrong.
pub fn clinc(data: &Path) -> Result<Vec<(String, String)>> {
    let value: serde_json::Value = serde_json::from_str(&read(&data.join("clinc150.json.gz"))?)?;
    let mut rows = Vec::new();
    for part in ["test", "oos_test"] {
        for row in value[part].as_array().with_context(|| format!("a list {part}"))? {
            let (text, intent) = (row[0].as_str().context("a text")?, row[1].as_str().context("an intent")?);
            let intent = if intent == "oos" { format!("oos {}", rows.len()) } else { intent.to_owned() };
            rows.push((text.to_owned(), intent));
        }
    }
    Ok(rows)
}

/// The raw turns of TREC CAsT 2019; the answers in a history are the turns' names.
pub fn cast(data: &Path) -> Result<Vec<Turn>> {
    let topics: serde_json::Value = serde_json::from_str(&read(&data.join("cast/cast_evaluation_topics_v1.0.json"))?)?;
    let mut turns = Vec::new();
    for topic in topics.as_array().context("a list of topics")? {
        let mut history = Vec::new();
        for turn in topic["turn"].as_array().context("turns")? {
            let name = format!("{}_{}", topic["number"], turn["number"]);
            let text = turn["raw_utterance"].as_str().context("an utterance")?.to_owned();
            turns.push(Turn { name: name.clone(), history: history.clone(), text: text.clone() });
            history.push((text, name));
        }
    }
    Ok(turns)
}

/// MeanCache's conversations of two turns. Many begin with the same question, by which their first turns are named.
pub fn recorded(data: &Path) -> Result<Recorded> {
    let rows: serde_json::Value =
        serde_json::from_str(&read(&data.join("meancache_context/duplicates_with_context.json"))?)?;
    let rows = rows.as_array().context("a list")?;
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let mut groups = Groups::default();
    for row in rows {
        groups.join(&text(row, "u0"), &text(row, "u0_duplicate"));
    }
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for (number, row) in rows.iter().enumerate() {
        let group = groups.root(groups.numbers[&text(row, "u0")]);
        for (turns, suffix) in [(&mut first, ""), (&mut again, "_duplicate")] {
            let opening = text(row, &format!("u0{suffix}"));
            let follow_up = text(row, &format!("u1{suffix}"));
            let history = vec![(opening.clone(), text(row, "system_q0"))];
            turns.push(Turn { name: format!("{group}_{number}{suffix}"), history: Vec::new(), text: opening });
            turns.push(Turn { name: format!("{group}.{number}_1{suffix}"), history, text: follow_up });
        }
    }
    Ok(Recorded { first, again })
}
