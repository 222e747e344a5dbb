//! Holds `docs/metrics.md` to the program, the dashboards and the alerts: every metric has a row, every row a metric, and what a row
//! says of its kind, its labels and of who looks at it is so. What nobody looks at says what it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ish::metrics::{DESCRIBED, Metrics};
use serde_json::Value;

const BOARDS: [&str; 6] = ["overview", "cache", "providers", "chat", "tasks", "runtime"];

/// A row of the page.
struct Row {
    name: String,
    kind: String,
    labels: Vec<String>,
    seen: String,
}

#[test]
fn the_page_says_what_the_program_has() {
    let rows = rows();
    let said: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.kind.as_str())).collect();
    assert_eq!(said.len(), said.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), "a row each");
    let process = process();
    let has: BTreeSet<_> = DESCRIBED
        .iter()
        .map(|metric| (metric.name, metric.kind))
        .chain(process.iter().map(|(name, kind)| (name.as_str(), kind.as_str())))
        .collect();
    assert_eq!(said.into_iter().collect::<BTreeSet<_>>(), has);
    for metric in DESCRIBED {
        let row = rows.iter().find(|row| row.name == metric.name).unwrap();
        assert_eq!(row.labels, metric.labels, "the labels of {}", metric.name);
    }
}

#[test]
fn the_page_says_who_looks_at_what() {
    let looks = looks();
    for row in rows() {
        let of_boards =
            BOARDS.iter().filter(|board| looks[**board].contains(&row.name)).map(|board| (*board).to_owned());
        let alerts = looks.iter().filter(|(who, names)| who.starts_with("Ish") && names.contains(&row.name));
        let mut wanted: BTreeSet<_> = of_boards.collect();
        wanted.extend(alerts.map(|(who, _)| format!("[{who}](runbooks.md#{})", who.to_lowercase())));
        if wanted.is_empty() {
            assert!(row.seen.starts_with("for: "), "nobody looks at {}: say what it is for", row.name);
        } else {
            let said: BTreeSet<_> = row.seen.split(", ").map(str::to_owned).collect();
            assert_eq!(said, wanted, "who looks at {}", row.name);
        }
    }
}

#[test]
fn nobody_looks_at_what_there_is_not() {
    let process = process();
    let known: BTreeSet<_> =
        DESCRIBED.iter().map(|metric| metric.name).chain(process.keys().map(String::as_str)).chain(["up"]).collect();
    for (who, names) in looks() {
        assert!(!names.is_empty(), "{who} looks at nothing");
        let unknown: Vec<_> = names.iter().filter(|name| !known.contains(name.as_str())).collect();
        assert!(unknown.is_empty(), "{who} looks at {unknown:?}");
    }
}

/// What each dashboard and each alert reads, recorded ratios taken apart.
fn looks() -> BTreeMap<String, BTreeSet<String>> {
    let mut looks: BTreeMap<_, _> = BOARDS.iter().map(|board| ((*board).to_owned(), of_board(board))).collect();
    let rules = rules();
    for (name, expr) in rules.iter().filter(|(name, _)| name.starts_with("Ish")) {
        let mut names = metrics_in(expr);
        for (recorded, of) in rules.iter().filter(|(recorded, _)| expr.contains(recorded.as_str())) {
            assert_ne!(recorded, name);
            names.extend(metrics_in(of));
        }
        looks.insert(name.clone(), names);
    }
    looks
}

fn of_board(board: &str) -> BTreeSet<String> {
    let json: Value = serde_json::from_str(&read(&format!("grafana/dashboards/{board}.json"))).unwrap();
    let panels = json["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.flat_map(|target| metrics_in(target["expr"].as_str().unwrap())).collect()
}

/// Each rule by the name of what it records or alerts of, with its expression.
fn rules() -> Vec<(String, String)> {
    let text = read("prometheus/prometheus.rules.yml");
    let mut rules: Vec<(String, String)> = Vec::new();
    let mut in_expr = false;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let begun = line.trim_start().strip_prefix("- alert: ").or(line.trim_start().strip_prefix("- record: "));
        let key = line.trim_start().split_once(':').map(|(key, _)| key);
        if let Some(name) = begun {
            rules.push((name.to_owned(), String::new()));
        } else if key == Some("expr") {
            in_expr = true;
        } else if key.is_some_and(|key| matches!(key, "for" | "labels" | "annotations")) {
            in_expr = false;
        }
        if let (true, None, Some((_, expr))) = (in_expr, begun, rules.last_mut()) {
            expr.push_str(line);
        }
    }
    rules
}

/// The metrics that an expression names, without what a histogram's series add.
fn metrics_in(expr: &str) -> BTreeSet<String> {
    let words = expr.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_' || char == ':'));
    // `up` is Prometheus's own: whether it reached who is scraped.
    let is_metric = |word: &&str| {
        *word == "up" || ["ish_", "gen_ai_client_", "process_"].iter().any(|prefix| word.starts_with(prefix))
    };
    words.filter(is_metric).map(plain).collect()
}

fn plain(series: &str) -> String {
    let of = |suffix: &str| series.strip_suffix(suffix).filter(|name| is_histogram(name));
    ["_bucket", "_sum", "_count"].into_iter().find_map(of).unwrap_or(series).to_owned()
}

fn is_histogram(name: &str) -> bool {
    DESCRIBED.iter().any(|metric| metric.name == name && metric.kind == "histogram")
}

/// What the process collector adds, by name and kind.
fn process() -> BTreeMap<String, String> {
    let text = Metrics::new().text();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE process_")?.split_once(' '));
    types.map(|(name, kind)| (format!("process_{name}"), kind.to_owned())).collect()
}

fn rows() -> Vec<Row> {
    let text = read("docs/metrics.md");
    let lines = text
        .lines()
        .filter(|line| ["| `ish_", "| `gen_ai_", "| `process_"].iter().any(|begin| line.starts_with(begin)));
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, _, seen] = cells[..] else { panic!("a row of five: {line}") };
        let labels = labels.split("; ").filter_map(|label| label.strip_prefix('`')?.split_once("`: "));
        Row {
            name: name.trim_matches('`').to_owned(),
            kind: kind.to_owned(),
            labels: labels.map(|(label, _)| label.to_owned()).collect(),
            seen: seen.to_owned(),
        }
    };
    lines.map(row).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}
