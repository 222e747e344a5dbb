//! Gauges that mirror figures kept elsewhere: brought up to date before somebody reads the metrics.

use crate::chat::ChatService;
use crate::limits::Limits;
use crate::logins::Logins;
use crate::memo::Memo;
use crate::pool::Pools;
use crate::vitals::Vitals;

/// Whose figures are mirrored. Cloning is cheap.
#[derive(Clone)]
pub struct Gauges {
    /// The cache, its index, calls in flight.
    pub chat: ChatService,
    /// Whose rates are remembered.
    pub limits: Limits,
    /// The caches of what is no answer.
    pub memo: Memo,
    /// Logins.
    pub logins: Logins,
    /// Pools of connections.
    pub pools: Pools,
    /// The disk.
    pub vitals: Vitals,
}

impl Gauges {
    /// Sets them all.
    pub fn refresh(&self) {
        self.chat.refresh_gauges();
        self.limits.refresh_gauges();
        self.memo.figures();
        self.logins.figures();
        self.pools.figures();
        self.vitals.figures();
    }
}
