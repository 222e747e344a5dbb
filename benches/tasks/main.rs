//! The task queue's figures: how many tasks it takes in and has done in a second, what each costs Postgres, and how soon an urgent one
//! begins behind many others. On Postgres through PgBouncer, on SQLite with `synchronous=FULL`, and, in turn with these, by
//! graphile_worker on the same Postgres, directly connected (`benches/graphile`, which `--peer` names).
//!
//! `scripts/queue.sh` starts servers that keep what they are told, and runs this.

mod ground;
mod ours;
mod peer;
mod pickup;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use ground::{Cost, Ground};
use ours::Ours;
use peer::Peer;

/// Tasks that run at once, callers that enqueue at once, and connections of each side.
const AT_ONCE: u32 = 16;
const AT_ONCE_TEXT: &str = "16";

/// What is measured.
#[derive(Parser)]
struct Options {
    /// Tasks of a window.
    #[arg(long, default_value_t = 10_000)]
    tasks: u32,
    /// How often each kind of window comes.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// The program of `benches/graphile`.
    #[arg(long)]
    peer: Option<PathBuf>,
    /// What `cargo bench` says to every benchmark.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

/// How tasks come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// Each in a call and a transaction of its own, from several callers at once.
    One,
    /// 500 in a call.
    Many,
}

impl Way {
    const ALL: [Self; 2] = [Self::One, Self::Many];

    fn name(self) -> &'static str {
        match self {
            Self::One => "one by one",
            Self::Many => "by 500",
        }
    }
}

/// From the first enqueue until nothing waits or runs.
struct Window {
    what: &'static str,
    way: Way,
    took: Duration,
    cost: Option<Cost>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut windows = Vec::new();
    for round in 0..options.rounds {
        for way in Way::ALL {
            let mut of_round = vec![on_postgres(&options, way).await?];
            if let Some(peer) = &options.peer {
                let ground = Ground::new().await?;
                let (took, cost) = Peer::start(peer, &ground)?.window(&ground, options.tasks, way).await?;
                of_round.push(Window { what: "graphile_worker, direct", way, took, cost: Some(cost) });
            }
            let (took, what) = (ours::on_sqlite(options.tasks, way).await?, "SQLite, FULL");
            of_round.push(Window { what, way, took, cost: None });
            for window in of_round {
                let per_second = f64::from(options.tasks) / window.took.as_secs_f64();
                println!("round {}: {}, {}: {per_second:.0}/s", round + 1, window.what, window.way.name());
                windows.push(window);
            }
        }
    }
    for way in Way::ALL {
        for what in ["Postgres through PgBouncer", "graphile_worker, direct", "SQLite, FULL"] {
            summary(&windows, what, way, options.tasks);
        }
    }
    pickup::behind_many().await?;
    pickup::beside_a_steady_load().await
}

async fn on_postgres(options: &Options, way: Way) -> anyhow::Result<Window> {
    let ground = Ground::new().await?;
    let ours = Ours::on_postgres(&ground).await?;
    let before = ground.wal().await?;
    let took = ours.window(options.tasks, way, || ground.is_done("tasks", ours::OPEN)).await?;
    ours.close().await;
    let cost = ground.cost(before, options.tasks).await?;
    Ok(Window { what: "Postgres through PgBouncer", way, took, cost: Some(cost) })
}

fn summary(windows: &[Window], what: &str, way: Way, tasks: u32) {
    let of_kind: Vec<_> = windows.iter().filter(|window| window.what == what && window.way == way).collect();
    let mut rates: Vec<f64> = of_kind.iter().map(|window| f64::from(tasks) / window.took.as_secs_f64()).collect();
    rates.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (rates.first(), rates.last()) else { return };
    let median = rates[rates.len() / 2];
    println!("{what}, {}: {median:.0}/s ({least:.0} to {most:.0})", way.name());
    if let Some(cost) = of_kind.iter().find_map(|window| window.cost.as_ref()) {
        println!(
            "    a task: {:.0} bytes of WAL, {:.2} dead rows, {:.2} of them in place",
            cost.wal, cost.dead, cost.in_place
        );
    }
}
