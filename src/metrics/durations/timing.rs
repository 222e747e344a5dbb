//! One turn of an operation that is done on one thread in one go.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::Operation;

/// Of what is short and frequent, the first so many are looked at, and one in so many then.
const GLANCE: u64 = 16;

/// Counts the time from [`Operation::begin`] until it is dropped, and now and then the processor time of its thread.
#[must_use]
pub struct Timing<'a> {
    operation: &'a Operation,
    begun: Instant,
    /// For how many it stands.
    times: u64,
    /// What the thread had used by then, where this turn was chosen.
    cpu: Option<Duration>,
    /// It stays on its thread.
    _here: PhantomData<*const ()>,
}

impl Operation {
    /// Begins a turn.
    pub fn begin(&self) -> Timing<'_> {
        self.timed(self.turn(), 1)
    }

    /// Begins a turn that is too short to be looked at each time: the clock is read for one in sixteen, which counts for as
    /// many; `None` for the others.
    pub fn glance(&self) -> Option<Timing<'_>> {
        match self.turn() {
            turn if turn < GLANCE => Some(self.timed(turn, 1)),
            turn if turn.is_multiple_of(GLANCE) => Some(self.timed(turn, GLANCE)),
            _ => None,
        }
    }

    fn timed(&self, turn: u64, times: u64) -> Timing<'_> {
        let cpu = Self::is_chosen(turn).then(thread_cpu);
        Timing { operation: self, begun: Instant::now(), times, cpu, _here: PhantomData }
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        self.operation.record_times(self.begun.elapsed(), self.times);
        if let Some(cpu) = self.cpu {
            self.operation.record_cpu(thread_cpu().saturating_sub(cpu));
        }
    }
}

/// Processor time that this thread has used.
pub fn thread_cpu() -> Duration {
    let told = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(told.tv_sec).unwrap_or(0), u32::try_from(told.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Durations;

    #[test]
    fn a_glance_at_one_in_sixteen_counts_for_all() {
        let operation = Durations::new("test_seconds", "Times.", &["component", "operation"]).of("search", "rank");
        let looked = (0..1_600).filter(|_| operation.glance().is_some()).count();
        assert_eq!(looked, 16 + 99);
        assert_eq!(operation.figures().count(), 16 + 99 * 16);
    }

    #[test]
    fn waiting_is_time_but_no_work() {
        let operation = Durations::new("test_seconds", "Times.", &["component", "operation"]).of("search", "rank");
        {
            let _timing = operation.begin();
            std::thread::sleep(Duration::from_millis(20));
        }
        let figures = operation.figures();
        assert_eq!(figures.count(), 1);
        let (took, cpu) = (figures.seconds(), figures.cpu_seconds().unwrap());
        assert!(took >= 0.02 && cpu < took, "{cpu} s of {took} s");
    }
}
