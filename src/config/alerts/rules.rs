//! `[alerts.rules.NAME]` of the file: a rule of the operator's own, or what is to be different about one that is built in.

use std::time::Duration;

use toml::{Table, Value};

use super::{AlertConfig, Comparison, Severity};
use crate::config::reader::{Reader, duration, likeliest, plain};

const MEMBERS: [&str; 10] = [
    "enabled",
    "metric",
    "threshold",
    "comparison",
    "severity",
    "for",
    "keep_for",
    "window",
    "least_events",
    "runbook",
];

/// The longest that levels are remembered: a week.
const MAX_WINDOW: Duration = Duration::from_hours(168);

impl Reader<'_> {
    /// `None` only when a fault was recorded.
    pub(super) fn alert_rules(&mut self, mut rules: Vec<AlertConfig>) -> Option<Vec<AlertConfig>> {
        let section = self.section("alerts");
        let Some(tables) = section.get("rules") else { return Some(rules) };
        let Some(tables) = tables.as_table() else {
            self.refuse("alerts.rules", &plain(tables), "takes tables, as in [alerts.rules.SlowAnswers]");
            return None;
        };
        let mut is_whole = true;
        for (name, value) in tables {
            let place = rules.iter().position(|rule| rule.name == *name);
            match self.alert_rule(name, value, place.map(|place| &rules[place])) {
                None => is_whole = false,
                Some(Wished::Off) => rules.retain(|rule| rule.name != *name),
                Some(Wished::Rule(rule)) => match place {
                    Some(place) => rules[place] = *rule,
                    None => rules.push(*rule),
                },
            }
        }
        is_whole.then_some(rules)
    }

    fn alert_rule(&mut self, name: &str, value: &Value, built_in: Option<&AlertConfig>) -> Option<Wished> {
        let key = format!("alerts.rules.{name}");
        if !is_name(name) {
            self.refuse(&key, name, "is no name: it takes 1 to 64 letters, digits, '_' and '-'");
            return None;
        }
        let Some(table) = value.as_table() else {
            self.refuse(&key, &plain(value), "takes a table of metric, threshold and more");
            return None;
        };
        for (member, value) in table.iter().filter(|(member, _)| !MEMBERS.contains(&member.as_str())) {
            let accepted = format!("is unknown{}: an alert takes {}", likeliest(member, &MEMBERS), MEMBERS.join(", "));
            self.refuse(&format!("{key}.{member}"), &plain(value), &accepted);
        }
        let of = Members { key, table };
        let is_enabled = of.read(self, "enabled", true, "takes true or false", Value::as_bool)?;
        if !is_enabled {
            return Some(Wished::Off);
        }
        of.rule(self, name, built_in).map(Box::new).map(Wished::Rule)
    }
}

/// What becomes of a rule.
enum Wished {
    Off,
    Rule(Box<AlertConfig>),
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// A rule's table.
struct Members<'t> {
    key: String,
    table: &'t Table,
}

impl Members<'_> {
    fn rule(&self, reader: &mut Reader, name: &str, built_in: Option<&AlertConfig>) -> Option<AlertConfig> {
        let is_new = built_in.is_none();
        let base = built_in.cloned().unwrap_or_else(|| AlertConfig::new(name, "", f64::NAN));
        for needed in ["metric", "threshold"].into_iter().filter(|needed| is_new && !self.table.contains_key(*needed)) {
            reader.refuse(&format!("{}.{needed}", self.key), "", "is needed: no alert of this name is built in");
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let metric = self.read(reader, "metric", base.metric, "takes a figure or an expression (docs/alerts.md)", text);
        let threshold = self.read(reader, "threshold", base.threshold, "takes a number", finite);
        let comparison = self.word(reader, "comparison", base.comparison, &Comparison::ALL, Comparison::as_str);
        let severity = self.word(reader, "severity", base.severity, &Severity::ALL, Severity::as_str);
        let hold = self.read(reader, "for", base.hold, "takes a number of seconds, 0 or more", wait);
        let keep = self.read(reader, "keep_for", base.keep, "takes a number of seconds, 0 or more", wait);
        let span = |value: &Value| duration(&plain(value)).filter(|span| *span <= MAX_WINDOW);
        let window = self.read(reader, "window", base.window, "takes a number of seconds above 0, up to a week", span);
        let whole = |value: &Value| value.as_integer().and_then(|whole| u32::try_from(whole).ok());
        let least_events = self.read(reader, "least_events", base.least_events, "takes a whole number", whole);
        let runbook = self.read(reader, "runbook", base.runbook, "takes an address", |value| text(value).map(Some));
        let (metric, threshold) = (metric?, threshold?);
        if metric.is_empty() || !threshold.is_finite() {
            return None;
        }
        Some(AlertConfig {
            name: name.to_owned(),
            metric,
            threshold,
            comparison: comparison?,
            severity: severity?,
            hold: hold?,
            keep: keep?,
            window: window?,
            least_events: least_events?,
            runbook: runbook?,
        })
    }

    /// What a member says, where it is there; `None` when it is something else.
    fn read<T>(
        &self,
        reader: &mut Reader,
        name: &str,
        base: T,
        accepted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let Some(value) = self.table.get(name) else { return Some(base) };
        let found = read(value);
        if found.is_none() {
            reader.refuse(&format!("{}.{name}", self.key), &plain(value), accepted);
        }
        found
    }

    fn word<T: Copy>(
        &self,
        reader: &mut Reader,
        name: &str,
        base: T,
        all: &[T],
        word: fn(T) -> &'static str,
    ) -> Option<T> {
        let accepted = format!("takes one of {}", all.iter().map(|one| word(*one)).collect::<Vec<_>>().join(", "));
        let known = |value: &Value| all.iter().find(|one| value.as_str() == Some(word(**one))).copied();
        self.read(reader, name, base, &accepted, known)
    }
}

fn finite(value: &Value) -> Option<f64> {
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    number.filter(|number| number.is_finite())
}

/// A number of seconds that may be none.
fn wait(value: &Value) -> Option<Duration> {
    let seconds = finite(value)?;
    if seconds == 0.0 { Some(Duration::ZERO) } else { duration(&seconds.to_string()) }
}
