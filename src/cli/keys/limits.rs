//! `ish keys set-limits`: changes what a key may use, from its next request on.

use std::num::NonZeroU32;
use std::str::FromStr;

use anyhow::ensure;
use axum::http::Method;
use clap::Args;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::cli::console::Console;
use crate::keys::{BudgetPeriod, Money};

/// What is not named stays as it is; `none` takes a limit away, so that the configured one holds.
#[derive(Debug, Args)]
pub(in crate::cli) struct Limits {
    /// The identifier that `keys list` shows.
    id: Uuid,
    /// Requests that it may make in a minute.
    #[arg(long, value_parser = number, value_name = "NUMBER|none")]
    requests_per_minute: Option<Value>,
    /// Of these, how many at once.
    #[arg(long, value_parser = number, value_name = "NUMBER|none")]
    request_burst: Option<Value>,
    /// Tokens, of input and output, that it may use in a minute.
    #[arg(long, value_parser = number, value_name = "NUMBER|none")]
    tokens_per_minute: Option<Value>,
    /// Of these, how many at once.
    #[arg(long, value_parser = number, value_name = "NUMBER|none")]
    token_burst: Option<Value>,
    /// US dollars that it may spend; models without a price are refused to it.
    #[arg(long, value_parser = dollars, value_name = "DOLLARS|none")]
    budget_usd: Option<Value>,
    /// When the budget begins anew: day, month or total.
    #[arg(long, value_parser = period, value_name = "PERIOD|none")]
    budget_period: Option<Value>,
    /// Tokens of output that are reserved for a request that names no limit.
    #[arg(long, value_parser = number, value_name = "NUMBER|none")]
    max_tokens_default: Option<Value>,
    /// Print the key as JSON.
    #[arg(long)]
    json: bool,
}

impl Limits {
    pub(super) async fn run(self, console: &Console) -> anyhow::Result<()> {
        let (path, is_json) = (format!("/api/admin/keys/{}", self.id), self.json);
        let changes = self.changes();
        ensure!(!changes.is_empty(), "nothing is to be changed: name a limit, such as --requests-per-minute 60");
        let changed = console.call(Method::PATCH, &path, Some(changes.into())).await?;
        if is_json {
            println!("{changed}");
        } else {
            println!("changed {}", changed["id"].as_str().unwrap_or_default());
        }
        Ok(())
    }

    fn changes(self) -> Map<String, Value> {
        let named = [
            ("requests_per_minute", self.requests_per_minute),
            ("request_burst", self.request_burst),
            ("tokens_per_minute", self.tokens_per_minute),
            ("token_burst", self.token_burst),
            ("budget_usd", self.budget_usd),
            ("budget_period", self.budget_period),
            ("max_tokens_default", self.max_tokens_default),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

fn number(text: &str) -> Result<Value, String> {
    or_none(text, |text| NonZeroU32::from_str(text).map(|number| json!(number)).ok(), "a whole number above 0")
}

fn dollars(text: &str) -> Result<Value, String> {
    let budget = |text: &str| {
        let usd = text.parse().ok()?;
        Money::from_usd(usd).filter(|money| *money > Money::ZERO).map(|_| json!(usd))
    };
    or_none(text, budget, "US dollars above 0, to a billion")
}

fn period(text: &str) -> Result<Value, String> {
    let period = |text: &str| <BudgetPeriod as clap::ValueEnum>::from_str(text, false).map(|period| json!(period)).ok();
    or_none(text, period, "day, month or total")
}

fn or_none(text: &str, read: impl Fn(&str) -> Option<Value>, wanted: &str) -> Result<Value, String> {
    if text == "none" {
        return Ok(Value::Null);
    }
    read(text).ok_or_else(|| format!("{wanted} is wanted, or none"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        limits: Limits,
    }

    fn changes(line: &str) -> Result<Value, clap::Error> {
        let words = ["set-limits", "00000000-0000-0000-0000-000000000001"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.limits.changes().into())
    }

    #[test]
    fn what_is_named_changes_and_none_takes_away() {
        let read =
            changes("--requests-per-minute 60 --budget-usd 2.5 --budget-period month --token-burst none").unwrap();
        let expected =
            json!({"requests_per_minute": 60, "budget_usd": 2.5, "budget_period": "month", "token_burst": null});
        assert_eq!((read, changes("").unwrap()), (expected, json!({})));
    }

    #[test]
    fn what_no_limit_can_be_is_refused() {
        for line in ["--requests-per-minute 0", "--request-burst -1", "--budget-usd 0", "--budget-usd NaN"] {
            assert!(changes(line).is_err(), "{line}");
        }
        let error = changes("--budget-period week").unwrap_err().to_string();
        assert!(error.contains("day, month or total is wanted, or none"), "{error}");
    }
}
