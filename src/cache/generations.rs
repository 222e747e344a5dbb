//! How often entries of each tenant were evicted, as far as this instance knows: what was made or stored elsewhere before an
//! eviction is told from what came after it by this number. Postgres counts; here is what the change log and our own
//! evictions said last. With a file nobody else evicts, and all of it stays 0.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The numbers.
#[derive(Debug, Default)]
pub(super) struct Generations {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether all that is stored was read; what was heard before then is not all.
    is_loaded: bool,
    of: HashMap<String, u64>,
}

impl Generations {
    /// The tenant's; `None` as long as it is not known what is stored.
    pub(super) fn of(&self, tenant: &str) -> Option<u64> {
        let known = self.lock();
        known.is_loaded.then(|| known.of.get(tenant).copied().unwrap_or(0))
    }

    /// These are stored. What was heard of later ones stays.
    pub(super) fn load(&self, stored: Vec<(String, u64)>) {
        let mut known = self.lock();
        for (tenant, generation) in stored {
            known.raise(tenant, generation);
        }
        known.is_loaded = true;
    }

    /// This generation of the tenant's has begun.
    pub(super) fn raise(&self, tenant: &str, generation: u64) {
        self.lock().raise(tenant.to_owned(), generation);
    }

    /// Some may have begun that nothing was heard of: none is known until the next load.
    pub(super) fn doubt(&self) {
        self.lock().is_loaded = false;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn raise(&mut self, tenant: String, generation: u64) {
        let last = self.of.entry(tenant).or_default();
        *last = generation.max(*last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_known_from_the_load_on_and_never_falls() {
        let generations = Generations::default();
        generations.raise("a", 3);
        assert_eq!(generations.of("a"), None);
        generations.load(vec![("a".to_owned(), 2)]);
        assert_eq!((generations.of("a"), generations.of("b")), (Some(3), Some(0)));
        generations.raise("a", 2);
        generations.doubt();
        assert_eq!(generations.of("a"), None);
        generations.load(vec![("a".to_owned(), 5)]);
        assert_eq!(generations.of("a"), Some(5));
    }
}
