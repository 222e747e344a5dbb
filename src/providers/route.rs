//! A route: the targets behind one public model name, and in which order they are asked. Randomness is the caller's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::behind::Standing;
use super::target::{Permit, Refused};
use super::{Broken, Target};
use crate::config::Strategy;

/// Of the requests to a `lowest_latency` route, this share goes to targets by chance, so that one that has become faster is
/// noticed.
const EXPLORED: f64 = 0.05;

/// The targets of one public model name.
pub struct Route {
    strategy: Strategy,
    targets: Vec<Weighted>,
    turn: AtomicUsize,
}

pub(super) struct Weighted {
    pub target: Arc<Target>,
    pub weight: u32,
}

/// Why none of the targets can be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoneFree {
    /// All the places of at least one are taken, or all that its rates allow.
    pub is_full: bool,
    /// When the first breaker lets a probe through.
    pub open_until_ms: Option<u64>,
    /// Until when the first one wants not to be asked.
    pub behind: Option<Standing>,
}

impl NoneFree {
    /// Takes a target's refusal.
    fn add(&mut self, refused: Refused) {
        match refused {
            Refused::Full | Refused::Paced { .. } => self.is_full = true,
            Refused::Open { until_ms } => {
                self.open_until_ms = Some(self.open_until_ms.map_or(until_ms, |known| known.min(until_ms)));
            }
            Refused::Behind(standing) => {
                let soonest = self.behind.filter(|known| known.until_ms <= standing.until_ms);
                self.behind = soonest.or(Some(standing));
            }
        }
    }

    /// Whether there is one that could be asked another time.
    pub fn is_anyone(self) -> bool {
        self.is_full || self.open_until_ms.is_some() || self.behind.is_some()
    }
}

impl Route {
    pub(super) fn new(strategy: Strategy, targets: Vec<Weighted>) -> Self {
        Self { strategy, targets, turn: AtomicUsize::new(0) }
    }

    pub(super) fn of_one(target: Arc<Target>) -> Self {
        Self::new(Strategy::Ordered, vec![Weighted { target, weight: 1 }])
    }

    /// The target that is asked first where all are well.
    pub fn first(&self) -> &Arc<Target> {
        &self.targets[0].target
    }

    /// Whether there is a target that has not broken off.
    pub fn has_others(&self, broken: &[Broken]) -> bool {
        self.targets.iter().any(|weighted| broken.iter().all(|broken| !weighted.target.is(&broken.by)))
    }

    /// The highest cost of its targets; `None` where that of one is not known.
    pub fn dearest(&self, cost_usd: impl Fn(&Target) -> Option<f64>) -> Option<f64> {
        self.targets.iter().try_fold(0.0_f64, |dearest, weighted| Some(dearest.max(cost_usd(&weighted.target)?)))
    }

    /// How many targets there are.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    pub(super) fn target(&self, index: usize) -> &Arc<Target> {
        &self.targets[index].target
    }

    /// The first target that can be called now, of those that `is_welcome` lets through.
    pub(super) fn pick(
        &self,
        random: impl FnOnce() -> f64,
        is_welcome: impl Fn(usize) -> bool,
    ) -> Result<(usize, Permit), NoneFree> {
        let mut none = NoneFree { is_full: false, open_until_ms: None, behind: None };
        let mut admitted = |index: usize| match self.target(index).admit() {
            Ok(permit) => Some((index, permit)),
            Err(refused) => {
                none.add(refused);
                None
            }
        };
        if self.targets.len() == 1 {
            return is_welcome(0).then(|| admitted(0)).flatten().ok_or(none);
        }
        let mut order = self.order(random);
        order.sort_by_key(|index| self.target(*index).behind().is_some());
        order.into_iter().filter(|index| is_welcome(*index)).find_map(admitted).ok_or(none)
    }

    /// All targets, the preferred first.
    fn order(&self, random: impl FnOnce() -> f64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        match self.strategy {
            Strategy::Ordered => {}
            Strategy::RoundRobin => order.rotate_left(self.turn.fetch_add(1, Ordering::Relaxed) % self.targets.len()),
            Strategy::Weighted => self.prefer_by_chance(&mut order, random()),
            Strategy::LeastInFlight => order.sort_by_key(|index| self.target(*index).health.in_flight()),
            Strategy::LowestLatency => self.prefer_by_latency(&mut order, random()),
        }
        order
    }

    /// Sorts by latency, those that were never asked first; now and then by chance, once all were.
    fn prefer_by_latency(&self, order: &mut [usize], random: f64) {
        let latency_us = |index: usize| self.target(index).health.latency_us();
        if random < EXPLORED && order.iter().all(|index| latency_us(*index) > 0) {
            self.prefer_by_chance(order, random / EXPLORED);
        } else {
            order.sort_by_key(|index| latency_us(*index));
        }
    }

    /// Puts one target first, each with its weight's share of chances.
    fn prefer_by_chance(&self, order: &mut [usize], random: f64) {
        let total: f64 = self.targets.iter().map(|weighted| f64::from(weighted.weight)).sum();
        let mut left = random * total;
        let chosen = self.targets.iter().position(|weighted| {
            left -= f64::from(weighted.weight);
            left < 0.0
        });
        if let Some(chosen) = chosen {
            order[..=chosen].rotate_right(1);
        }
    }
}

#[cfg(test)]
mod tests;
