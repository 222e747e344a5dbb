//! How fast a peer may send frames of any kind: a bucket of two seconds' worth that fills at the bound.

use std::num::NonZeroU32;

use tokio::time::Instant;

pub(super) struct Pace {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Pace {
    pub(super) fn new(per_second: NonZeroU32, now: Instant) -> Self {
        let per_second = f64::from(per_second.get());
        Self { per_second, left: per_second * 2.0, at: now }
    }

    /// Takes one frame; false where it came too soon.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let grown = now.duration_since(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + grown).min(self.per_second * 2.0) - 1.0;
        self.at = now;
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn two_seconds_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(NonZeroU32::new(10).unwrap(), start);
        assert_eq!((0..30).take_while(|_| pace.take(start)).count(), 20);
        let mut pace = Pace::new(NonZeroU32::new(10).unwrap(), start);
        let steady = (0..1_000).all(|frame| pace.take(start + Duration::from_millis(100) * frame));
        assert!(steady, "the rate itself is never too fast");
    }
}
