//! In which order windows come: by chance, so that nothing that drifts favours a kind, and by a seed, so that an order can
//! be had again.

use loadtest::generator::Chance;

/// What becomes of the bulky socket in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// It is read as fast as it comes.
    Read,
    /// Its reader stops.
    Stopped,
}

/// Two windows, one right after the other: what they are compared by.
pub(super) type Pair = [Kind; 2];

/// Who tosses for them.
pub(super) struct Coins(Chance);

impl Coins {
    pub fn new(seed: u64) -> Self {
        Self(Chance::new(seed))
    }

    /// The pairs of a round: one of a window with its like, one with its rival.
    pub fn round(&mut self) -> [Pair; 2] {
        let rivals = if self.0.toss() { [Kind::Read, Kind::Stopped] } else { [Kind::Stopped, Kind::Read] };
        let alike = [Kind::Read; 2];
        if self.0.toss() { [alike, rivals] } else { [rivals, alike] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_order_and_every_order_comes() {
        let orders = |seed: u64| {
            let mut coins = Coins::new(seed);
            (0..64).map(|_| coins.round()).collect::<Vec<_>>()
        };
        assert_eq!(orders(7), orders(7));
        assert_ne!(orders(7), orders(8));
        let mut seen = orders(7);
        seen.sort_by_key(|round| format!("{round:?}"));
        seen.dedup();
        assert_eq!(seen.len(), 4);
        for round in seen {
            let stopped = round.as_flattened().iter().filter(|kind| **kind == Kind::Stopped).count();
            assert_eq!(stopped, 1, "{round:?}");
        }
    }
}
