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
const LATE: Duration = Duration::from_mins(1);

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
    #[error(
        "{line:?} is no line of cron (minute hour day month weekday, a field for seconds before them if need be): {why}"
    )]
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
        let now = Timestamp::from_millisecond(now).ok()?.to_zoned(self.zone.clone());
        let latest: Zoned = self.cron.find_previous_occurrence(&now, true).ok()?;
        Some(latest.timestamp().as_millisecond()).filter(|slot| *slot > since)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(line: &str, zone: &str) -> Schedule {
        Schedule::new("s", line, zone, || NewTask::new(&super::super::tests::Greet::default())).unwrap()
    }

    fn ms_of(time: &str) -> i64 {
        time.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn a_slot_is_of_its_zone_and_its_summer_time() {
        let daily = schedule("30 7 * * *", "Europe/Berlin");
        let slots =
            [("2026-03-28T06:30:00Z", "2026-03-29T05:30:00Z"), ("2026-10-24T05:30:00Z", "2026-10-25T06:30:00Z")];
        for (before, after) in slots {
            assert_eq!(daily.next(ms_of(before)), Some(ms_of(after)));
            assert_eq!(daily.due(ms_of(before), ms_of(after) + 1), Some(ms_of(after)));
            assert_eq!(daily.due(ms_of(before), ms_of(after) - 1), None);
        }
        let quick = schedule("*/10 * * * * *", "UTC");
        assert_eq!(quick.next(ms_of("2026-01-01T00:00:01Z")), Some(ms_of("2026-01-01T00:00:10Z")));
    }

    #[test]
    fn what_was_missed_is_skipped_or_made_up_for_once() {
        let hourly = schedule("0 * * * *", "UTC");
        let (slot, late) = (ms_of("2026-01-01T05:00:00Z"), ms_of("2026-01-01T05:00:59Z"));
        let later = late + 2_000;
        assert!(hourly.task_for(slot, late).is_some() && hourly.task_for(slot, later).is_none());
        assert!(hourly.missed(Missed::Once).task_for(slot, later).is_some());
    }

    #[test]
    fn a_line_a_zone_or_a_name_that_is_none_is_refused() {
        let refused = |name, line, zone| Schedule::new(name, line, zone, || panic!("it is refused")).unwrap_err();
        for line in ["", "* * *", "61 * * * *", "* * * * moonday", "0 0 30 2 *"] {
            assert!(matches!(refused("s", line, "UTC"), ScheduleError::Line { .. }), "{line}");
        }
        assert!(matches!(refused("s", "* * * * *", "Europe/Atlantis"), ScheduleError::Zone(_)));
        assert!(matches!(refused("a/b", "* * * * *", "UTC"), ScheduleError::Name(_)));
    }

    proptest! {
        #[test]
        fn slots_follow_each_other_and_none_is_due_before_its_time(
            minute in 0..60_u8, hour in 0..24_u8, since in 1_700_000_000_000_i64..1_900_000_000_000, ahead in 1..200_000_000_i64,
        ) {
            for zone in ["UTC", "America/New_York", "Asia/Kolkata"] {
                let daily = schedule(&format!("{minute} {hour} * * *"), zone);
                let next = daily.next(since).unwrap();
                prop_assert!(next > since && next - since <= 49 * 3_600_000);
                prop_assert_eq!(daily.next(next - 1), Some(next));
                let now = since + ahead;
                match daily.due(since, now) {
                    Some(due) => prop_assert!(next <= due && due <= now && daily.next(due).unwrap() > now),
                    None => prop_assert!(next > now),
                }
            }
        }
    }
}
