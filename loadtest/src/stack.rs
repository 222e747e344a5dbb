//! Several instances and what stands around them, which somebody else has started: their addresses, processes and key.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use loadtest::generator::cpu::{self, Ticks};
use serde::Serialize;

/// What is known of them.
#[derive(Args)]
pub(crate) struct Stack {
    /// An instance and its own address, such as `one=http://127.0.0.1:8080`; may be given several times.
    #[arg(long = "instance", required = true, value_parser = named::<String>)]
    pub(crate) instances: Vec<(String, String)>,
    /// A process whose CPU time is told, with those that it started, such as `postgres=1234`; may be given several times.
    #[arg(long = "process", value_parser = named::<u32>)]
    pub(crate) processes: Vec<(String, u32)>,
    /// File that holds an admin key of theirs; local mode needs none.
    #[arg(long)]
    key_file: Option<PathBuf>,
}

fn named<T: std::str::FromStr>(text: &str) -> Result<(String, T), String> {
    let (name, value) = text.split_once('=').ok_or("it is NAME=VALUE")?;
    Ok((name.to_owned(), value.parse().map_err(|_| format!("{value} cannot be read"))?))
}

impl Stack {
    /// The key, where there is one.
    pub(crate) fn key(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.key_file else { return Ok(None) };
        let key = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(key.trim().to_owned()))
    }

    /// The process of this name.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        self.processes.iter().find(|(of, _)| of == name).map(|(_, pid)| *pid)
    }
}

/// CPU time so far, of the processes and of the machine.
pub(crate) struct CpuTimes {
    at: Instant,
    ticks: Ticks,
    by_process: BTreeMap<String, Duration>,
}

/// CPU time of a while, 1.0 being one core.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CpuUse {
    pub(crate) cores_by_process: BTreeMap<String, f64>,
    /// The share of all cores that was not idle, whoever used it.
    pub(crate) machine_busy: f64,
    /// The share that other machines took from this one.
    pub(crate) machine_stolen: f64,
}

impl CpuTimes {
    /// Of the stack's processes and of this one, which counts as `load`.
    pub(crate) fn now(stack: &Stack) -> Self {
        let load = ("load".to_owned(), std::process::id());
        let named = stack.processes.iter().chain([&load]);
        let by_process = named.filter_map(|(name, pid)| Some((name.clone(), cpu::time_of_family(*pid)?))).collect();
        Self { at: Instant::now(), ticks: Ticks::now(), by_process }
    }

    pub(crate) fn since(&self, before: &Self) -> CpuUse {
        let seconds = self.at.saturating_duration_since(before.at).as_secs_f64();
        let cores = |(name, time): (&String, &Duration)| {
            let used = time.saturating_sub(*before.by_process.get(name)?);
            Some((name.clone(), used.as_secs_f64() / seconds))
        };
        let (machine_busy, machine_stolen) = self.ticks.shares_since(before.ticks);
        CpuUse { cores_by_process: self.by_process.iter().filter_map(cores).collect(), machine_busy, machine_stolen }
    }
}

impl CpuUse {
    pub(crate) fn text(&self) -> String {
        let one = |(name, cores): (&String, &f64)| format!("{name} {cores:.2}");
        let each: Vec<String> = self.cores_by_process.iter().map(one).collect();
        let (busy, stolen) = (self.machine_busy * 100.0, self.machine_stolen * 100.0);
        format!("cores used: {}; machine busy {busy:.0} %, of that taken by others {stolen:.0} %", each.join(", "))
    }
}
