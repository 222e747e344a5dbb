//! The breakers behind one health: one for a target that the configuration names; for all other models of a provider one
//! each, so that a model that fails takes none of its neighbours with it. Those names are the callers': so many are
//! remembered, so long, those asked longest ago go first, and one that is forgotten is thought to be well.

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::behind::Standing;
use super::breaker::{Breaker, BreakerSettings, BreakerState};

/// Models of one provider that are remembered.
const MODELS: u64 = 256;

/// How long a model is remembered that nobody asks for.
const REMEMBERED: Duration = Duration::from_hours(1);

/// The breakers.
#[derive(Debug)]
pub(super) enum Breakers {
    One(Arc<Breaker>),
    ByModel { settings: BreakerSettings, known: Cache<Box<str>, Arc<Breaker>> },
}

impl Breakers {
    /// Of one target.
    pub fn one(settings: BreakerSettings) -> Self {
        Self::One(Arc::new(Breaker::new(settings)))
    }

    /// Of all models of a provider that have none of their own.
    pub fn by_model(settings: BreakerSettings) -> Self {
        let known =
            Cache::builder().max_capacity(MODELS).time_to_idle(REMEMBERED).eviction_policy(EvictionPolicy::lru());
        Self::ByModel { settings, known: known.build() }
    }

    /// The model's breaker.
    pub fn of(&self, model: &str) -> Arc<Breaker> {
        match self {
            Self::One(breaker) => Arc::clone(breaker),
            Self::ByModel { settings, known } => {
                known.get(model).unwrap_or_else(|| known.get_with(model.into(), || Arc::new(Breaker::new(*settings))))
            }
        }
    }

    /// What they let through; of several, the one that lets least.
    pub fn state(&self) -> BreakerState {
        match self {
            Self::One(breaker) => breaker.state(),
            Self::ByModel { known, .. } => {
                let states = known.iter().map(|(_, breaker)| breaker.state());
                states.max_by_key(|state| *state as u8).unwrap_or(BreakerState::Closed)
            }
        }
    }

    /// What stands behind the others; of several, the one that does so the longest.
    pub fn behind(&self, now_ms: u64) -> Option<Standing> {
        match self {
            Self::One(breaker) => breaker.behind.now(now_ms),
            Self::ByModel { known, .. } => {
                let standings = known.iter().filter_map(|(_, breaker)| breaker.behind.now(now_ms));
                standings.max_by_key(|standing| standing.until_ms)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings =
        BreakerSettings { failures: 1, open: Duration::from_mins(1), max_open: Duration::from_mins(1) };

    #[test]
    fn a_model_has_a_breaker_of_its_own_and_the_worst_is_shown() {
        let breakers = Breakers::by_model(SETTINGS);
        assert_eq!(breakers.state(), BreakerState::Closed);
        breakers.of("bad").failed(false, 1_000);
        assert_eq!(
            (breakers.of("bad").state(), breakers.of("good").state()),
            (BreakerState::Open, BreakerState::Closed)
        );
        assert_eq!(breakers.state(), BreakerState::Open);
    }

    #[test]
    fn names_that_callers_make_up_take_bounded_room() {
        let breakers = Breakers::by_model(SETTINGS);
        breakers.of("kept").failed(false, 1_000);
        for number in 0..10 * MODELS {
            breakers.of(&format!("made-up-{number}"));
            breakers.of("kept");
        }
        let Breakers::ByModel { known, .. } = &breakers else { unreachable!() };
        known.run_pending_tasks();
        assert!(known.entry_count() <= MODELS);
        assert_eq!(breakers.of("kept").state(), BreakerState::Open, "what is asked again and again is remembered");
    }
}
