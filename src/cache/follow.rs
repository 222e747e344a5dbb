//! What other instances did to the store, done to what this one holds of it: L1, the index, the blocked pairs, the
//! generations. Everything here may be done twice.
//!
//! Our own writes come by as well. What they took out may have been learned again since, so that only the index and the
//! generation follow them; what they stored is in the index, unless another's eviction of the entry before it came later to us.

use std::sync::PoisonError;

use super::scope::Digest;
use super::stored::Selection;
use super::told::{Name, names, pairs};
use super::{Inner, SemanticCache, load, postgres};
use crate::changes::{Change, Kind, Read};
use crate::db::{Db, DbError};

impl SemanticCache {
    /// Follows `changes`, in their order.
    ///
    /// # Errors
    /// When what was learned cannot be read: all of them are to be followed once more.
    pub async fn follow(&self, changes: &[Read]) -> Result<(), DbError> {
        let inner = &self.inner;
        let mut learned = Vec::new();
        for Read { change, is_ours, .. } in changes {
            match change.kind {
                Kind::Learned => learned.extend(inner.absent(change, *is_ours)),
                Kind::Evicted => inner.follow_eviction(change, *is_ours),
                Kind::Blocked => {
                    inner.blocked.write().unwrap_or_else(PoisonError::into_inner).extend(pairs(&change.digests));
                }
                Kind::Key | Kind::Fallen => {}
            }
        }
        inner.learn(&learned).await
    }

    /// Forgets everything that was read from the store, and reads again what is read at the start: changes were missed.
    ///
    /// # Errors
    /// When the store fails; what could not be read is missing then.
    pub async fn start_over(&self) -> Result<(), DbError> {
        self.inner.generations.doubt();
        self.inner.memory.clear();
        self.inner.index.expire(u64::MAX);
        load::load(&self.inner).await?;
        Ok(())
    }
}

impl Inner {
    /// Those of what was stored that are to be read. Of what another one stored, an earlier answer goes.
    fn absent(&self, change: &Change, is_ours: bool) -> Vec<Digest> {
        let mut stored = names(&change.digests);
        if is_ours {
            stored.retain(|name| name.in_index().is_some_and(|(partition, id)| !self.index.has(partition, id)));
        } else {
            self.memory.forget(stored.iter().map(|name| name.key));
        }
        stored.iter().filter(|name| name.partition.is_some()).map(|name| name.key).collect()
    }

    async fn learn(&self, keys: &[Digest]) -> Result<(), DbError> {
        let Db::Postgres(db) = &self.db else { return Ok(()) };
        if keys.is_empty() {
            return Ok(());
        }
        let rows = postgres::index_rows_of(db, self.embeddings.id().as_str(), keys, self.clock.now_ms()).await?;
        for row in &rows {
            self.place(row);
        }
        Ok(())
    }

    fn follow_eviction(&self, change: &Change, is_ours: bool) {
        let Some(tenant) = change.tenant.as_deref() else { return };
        self.generations.raise(tenant, change.generation.unwrap_or(0));
        let gone = names(&change.digests);
        if !is_ours {
            let keys: Vec<_> = gone.iter().map(|name| name.key).collect();
            let selection = change.selection.as_deref().and_then(|text| serde_json::from_str::<Selection>(text).ok());
            let unstored = self.memory.evict(tenant, selection.as_ref(), &keys);
            self.unlist(unstored.iter().map(|entry| Name::evicted(entry.key, entry.place)));
        }
        self.unlist(gone.into_iter());
    }

    /// Takes entries out of the index.
    pub(super) fn unlist(&self, gone: impl Iterator<Item = Name>) {
        for (partition, id) in gone.filter_map(Name::in_index) {
            self.index.remove(partition, id);
        }
    }
}
