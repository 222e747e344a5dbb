//! How soon a task begins: an urgent one behind ten thousand others, and others beside urgent ones that never end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ish::tasks::Priority;

use crate::ground::Ground;
use crate::ours::Ours;

/// What waits, at least.
const BEHIND: u32 = 10_000;

/// How long each of these takes.
const FILLER_MS: u64 = 5;

/// Urgent ones, and the time between two.
const URGENT: u32 = 1_000;
const EVERY: Duration = Duration::from_millis(20);

/// While so many low ones wait, high ones come.
pub async fn behind_many() -> anyhow::Result<()> {
    let ground = Ground::new().await?;
    let ours = Ours::on_postgres(&ground).await?;
    ours.fill(BEHIND, FILLER_MS, Priority::Low).await?;
    let (mut filled, mut urgent) = (BEHIND, tokio::time::interval(EVERY));
    for _ in 0..URGENT {
        urgent.tick().await;
        ours.queue.enqueue(ours.watch.task(Priority::High)).await?;
        let waiting = filled - ours.filled.load(Ordering::Relaxed);
        if waiting < BEHIND {
            filled += BEHIND - waiting;
            ours.fill(BEHIND - waiting, FILLER_MS, Priority::Low).await?;
        }
    }
    while (ours.watch.waited().len() as u32) < URGENT {
        tokio::time::sleep(EVERY).await;
    }
    println!("high, behind {BEHIND} low ones: begun after {}", percentiles(ours.watch.waited()));
    ours.close().await;
    Ok(())
}

/// A level of priority is worth a second here; more high ones come than can be run, and low ones are among them.
pub async fn beside_a_steady_load() -> anyhow::Result<()> {
    const LOW: u32 = 100;
    let ground = Ground::new().await?;
    let ours = Ours::on_postgres_aging(&ground, "1").await?;
    let mut filled = 2_000;
    ours.fill(filled, FILLER_MS, Priority::High).await?;
    for _ in 0..LOW {
        ours.queue.enqueue(ours.watch.task(Priority::Low)).await?;
    }
    while (ours.watch.waited().len() as u32) < LOW {
        let waiting = filled - ours.filled.load(Ordering::Relaxed);
        let more = 2_000_u32.saturating_sub(waiting);
        ours.fill(more, FILLER_MS, Priority::High).await?;
        filled += more;
        tokio::time::sleep(EVERY).await;
    }
    println!(
        "low, beside 2,000 high ones that are always more, two seconds of aging between: begun after {}",
        percentiles(ours.watch.waited())
    );
    ours.close().await;
    Ok(())
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    format!("p50 {:.1}, p99 {:.1}, at most {:.1} ms", at(50), at(99), at(100))
}
