//! The report of a test that has played its full count: a dated file, where `ISH_REPORT_DIR` names a folder for it, as
//! `make soak` does.

use std::process::Command;

use ish::clock::{Clock, rfc3339};
use serde_json::{Value, json};

/// Writes `NAME-DATE.json`: when, of which commit, and what the test has counted.
#[expect(clippy::disallowed_methods, reason = "where to, which only the one who starts the tests knows")]
pub fn write(name: &str, what: &str, counted: &Value) {
    let Ok(folder) = std::env::var("ISH_REPORT_DIR") else { return };
    let date = rfc3339(Clock::system().now_ms());
    let commit = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().unwrap().stdout;
    let mut report = json!({"what": what, "date": date, "commit": String::from_utf8(commit).unwrap().trim()});
    let members = counted.as_object().unwrap().clone();
    report.as_object_mut().unwrap().extend(members);
    let text = serde_json::to_string_pretty(&report).unwrap();
    std::fs::write(format!("{folder}/{name}-{}.json", &date[..10]), text + "\n").unwrap();
}
