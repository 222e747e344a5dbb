//! How much of each instance's pools was in use, looked at while the users ask.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::probe::Probe;
use crate::stack::Stack;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);

/// One pool of one instance.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct PoolUse {
    pub instance: String,
    pub pool: String,
    pub limit: f64,
    pub looks: u32,
    pub peak_in_use: f64,
    pub mean_in_use: f64,
    pub peak_waiting: f64,
    /// Times that a connection was given while the users asked, and that one was waited for in vain.
    pub acquired: f64,
    pub acquire_timeouts: f64,
}

impl PoolUse {
    /// The most that was in use, of the limit.
    pub(super) fn peak(&self) -> f64 {
        self.peak_in_use / self.limit
    }

    fn look(&mut self, seen: &Seen) {
        self.looks += 1;
        self.limit = seen.limit;
        self.peak_in_use = self.peak_in_use.max(seen.in_use);
        self.mean_in_use += (seen.in_use - self.mean_in_use) / f64::from(self.looks);
        self.peak_waiting = self.peak_waiting.max(seen.waiting);
    }
}

/// What one look shows of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    limit: f64,
    in_use: f64,
    waiting: f64,
    acquired: f64,
    acquire_timeouts: f64,
}

/// Looks until the future is dropped or has ended, and tells each pool's use.
pub(super) async fn watch(
    stack: &Stack,
    probe: &Probe,
    over: impl Future<Output = ()>,
) -> anyhow::Result<Vec<PoolUse>> {
    let mut pools: BTreeMap<(String, String), (PoolUse, Seen)> = BTreeMap::new();
    let mut ticks = tokio::time::interval(EVERY);
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => break,
            _ = ticks.tick() => {}
        }
        for (name, url) in &stack.instances {
            for (pool, seen) in read(&probe.metrics(url).await?) {
                let (of, first) = pools
                    .entry((name.clone(), pool.clone()))
                    .or_insert_with(|| (PoolUse { instance: name.clone(), pool, ..PoolUse::default() }, seen.clone()));
                of.look(&seen);
                of.acquired = seen.acquired - first.acquired;
                of.acquire_timeouts = seen.acquire_timeouts - first.acquire_timeouts;
            }
        }
    }
    Ok(pools.into_values().map(|(of, _)| of).collect())
}

/// The pools that metrics tell of, by name.
fn read(metrics: &str) -> BTreeMap<String, Seen> {
    let mut pools: BTreeMap<String, Seen> = BTreeMap::new();
    for line in metrics.lines() {
        let Some((figure, pool, value)) = pool_figure(line) else { continue };
        let seen = pools.entry(pool.to_owned()).or_default();
        match figure {
            "limit" => seen.limit = value,
            "in_use" => seen.in_use = value,
            "waiting" => seen.waiting = value,
            "acquired_total" => seen.acquired = value,
            "acquire_timeouts_total" => seen.acquire_timeouts = value,
            _ => {}
        }
    }
    pools.retain(|_, seen| seen.limit > 0.0);
    pools
}

/// `ish_pool_FIGURE{pool="NAME"} VALUE`.
fn pool_figure(line: &str) -> Option<(&str, &str, f64)> {
    let (figure, rest) = line.strip_prefix("ish_pool_")?.split_once("{pool=\"")?;
    let (pool, value) = rest.split_once("\"} ")?;
    Some((figure, pool, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_read_by_name() {
        let text = "# HELP ish_pool_limit Connections.\n\
                    ish_pool_limit{pool=\"http\"} 1024\nish_pool_limit{pool=\"postgres\"} 50\n\
                    ish_pool_in_use{pool=\"postgres\"} 7\nish_pool_waiting{pool=\"postgres\"} 2\n\
                    ish_pool_wait_seconds_bucket{pool=\"postgres\",le=\"0.1\"} 3\n\
                    ish_pool_acquired_total{pool=\"postgres\"} 120\nish_pool_acquire_timeouts_total{pool=\"postgres\"} 1\n";
        let pools = read(text);
        let postgres = Seen { limit: 50.0, in_use: 7.0, waiting: 2.0, acquired: 120.0, acquire_timeouts: 1.0 };
        assert_eq!(pools.keys().collect::<Vec<_>>(), ["http", "postgres"]);
        assert_eq!(pools["postgres"], postgres);
        let mut of = PoolUse::default();
        of.look(&postgres);
        of.look(&Seen { in_use: 1.0, ..postgres });
        assert!((of.peak() - 0.14).abs() < 1e-9 && (of.mean_in_use - 4.0).abs() < 1e-9);
    }
}
