//! `loadtest gather`: the reports of several scenarios as one, with one table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;

use crate::kept;
use crate::trial::goal::Goal;
use crate::trial::{Keeping, Trial};

/// Which reports, and where they go.
#[derive(Args)]
pub(crate) struct GatherArgs {
    /// Folder that the scenarios' reports are in.
    from: PathBuf,
    #[command(flatten)]
    keeping: Keeping,
    /// The commit that was measured.
    #[arg(long, default_value = "")]
    commit: String,
}

/// Puts them together and judges the whole.
pub(crate) fn gather(args: &GatherArgs) -> anyhow::Result<ExitCode> {
    let trials = read(&args.from)?;
    ensure!(!trials.is_empty(), "{} holds no reports", args.from.display());
    let setups =
        trials.iter().map(|trial| (trial.scenario.clone(), trial.setup.clone())).collect::<serde_json::Map<_, _>>();
    let mut whole = Trial::begin("bench", json!({"commit": args.commit, "scenarios": setups}));
    for trial in trials {
        whole.targets.extend(trial.targets.into_iter().map(|goal| named(&trial.scenario, goal)));
        whole.recommendations.extend(trial.recommendations);
        let busy = json!({"timestamp": trial.timestamp, "machine": trial.machine, "overall": trial.overall});
        whole.result(&trial.scenario, &busy)?;
    }
    whole.end_unpictured(&args.keeping)
}

/// The test under the name of its scenario.
fn named(scenario: &str, goal: Goal) -> Goal {
    let test = if goal.test == scenario { goal.test } else { format!("{scenario}: {}", goal.test) };
    Goal { test, ..goal }
}

/// In the order in which they were made.
fn read(folder: &Path) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for file in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Some(trial) = kept::read(&path)?
        {
            trials.push(trial);
        }
    }
    trials.sort_by(|one: &Trial, other: &Trial| one.timestamp.cmp(&other.timestamp));
    Ok(trials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Overall;
    use crate::trial::goal::Bound;

    #[test]
    fn reports_become_one_whose_rows_say_where_they_are_from() {
        let folder = tempfile::tempdir().unwrap();
        for (scenario, test, measured) in [("load", "load", 1.0), ("stress", "50 users", 3.0)] {
            let mut trial = Trial::begin(scenario, json!({}));
            trial.targets.push(Goal::new(test, "p50", "ms", Bound::AtMost(2.0), measured));
            trial.keep(folder.path()).unwrap();
        }
        std::fs::write(folder.path().join("other.json"), r#"{"timestamp": "of another kind"}"#).unwrap();
        let to = tempfile::tempdir().unwrap();
        let keeping = Keeping { reports: Some(to.path().to_owned()), name: None };
        let args = GatherArgs { from: folder.path().to_owned(), keeping, commit: "c".to_owned() };
        assert_eq!(format!("{:?}", gather(&args).unwrap()), format!("{:?}", ExitCode::FAILURE));
        let whole = read(to.path()).unwrap().remove(0);
        let tests: Vec<&str> = whole.targets.iter().map(|goal| goal.test.as_str()).collect();
        assert_eq!((tests, whole.overall), (vec!["load", "stress: 50 users"], Overall::Fail));
    }
}
