//! How many requests and tokens a target gets in a minute, where its provider grants no more. Requests are counted before
//! the call; tokens when the provider has counted them, so that answers begun at once may pass the bound once, and who
//! comes next waits for it.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::bucket::{Bucket, Rate, Ticks};

/// A target's rates; `None`: no bound.
#[derive(Debug, Default)]
pub(super) struct Pace {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
}

impl Pace {
    /// So many of each in a minute, a minute's worth at once.
    pub fn new(requests: Option<NonZeroU32>, tokens: Option<NonZeroU32>, ticks: &Ticks) -> Self {
        let bucket = |rate: NonZeroU32| Bucket::new(Rate::new(rate, None), ticks.clone());
        Self { requests: requests.map(bucket), tokens: tokens.map(bucket) }
    }

    /// Takes one request's turn, and the first of its tokens.
    ///
    /// # Errors
    /// How long it is until there is one, if nobody comes first.
    pub fn take(&self) -> Result<(), Duration> {
        self.tokens.as_ref().map_or(Ok(()), Bucket::take_one)?;
        let taken = self.requests.as_ref().map_or(Ok(()), Bucket::take_one);
        if let (Err(_), Some(tokens)) = (taken, &self.tokens) {
            tokens.give_back(1);
        }
        taken
    }

    /// Gives back a turn that was not used.
    pub fn give_back(&self) {
        for bucket in [&self.tokens, &self.requests].into_iter().flatten() {
            bucket.give_back(1);
        }
    }

    /// Counts an answer's tokens.
    pub fn used(&self, tokens: u64) {
        if let Some(bucket) = &self.tokens {
            bucket.charge(tokens.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_needs_a_turn_and_a_token() {
        let ticks = Ticks::manual();
        let pace = Pace::new(NonZeroU32::new(60), NonZeroU32::new(600), &ticks);
        assert_eq!(pace.take(), Ok(()));
        pace.used(700);
        assert_eq!(pace.take(), Err(Duration::from_millis(10_100)), "a hundred tokens too many, and one more");
        ticks.advance(Duration::from_millis(10_100));
        assert_eq!(pace.take(), Ok(()));
    }

    #[test]
    fn a_turn_that_was_refused_or_not_used_costs_nothing() {
        let pace = Pace::new(NonZeroU32::new(1), NonZeroU32::new(2), &Ticks::manual());
        assert_eq!(pace.take(), Ok(()));
        assert!((0..5).all(|_| pace.take() == Err(Duration::from_mins(1))), "no token is lost by it");
        pace.give_back();
        assert_eq!(pace.take(), Ok(()));
        assert_eq!(Pace::default().take(), Ok(()));
    }
}
