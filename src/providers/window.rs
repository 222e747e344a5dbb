//! How many events there were in the last ten seconds, counted without a lock. Time is the caller's.

use std::sync::atomic::{AtomicU64, Ordering};

/// Seconds that are looked back upon, the running one included.
pub(super) const SECONDS: usize = 10;

const COUNT_BITS: u32 = 24;

/// One slot a second; each holds its second and its count, so that an old one is known to be old.
#[derive(Debug, Default)]
pub(super) struct Window {
    slots: [AtomicU64; SECONDS],
}

impl Window {
    pub fn add(&self, now_ms: u64) {
        let second = now_ms / 1000;
        let slot = &self.slots[second as usize % SECONDS];
        let fresh = (second << COUNT_BITS) + 1;
        let grown = |known: u64| if known >> COUNT_BITS == second { known + 1 } else { fresh };
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |known| Some(grown(known)));
    }

    pub fn count(&self, now_ms: u64) -> u64 {
        let second = now_ms / 1000;
        let recent = |slot: &AtomicU64| {
            let known = slot.load(Ordering::Relaxed);
            let age = second.wrapping_sub(known >> COUNT_BITS);
            (age < SECONDS as u64).then_some(known & ((1 << COUNT_BITS) - 1))
        };
        self.slots.iter().filter_map(recent).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_counts_what_a_list_of_times_would(steps in proptest::collection::vec(0u64..4_000, 1..60)) {
            let (window, mut now, mut times) = (Window::default(), 1_700_000_000_000, Vec::new());
            for step in steps {
                now += step;
                window.add(now);
                times.push(now / 1000);
                let expected = times.iter().filter(|second| now / 1000 - **second < SECONDS as u64).count() as u64;
                prop_assert_eq!(window.count(now), expected);
            }
        }
    }
}
