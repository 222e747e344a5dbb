//! The peer of `benches/tasks`: graphile_worker on a Postgres, directly connected, with a job that does nothing. Says `ready` when its
//! workers run; hears how many tasks, and whether `one` or `many` at a time; says `enqueued` when all are.
//!
//! Usage: graphile-peer DATABASE_URL AT_ONCE

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler, WorkerContext, WorkerOptions, WorkerUtils,
};
use serde::{Deserialize, Serialize};

/// How many are enqueued at once, where many are.
const MANY: u32 = 500;

/// Between two looks, and for how long ends are collected.
const SOON: Duration = Duration::from_millis(5);

/// How many are fetched at once.
const LOCAL: usize = 100;

#[derive(Clone, Serialize, Deserialize)]
struct Nothing {
    number: u32,
}

impl TaskHandler for Nothing {
    const IDENTIFIER: &'static str = "nothing";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        Ok::<(), String>(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let [_, url, at_once] = std::env::args().collect::<Vec<_>>().try_into().ok().context("DATABASE_URL AT_ONCE")?;
    let at_once: u32 = at_once.parse()?;
    // As its own benchmark has it (`benches/perf_test.rs`): by itself it takes a task for each worker, and looks again after a second.
    let options = WorkerOptions::default()
        .database_url(&url)
        .max_pg_conn(at_once)
        .concurrency(at_once as usize)
        .poll_interval(SOON)
        .complete_job_batch_delay(SOON)
        .local_queue(LocalQueueConfig::default().with_size(LOCAL));
    let worker = options.define_job::<Nothing>().init().await?;
    let utils = worker.create_utils();
    let working = tokio::spawn(async move { worker.run().await });
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let (tasks, way) = line.trim().split_once(' ').context("TASKS one|many")?;
    let tasks: u32 = tasks.parse()?;
    if way == "one" {
        enqueue_each(utils, tasks, at_once).await?
    } else {
        enqueue_many(&utils, tasks).await?
    }
    println!("enqueued");
    Ok(working.await??)
}

async fn enqueue_each(utils: WorkerUtils, tasks: u32, callers: u32) -> anyhow::Result<()> {
    let (next, utils) = (Arc::new(AtomicU32::new(0)), Arc::new(utils));
    let callers = (0..callers).map(|_| {
        let (utils, next) = (Arc::clone(&utils), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= tasks {
                    return anyhow::Ok(());
                }
                utils.add_job(Nothing { number }, JobSpec::default()).await?;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    Ok(())
}

async fn enqueue_many(utils: &WorkerUtils, tasks: u32) -> anyhow::Result<()> {
    let spec = JobSpec::default();
    for first in (0..tasks).step_by(MANY as usize) {
        let batch: Vec<_> = (first..tasks.min(first + MANY)).map(|number| (Nothing { number }, &spec)).collect();
        utils.add_jobs::<Nothing>(&batch).await?;
    }
    Ok(())
}
