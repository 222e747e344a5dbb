//! Tasks that come by the clock: a line in cron's form, in a time zone. A schedule stands in the store up to a slot; who
//! moves it to the next enqueues its task in the same transaction, so that each slot has one, however many processes keep it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::new_task::is_name;
use super::{NewTask, Queue, TaskError};
use crate::db::DbError;

/// A slot that was missed by no more is not a missed one: a process may look late.
const LATE: Duration = Duration::from_secs(60);

/// What becomes of slots that passed while no process ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Nothing: the next comes at its time.
    Skip,
    /// One task for all of them.
    Once,
}

/// A line that is none.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Cron's fields.
    #[error("{line:?} is no line of cron (minute hour day month weekday, a field for seconds before them if need be): {why}")]
    Line {
        /// As given.
        line: String,
        /// What is wrong.
        why: String,
    },
    /// The zone.
    #[error("{0:?} is no time zone that this system knows")]
    Zone(String),
    /// The name.
    #[error("{0:?} is no name of a schedule: up to 100 letters, digits and _-.:")]
    Name(String),
}

/// One schedule.
#[derive(Clone)]
pub struct Schedule {
    name: String,
    cron: Cron,
    zone: TimeZone,
    missed: Missed,
    task: Arc<dyn Fn() -> NewTask + Send + Sync>,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name, self.cron)
    }
}

impl Schedule {
    /// `task` at each time that `line` names in `zone` (as `Europe/Berlin`, or `UTC`). Under its `name` the store knows how
    /// far it has come.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn new(
        name: &str,
        line: &str,
        zone: &str,
        task: impl Fn() -> NewTask + Send + Sync + 'static,
    ) -> Result<Self, ScheduleError> {
        if !is_name(name) {
            return Err(ScheduleError::Name(name.to_owned()));
        }
        let wrong = |why: &dyn fmt::Display| ScheduleError::Line { line: line.to_owned(), why: why.to_string() };
        let cron = CronParser::builder().seconds(Seconds::Optional).build().parse(line);
        let cron = cron.map_err(|error| wrong(&error))?;
        let zone = TimeZone::get(zone).map_err(|_| ScheduleError::Zone(zone.to_owned()))?;
        let schedule = Self { name: name.to_owned(), cron, zone, missed: Missed::Skip, task: Arc::new(task) };
        // A thirtieth of February is a line, and never comes.
        if schedule.next(0).is_none() {
            return Err(wrong(&"it names no time"));
        }
        Ok(schedule)
    }

    /// What becomes of slots that passed while no process ran; nothing, unless this says otherwise.
    #[must_use]
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// The first slot after a time, both in milliseconds since the Unix epoch.
    pub fn next(&self, after_ms: i64) -> Option<i64> {
        let after = Timestamp::from_millisecond(after_ms).ok()?.to_zoned(self.zone.clone());
        let next: Zoned = self.cron.find_next_occurrence(&after, false).ok()?;
        Some(next.timestamp().as_millisecond())
    }

    /// The latest slot after `since` that has come by `now`.
    fn due(&self, since: i64, now: i64) -> Option<i64> {
        let mut due = self.next(since).filter(|slot| *slot <= now)?;
        // After a long rest there are many: all but those of the last minutes are jumped over.
        let recent = now - 2 * super::ms(LATE);
        if due < recent {
            due = self.next(recent).filter(|slot| *slot <= now).unwrap_or(due);
        }
        while let Some(next) = self.next(due).filter(|slot| *slot <= now) {
            due = next;
        }
        Some(due)
    }

    /// What is enqueued for a slot at `now`.
    fn task_for(&self, slot: i64, now: i64) -> Option<NewTask> {
        let is_missed = now - slot > super::ms(LATE);
        (!is_missed || self.missed == Missed::Once).then(|| (self.task)())
    }
}

/// All schedules of a process.
#[derive(Debug, Clone, Default)]
pub struct Schedules {
    all: Vec<Schedule>,
}

impl Schedules {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, schedule: Schedule) -> Self {
        self.all.push(schedule);
        self
    }

    /// Enqueues what is due.
    pub(super) async fn keep(&self, queue: &Queue) -> Result<(), DbError> {
        if self.all.is_empty() {
            return Ok(());
        }
        let (slots, now) = queue.slots().await?;
        for schedule in &self.all {
            let since = slots.iter().find(|(name, _)| *name == schedule.name).map(|(_, slot)| *slot);
            if let Err(error) = keep_one(queue, schedule, since, now).await {
                match error {
                    TaskError::Store(error) => return Err(error),
                    error => tracing::error!(%error, schedule = schedule.name, "a schedule's task cannot be enqueued"),
                }
            }
        }
        Ok(())
    }
}

async fn keep_one(queue: &Queue, schedule: &Schedule, since: Option<i64>, now: i64) -> Result<(), TaskError> {
    let Some(since) = since else {
        // It begins now.
        queue.move_slot(&schedule.name, (None, now), None).await?;
        return Ok(());
    };
    let Some(slot) = schedule.due(since, now) else { return Ok(()) };
    let task = schedule.task_for(slot, now).map(NewTask::checked).transpose()?;
    let is_due = task.is_some();
    if queue.move_slot(&schedule.name, (Some(since), slot), task).await? && is_due {
        queue.wake();
    }
    Ok(())
}
