//! What a scenario leaves: targets and what was measured for each, beside the floor of the same run; as a table, as JSON, as a
//! picture, and as an exit status for whoever runs it unwatched.

pub(crate) mod goal;
pub(crate) mod picture;
pub(crate) mod progress;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::goal::Goal;
use self::picture::Chart;
use crate::kept;

/// Where a scenario leaves what it found.
#[derive(Args, Clone, Default)]
pub(crate) struct Keeping {
    /// Folder that the report and its picture go to, named after the scenario and the day.
    #[arg(long, overrides_with = "reports")]
    pub(crate) reports: Option<PathBuf>,
    /// What they are named after in the scenario's place.
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// One scenario's run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// When it began, RFC 3339.
    pub timestamp: String,
    pub scenario: String,
    /// Where it ran, and how busy that was.
    pub machine: String,
    /// What was asked for.
    pub setup: Value,
    pub targets: Vec<Goal>,
    /// What each test of the scenario measured.
    pub results: BTreeMap<String, Value>,
    pub overall: Overall,
    /// What to do about what was missed.
    pub recommendations: Vec<String>,
}

/// Whether every target was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Overall {
    Pass,
    Fail,
}

impl Overall {
    pub(crate) fn of(goals: &[Goal]) -> Self {
        if goals.iter().all(|goal| goal.met) { Self::Pass } else { Self::Fail }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
        }
    }
}

impl Trial {
    /// One that begins now.
    pub(crate) fn begin(scenario: &str, setup: Value) -> Self {
        Self {
            timestamp: jiff::Timestamp::now().to_string(),
            scenario: scenario.to_owned(),
            machine: kept::machine(),
            setup,
            targets: Vec::new(),
            results: BTreeMap::new(),
            overall: Overall::Pass,
            recommendations: Vec::new(),
        }
    }

    /// Keeps what a test measured, as it is.
    pub(crate) fn result(&mut self, test: &str, measured: &impl Serialize) -> anyhow::Result<()> {
        self.results.insert(test.to_owned(), serde_json::to_value(measured)?);
        Ok(())
    }

    /// Judges, prints the table, keeps report and picture where that was asked for; the status to exit with.
    pub(crate) fn end(mut self, keeping: &Keeping, charts: &[Chart]) -> anyhow::Result<ExitCode> {
        self.name(keeping);
        if let Some(folder) = &keeping.reports {
            let path = kept::path(folder, &self.scenario, &self.timestamp).with_extension("svg");
            std::fs::write(&path, picture::svg(&self.scenario, charts))
                .with_context(|| format!("{} cannot be written", path.display()))?;
            eprintln!("wrote {}", path.display());
        }
        self.end_unpictured(keeping)
    }

    /// The same without a picture.
    pub(crate) fn end_unpictured(mut self, keeping: &Keeping) -> anyhow::Result<ExitCode> {
        self.name(keeping);
        self.judge();
        println!("{}", self.table());
        if let Some(folder) = &keeping.reports {
            eprintln!("wrote {}", self.keep(folder)?.display());
        }
        Ok(if self.overall == Overall::Pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Writes the report into `folder`.
    pub(crate) fn keep(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        kept::keep(folder, &self.scenario, &self.timestamp, self)
    }

    fn name(&mut self, keeping: &Keeping) {
        if let Some(name) = &keeping.name {
            self.scenario.clone_from(name);
        }
    }

    fn judge(&mut self) {
        self.overall = Overall::of(&self.targets);
        for goal in self.targets.iter().filter(|goal| !goal.met) {
            let advice = format!("{}: {}", goal.name, goal.advice);
            if !goal.advice.is_empty() && !self.recommendations.contains(&advice) {
                self.recommendations.push(advice);
            }
        }
    }

    fn table(&self) -> String {
        let mut text = format!("{}, {}\n\n{}", self.scenario, self.machine, goal::table(&self.targets));
        for recommendation in &self.recommendations {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n- {recommendation}");
        }
        let _ = write!(text, "\noverall: {}", self.overall.word());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::goal::Bound;
    use super::*;

    fn trial(p95_ms: f64) -> Trial {
        let mut trial = Trial::begin("load", Value::Null);
        trial
            .targets
            .push(Goal::new("server", "p95 of a reply", "ms", Bound::AtMost(500.0), p95_ms).advice("add cores"));
        trial
    }

    #[test]
    fn one_target_missed_is_a_failure_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let keeping = Keeping { reports: Some(folder.path().to_owned()), name: Some("load-pass".to_owned()) };
        let (met, missed) = (trial(499.0), trial(501.0));
        let name = format!("load-pass-{}", &met.timestamp[..10]);
        assert_eq!(format!("{:?}", met.end(&keeping, &[]).unwrap()), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{:?}", missed.end(&keeping, &[]).unwrap()), format!("{:?}", ExitCode::FAILURE));
        let kept = std::fs::read_to_string(folder.path().join(format!("{name}.json"))).unwrap();
        let kept: Trial = serde_json::from_str(&kept).unwrap();
        assert_eq!((kept.overall, kept.recommendations), (Overall::Fail, vec!["p95 of a reply: add cores".to_owned()]));
        assert!(folder.path().join(format!("{name}.svg")).exists());
    }
}
