//! What a server holds while it is asked: resident memory, open files, tasks of its runtime.

use std::time::{Duration, Instant};

use loadtest::generator::cpu;
use serde::Serialize;

use crate::probe::Probe;
use crate::trial::picture::{Axis, Chart};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// One look.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Look {
    /// Seconds since the first look.
    pub at_s: f64,
    pub resident_bytes: f64,
    pub open_files: f64,
    /// As `/metrics` tells them; `None` where it does not.
    pub tasks: Option<f64>,
}

/// Whom to look at.
pub(crate) struct Watched<'p> {
    pub pid: u32,
    /// The server's own address, for its `/metrics`.
    pub base: String,
    pub probe: &'p Probe,
}

impl Watched<'_> {
    /// One look; `None` where the process is gone.
    pub(crate) async fn look(&self, since: Instant) -> Option<Look> {
        let resident_bytes = cpu::resident_bytes(self.pid)? as f64;
        let open_files = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?.count() as f64;
        let tasks = self.probe.metric(&self.base, "ish_runtime_tasks").await.ok();
        Some(Look { at_s: since.elapsed().as_secs_f64(), resident_bytes, open_files, tasks })
    }

    /// Looks once a second until `work` has ended.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> (T, Vec<Look>) {
        let (since, mut looks) = (Instant::now(), Vec::new());
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return (done, looks),
                _ = ticks.tick() => looks.extend(self.look(since).await),
            }
        }
    }
}

/// By which share memory grew from the first fifth of the looks to the last, middle against middle.
pub(crate) fn drift(looks: &[Look]) -> f64 {
    let fifth = looks.len() / 5;
    let middle = |looks: &[Look]| {
        let mut bytes: Vec<f64> = looks.iter().map(|look| look.resident_bytes).collect();
        bytes.sort_unstable_by(f64::total_cmp);
        bytes.get(bytes.len() / 2).copied().unwrap_or(f64::NAN)
    };
    middle(&looks[looks.len() - fifth..]) / middle(&looks[..fifth]) - 1.0
}

/// Memory while the run lasted.
pub(crate) fn memory(looks: &[Look]) -> Chart {
    let points = looks.iter().map(|look| (look.at_s, look.resident_bytes / 1e6));
    Chart::new("Resident memory of the server", Axis::even("seconds"), Axis::even("MB")).line("resident", points)
}

/// Open files and tasks while the run lasted.
pub(crate) fn held(looks: &[Look]) -> Chart {
    let files = looks.iter().map(|look| (look.at_s, look.open_files));
    let tasks = looks.iter().filter_map(|look| Some((look.at_s, look.tasks?)));
    Chart::new("What the server holds", Axis::even("seconds"), Axis::even("how many"))
        .line("open files", files)
        .line("tasks", tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(bytes: impl IntoIterator<Item = f64>) -> Vec<Look> {
        let look =
            |(second, resident_bytes)| Look { at_s: second as f64, resident_bytes, open_files: 1.0, tasks: None };
        bytes.into_iter().enumerate().map(look).collect()
    }

    #[test]
    fn drift_is_the_last_fifth_against_the_first() {
        assert!(drift(&looks((0..100).map(|_| 50.0))).abs() < 1e-9);
        let grown = looks((0..100).map(|second| if second < 20 { 100.0 } else { 110.0 }));
        assert!((drift(&grown) - 0.1).abs() < 1e-9);
        // One look that stands out is no drift.
        let odd = looks((0..100).map(|second| if second == 95 { 900.0 } else { 100.0 }));
        assert!(drift(&odd).abs() < 1e-9);
        assert!(drift(&[]).is_nan());
    }

    #[tokio::test]
    async fn a_process_is_looked_at_while_work_goes_on() {
        let probe = Probe::new().unwrap();
        // Nobody listens there.
        let watched = Watched { pid: std::process::id(), base: "http://127.0.0.1:1".to_owned(), probe: &probe };
        let (done, looks) = watched
            .during(async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                7
            })
            .await;
        assert_eq!((done, looks.len()), (7, 1));
        assert!(looks[0].resident_bytes > 1e6 && looks[0].open_files >= 3.0 && looks[0].tasks.is_none());
    }
}
