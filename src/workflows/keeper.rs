//! What runs need beside their steps' tasks: a step whose task became a dead letter without a word (its workers were killed), or was
//! deleted, is told so or gets another; what is under way and what is stuck is counted. Every process that runs tasks does all of it; a
//! run is changed by one at a time. What ended long ago is forgotten by a job (`ish.tidy`).

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use super::turn::Event;
use super::{WorkflowError, Workflows, postgres, sqlite};
use crate::db::{DbError, query};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// How many runs are mended in one look, or forgotten in one step.
const PAGE: u32 = 100;

/// How long runs that have ended are kept: those that failed, and the others.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Completed and cancelled ones.
    pub ended: Duration,
    /// Those that failed.
    pub dead: Duration,
}

/// Where the looks are.
#[derive(Default)]
pub(super) struct Looks {
    /// The run that the last one ended at.
    after: Uuid,
    is_failing: bool,
    /// Versions of definitions that are lacking, and were named.
    named: BTreeSet<(String, u16)>,
}

impl Workflows {
    /// Looks after all runs; never ends by itself.
    pub async fn keep(self) {
        let mut looks = Looks::default();
        loop {
            let looked = self.look_once(&mut looks).await;
            let was_failing = std::mem::replace(&mut looks.is_failing, looked.is_err());
            if let Err(error) = looked
                && !was_failing
            {
                tracing::warn!(%error, "workflows cannot be looked after; it is tried again and again");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    pub(super) async fn look_once(&self, looks: &mut Looks) -> Result<(), DbError> {
        let unmended = self.mend(looks).await?;
        let unknown = self.count(&mut looks.named).await?;
        self.inner.metrics.workflows_stuck.set((unknown + unmended) as i64);
        Ok(())
    }

    /// Moves on what nobody else does; says how many runs it could not.
    async fn mend(&self, looks: &mut Looks) -> Result<u64, DbError> {
        let troubled = query!(&self.inner.db, troubled(looks.after, PAGE))?;
        looks.after = troubled.last().copied().filter(|_| troubled.len() == PAGE as usize).unwrap_or_default();
        let mut unmended = 0;
        for run in troubled {
            match self.follow(run, Event::Look).await {
                // Counted with all of its version.
                Ok(_) | Err(WorkflowError::UnknownVersion { .. } | WorkflowError::NotFound) => {}
                Err(error) => {
                    unmended += 1;
                    tracing::warn!(%error, %run, "a run of a workflow cannot be moved on");
                }
            }
        }
        Ok(unmended)
    }

    /// Counts what is under way; says how many of those runs are of versions that this process does not know.
    async fn count(&self, named: &mut BTreeSet<(String, u16)>) -> Result<u64, DbError> {
        let live = query!(&self.inner.db, live())?;
        self.inner.metrics.workflows_running.set(live.iter().map(|(.., runs)| *runs).sum::<u64>() as i64);
        let mut unknown = 0;
        for (workflow, version, runs) in live {
            if self.inner.guide.definitions.get(&workflow, version).is_none() {
                unknown += runs;
                if named.insert((workflow.clone(), version)) {
                    tracing::warn!(
                        workflow,
                        version,
                        runs,
                        "runs wait for a process that knows this version of their workflow"
                    );
                }
            }
        }
        Ok(unknown)
    }

    /// Deletes runs that ended longer ago than they are kept; says how many.
    ///
    /// # Errors
    /// The store's; what was deleted before stays so.
    pub async fn forget(&self, kept: Kept) -> Result<u64, DbError> {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
        let mut forgotten = 0;
        loop {
            let step = query!(&self.inner.db, forget((ms(kept.ended), ms(kept.dead)), PAGE))?;
            forgotten += step;
            if step < u64::from(PAGE) {
                return Ok(forgotten);
            }
        }
    }
}
