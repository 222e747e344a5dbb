//! Who answered, and what it took: one cell that a request's caller, its upstream call and its report share, filled as the
//! answer goes on.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Usage;

/// The cell. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Served(Arc<Cell>);

#[derive(Debug, Default)]
struct Cell {
    by: OnceLock<ServedBy>,
    usage: Mutex<Option<Usage>>,
    cost_usd: OnceLock<f64>,
}

/// A provider and its own name for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedBy {
    /// The provider's name in the configuration.
    pub provider: Arc<str>,
    /// The model's name there.
    pub model: Arc<str>,
}

impl Served {
    /// One that is filled already, of an answer that `provider` gave earlier.
    pub fn earlier(provider: &str, model: &str, usage: Option<Usage>, cost_usd: Option<f64>) -> Self {
        let served = Self::default();
        served.answered_by(ServedBy { provider: provider.into(), model: model.into() });
        served.settle(usage, cost_usd);
        served
    }

    /// Who answers; `None` until the first token is there, and for answers from the cache.
    pub fn by(&self) -> Option<&ServedBy> {
        self.0.by.get()
    }

    /// Tokens, once and where the provider counted them.
    pub fn usage(&self) -> Option<Usage> {
        *self.locked()
    }

    /// What the answer cost in US dollars, once it is whole and where its price is known.
    pub fn cost_usd(&self) -> Option<f64> {
        self.0.cost_usd.get().copied()
    }

    /// Another attempt begins: what one that failed had counted is not the answer's.
    pub fn begin(&self) {
        *self.locked() = None;
    }

    /// The first token is there. One answer has one source: only the first word on it counts.
    pub fn answered_by(&self, by: ServedBy) {
        let _ = self.0.by.set(by);
    }

    /// The provider counts.
    pub fn count(&self, usage: Usage) {
        *self.locked() = Some(usage);
    }

    /// The answer is whole.
    pub fn settle(&self, usage: Option<Usage>, cost_usd: Option<f64>) {
        *self.locked() = usage;
        if let Some(cost_usd) = cost_usd {
            let _ = self.0.cost_usd.set(cost_usd);
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Option<Usage>> {
        self.0.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
