//! What workers ask of the queue's store.

use uuid::Uuid;

use super::headroom::Limits;
use super::new_task::Checked;
use super::stored::{Claim, Claimed, Held, Settled, Waiting};
use super::{Queue, postgres, sqlite};
use crate::db::{DbError, query};

impl Queue {
    /// Resolves when there may be tasks that were not there when this was last asked, as workers do.
    pub async fn woken(&self) {
        self.inner.wake.notified().await;
    }

    /// Resolves when something was cancelled through this queue since this was last asked.
    pub(super) async fn cancelled(&self) {
        self.inner.cancelled.notified().await;
    }

    /// Takes tasks for a lease, the most urgent first.
    pub(super) async fn claim(&self, claim: Claim, limits: &Limits) -> Result<Vec<Claimed>, DbError> {
        query!(&self.inner.db, claim(claim, limits))
    }

    /// Renews leases; says which still hold, and which of those tasks somebody wants cancelled.
    pub(super) async fn beat(&self, held: Vec<Held>, lease_ms: i64) -> Result<Vec<(Uuid, bool)>, DbError> {
        query!(&self.inner.db, beat(held, lease_ms))
    }

    /// Ends claims; says which still held.
    pub(super) async fn settle(&self, settled: Vec<Settled>) -> Result<Vec<Uuid>, DbError> {
        query!(&self.inner.db, settle(settled, self.inner.aging_ms))
    }

    /// Claims whose lease is over.
    pub(super) async fn expired(&self, limit: u32) -> Result<Vec<Claimed>, DbError> {
        query!(&self.inner.db, expired(limit))
    }

    /// What could run now, and how many dead letters there are.
    pub(super) async fn waiting(&self) -> Result<(Vec<Waiting>, u64), DbError> {
        query!(&self.inner.db, waiting())
    }

    /// Forgets what ended long ago, at most `limit` tasks; says how many.
    pub(super) async fn trim(&self, keep_ms: i64, keep_dead_ms: i64, limit: u32) -> Result<u64, DbError> {
        query!(&self.inner.db, trim(keep_ms, keep_dead_ms, limit))
    }

    /// Up to which time each schedule's tasks were enqueued, and what time it is.
    pub(super) async fn slots(&self) -> Result<(Vec<(String, i64)>, i64), DbError> {
        let slots = query!(&self.inner.db, slots())?;
        Ok((slots, query!(&self.inner.db, now_ms())?))
    }

    /// Moves a schedule on, and enqueues what is due by that; says whether it was this call that did.
    pub(super) async fn move_slot(
        &self,
        schedule: &str,
        from_to: (Option<i64>, i64),
        due: Option<Checked>,
    ) -> Result<bool, DbError> {
        query!(&self.inner.db, move_slot(schedule, from_to, due, self.inner.aging_ms))
    }
}
