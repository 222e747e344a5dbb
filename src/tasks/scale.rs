//! How many tasks a process runs at once: more while tasks wait for long, fewer when nothing waits. Pure.

use std::time::Duration;

/// Between how few and how many, and from when on more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub least: usize,
    pub most: usize,
    /// A task that has waited for so long wants more.
    pub after: Duration,
}

impl Scale {
    /// From `now` many, where the oldest of those that wait has waited for `oldest`; `None`: nothing waits.
    pub fn next(self, now: usize, oldest: Option<Duration>) -> usize {
        match oldest {
            Some(oldest) if oldest >= self.after => (now * 2).min(self.most),
            Some(_) => now,
            None => (now / 2).max(self.least),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_tasks_wait_for_long_and_shrinks_when_none_does() {
        let scale = Scale { least: 4, most: 20, after: Duration::from_secs(1) };
        let (long, short) = (Some(Duration::from_secs(1)), Some(Duration::from_millis(999)));
        let grown: Vec<_> = [4, 8, 16, 20].map(|now| scale.next(now, long)).to_vec();
        assert_eq!(grown, [8, 16, 20, 20]);
        assert_eq!(scale.next(7, short), 7);
        assert_eq!([20, 10, 5, 4].map(|now| scale.next(now, None)), [10, 5, 4, 4]);
    }
}
