//! One change of a run: something has happened to it, and all that follows from that is written with it. The run goes forward, step by
//! step as those before are done; once one has failed for good, or somebody does not want it any more, what is in work ends, and what
//! was done is undone, the latest first.

mod backward;
mod forward;
mod retry;

use uuid::Uuid;

use super::definition::{Definition, Definitions, Way};
use super::ledger::{Adrift, Counts, Ledger, Row, RunRow, StartRow, WHOLE};
use super::run::{RunState, Started, StepState};
use super::{WorkflowError, attempt};
use crate::clock::new_id;
use crate::tasks::{Failure, NewTask, Queue};

/// How long the text of an error may be.
const ERROR_BYTES: usize = 2_000;

/// What has happened.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// Nothing that is known: it is looked whether something was missed.
    Look,
    /// Attempts at steps have ended for good.
    Ended(Vec<Ended>),
    /// Somebody does not want the run any more.
    Cancel,
    /// Somebody wants it to go on where it has failed.
    Retry,
}

/// An attempt that has ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub step: String,
    /// [`WHOLE`], or which element.
    pub item: i32,
    /// What did it: only that may say so.
    pub task: Uuid,
    pub end: End,
}

/// How.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// It returned this.
    Done(String),
    /// No attempt will do better.
    Failed(String),
    /// It was cancelled.
    Stopped,
    /// It is undone.
    Undone,
    /// It cannot be undone.
    Stays(String),
}

/// What became of the run.
#[derive(Debug)]
pub(super) struct Changed {
    pub workflow: String,
    pub state: RunState,
    /// Whether it ended by this.
    pub has_ended: bool,
    /// Whether there are new tasks.
    pub has_tasks: bool,
    /// Tasks that nobody wants any more.
    pub unwanted: Vec<Uuid>,
}

/// What a change goes by.
#[derive(Debug, Clone)]
pub(super) struct Guide {
    pub definitions: Definitions,
    pub queue: Queue,
}

/// A new run, begun; or the one that its key stands for, if that was started with the same.
pub(super) async fn start<L: Ledger>(
    ledger: &mut L,
    guide: &Guide,
    run: &StartRow,
) -> Result<Result<Started, WorkflowError>, L::Error> {
    if let Some((id, digest)) = ledger.insert(run).await? {
        let started = Started { id, is_new: false };
        return Ok(if digest == run.digest { Ok(started) } else { Err(WorkflowError::Conflict) });
    }
    let changed = change(ledger, guide, run.id, Event::Look).await?;
    Ok(changed.map(|_| Started { id: run.id, is_new: true }))
}

/// Changes a run by what has happened to it. Where that cannot be, nothing was written.
pub(super) async fn change<L: Ledger>(
    ledger: &mut L,
    guide: &Guide,
    run: Uuid,
    event: Event,
) -> Result<Result<Changed, WorkflowError>, L::Error> {
    let Some(run) = ledger.lock(run).await? else { return Ok(Err(WorkflowError::NotFound)) };
    let Some(definition) = guide.definitions.get(&run.workflow, run.version) else {
        let RunRow { workflow, version, .. } = run;
        return Ok(Err(WorkflowError::UnknownVersion { workflow, version }));
    };
    let mut turn = Turn::of(ledger, definition, run).await?;
    if let Err(error) = turn.take(event).await? {
        return Ok(Err(error));
    }
    turn.advance().await?;
    turn.finish(&guide.queue).await.map(Ok)
}

/// A step with its elements.
struct Placed {
    row: Row,
    counts: Counts,
}

impl Placed {
    fn count(&self, state: StepState) -> u32 {
        self.counts.get(&state).copied().unwrap_or_default()
    }

    fn recount(&mut self, from: StepState, to: StepState) {
        if let Some(count) = self.counts.get_mut(&from) {
            *count = count.saturating_sub(1);
        }
        *self.counts.entry(to).or_default() += 1;
    }
}

/// A change under way. `steps` are in the order of the definition's.
struct Turn<'t, L: Ledger> {
    ledger: &'t mut L,
    definition: &'t Definition,
    run: RunRow,
    was: RunState,
    steps: Vec<Placed>,
    /// Rows that are still to be written: together, before anything is read that they may change.
    rows: Vec<Row>,
    tasks: Vec<NewTask>,
    unwanted: Vec<Uuid>,
}

impl<'t, L: Ledger> Turn<'t, L> {
    async fn of(ledger: &'t mut L, definition: &'t Definition, run: RunRow) -> Result<Self, L::Error> {
        let rows = ledger.steps(run.id).await?;
        let mut steps = Vec::with_capacity(rows.len());
        for step in &definition.steps {
            let row = rows.iter().find(|row| row.step == step.name).cloned();
            let row = row.unwrap_or_else(|| Row {
                step: step.name.clone(),
                item: WHOLE,
                state: StepState::Waiting,
                round: 0,
                task: None,
                output: None,
                error: None,
                undo_error: None,
                sequence: None,
            });
            steps.push(Placed { row, counts: Counts::new() });
        }
        if definition.steps.iter().any(|step| step.over.is_some()) {
            for (step, state, count) in ledger.counts(run.id).await? {
                if let Some(place) = definition.place(&step) {
                    steps[place].counts.insert(state, count);
                }
            }
        }
        let (rows, tasks, unwanted) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { ledger, definition, was: run.state, run, steps, rows, tasks, unwanted })
    }

    /// What the event says; what follows from it is [`Turn::advance`]'s.
    async fn take(&mut self, event: Event) -> Result<Result<(), WorkflowError>, L::Error> {
        match event {
            Event::Look => self.look().await?,
            Event::Ended(all) => self.all_ended(all).await?,
            Event::Cancel if self.run.state == RunState::Running => {
                self.run.is_cancelled = true;
                self.turn_back().await?;
            }
            Event::Retry if self.run.state.has_ended() && self.run.state != RunState::Completed => self.retry().await?,
            Event::Cancel | Event::Retry => return Ok(Err(WorkflowError::Unfit(self.run.state))),
        }
        Ok(Ok(()))
    }

    async fn advance(&mut self) -> Result<(), L::Error> {
        if self.run.state == RunState::Running {
            self.forward().await?;
        }
        if self.run.state == RunState::Compensating {
            self.backward().await?;
        }
        Ok(())
    }

    async fn finish(mut self, queue: &Queue) -> Result<Changed, L::Error> {
        self.write().await?;
        let has_tasks = !self.tasks.is_empty();
        if has_tasks {
            let tasks = queue.batch(std::mem::take(&mut self.tasks));
            self.ledger.enqueue(&tasks.expect("invariant: names and tenants are checked on their way in")).await?;
        }
        let has_ended = self.run.state.has_ended() && !self.was.has_ended();
        if self.run.state != self.was {
            self.ledger.put_run(&self.run).await?;
        }
        Ok(Changed {
            workflow: self.run.workflow,
            state: self.run.state,
            has_ended,
            has_tasks,
            unwanted: self.unwanted,
        })
    }

    /// Attempts say how they have ended, one after the other.
    async fn all_ended(&mut self, all: Vec<Ended>) -> Result<(), L::Error> {
        let items = all.iter().filter(|ended| ended.item != WHOLE).map(|ended| (ended.step.clone(), ended.item));
        let items: Vec<_> = items.collect();
        let mut found = if items.is_empty() { Vec::new() } else { self.ledger.elements(self.run.id, &items).await? };
        for ended in all {
            let place = found.iter().position(|row| (row.item, &row.step) == (ended.item, &ended.step));
            // Who says it twice finds nothing the second time.
            let element = place.map(|place| found.swap_remove(place));
            self.ended(ended, element).await?;
        }
        Ok(())
    }

    /// An attempt says how it has ended; a task that is not the step's any more says nothing. `element` is what it was an attempt at,
    /// unless that was a step itself.
    async fn ended(&mut self, ended: Ended, element: Option<Row>) -> Result<(), L::Error> {
        let Some(place) = self.definition.place(&ended.step) else { return Ok(()) };
        let row = if ended.item == WHOLE { Some(self.steps[place].row.clone()) } else { element };
        let Some(mut row) = row.filter(|row| row.task == Some(ended.task)) else { return Ok(()) };
        let was = row.state;
        let mut failure = None;
        match (was, ended.end) {
            (StepState::Ready, End::Done(output)) => (row.state, row.output) = (StepState::Completed, Some(output)),
            (StepState::Ready, End::Failed(error)) => failure = Some(kept(&error)),
            (StepState::Ready, End::Stopped) if self.run.state == RunState::Running => {
                failure = Some("its task was cancelled".to_owned());
            }
            (StepState::Ready, End::Stopped) => row.state = StepState::Skipped,
            (StepState::Compensating, End::Undone) => (row.state, row.undo_error) = (StepState::Compensated, None),
            (StepState::Compensating, End::Stays(error)) => row.undo_error = Some(kept(&error)),
            _ => return Ok(()),
        }
        if let Some(error) = &failure {
            (row.state, row.error) = (StepState::Failed, Some(error.clone()));
        }
        if row.state == StepState::Completed && row.item == WHOLE {
            row.sequence = Some(self.next_sequence());
        }
        self.written(place, was, row).await?;
        if let Some(error) = failure {
            self.fail(place, error).await?;
        }
        Ok(())
    }

    /// Writes a step, or an element of one; what an element could not be rid of is its step's as well.
    async fn written(&mut self, place: usize, was: StepState, row: Row) -> Result<(), L::Error> {
        self.put_row(row.clone()).await?;
        if row.item == WHOLE {
            self.steps[place].row = row;
            return Ok(());
        }
        self.steps[place].recount(was, row.state);
        let (error, undo_error) = (row.error, row.undo_error);
        let whole = &mut self.steps[place].row;
        if (error.is_some() && whole.error.is_none()) || undo_error.is_some() {
            whole.error = whole.error.take().or(error);
            whole.undo_error = undo_error.or(whole.undo_error.take());
            self.put(place).await?;
        }
        Ok(())
    }

    /// What waits for a task that has ended, or is gone, is told of it, or has another.
    async fn look(&mut self) -> Result<(), L::Error> {
        for adrift in self.ledger.adrift(self.run.id).await? {
            let Adrift { row, task_state, failures } = adrift;
            let Some(place) = self.definition.place(&row.step) else { continue };
            let is_forward = row.state == StepState::Ready;
            let end = match task_state.as_deref() {
                Some("discarded") if is_forward => End::Failed(last_error(failures)),
                Some("discarded") => End::Stays(last_error(failures)),
                Some("cancelled") if is_forward => End::Stopped,
                Some("cancelled") => End::Stays("its task was cancelled".to_owned()),
                _ => {
                    self.assign(place, row, if is_forward { Way::Do } else { Way::Undo }).await?;
                    continue;
                }
            };
            let (Some(task), step, item) = (row.task, row.step.clone(), row.item) else { continue };
            self.ended(Ended { step, item, task, end }, Some(row)).await?;
        }
        if self.run.state == RunState::Compensating {
            self.stop_steps().await?;
        }
        Ok(())
    }

    /// Gives a step, or an element, a task: to do it, or to undo it.
    async fn assign(&mut self, place: usize, mut row: Row, way: Way) -> Result<(), L::Error> {
        let step = &self.definition.steps[place];
        let (id, was) = (new_id(), row.state);
        let arguments = attempt::Arguments { run: self.run.id, item: u32::try_from(row.item).ok() };
        let kind = self.definition.kind(step, way);
        let task = NewTask::named(id, &kind, &arguments, step.policy_of(way)).tenant(&self.run.tenant);
        self.tasks.push(task);
        row.task = Some(id);
        row.state = if way == Way::Do { StepState::Ready } else { StepState::Compensating };
        self.written(place, was, row).await
    }

    async fn put(&mut self, place: usize) -> Result<(), L::Error> {
        self.put_row(self.steps[place].row.clone()).await
    }

    /// Has a row written; what a column becomes may follow from what it was, so that none is written over before it was there.
    async fn put_row(&mut self, row: Row) -> Result<(), L::Error> {
        if self.rows.iter().any(|other| (other.item, &other.step) == (row.item, &row.step)) {
            self.write().await?;
        }
        self.rows.push(row);
        Ok(())
    }

    /// Writes what is to be written.
    async fn write(&mut self) -> Result<(), L::Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.ledger.put(self.run.id, &std::mem::take(&mut self.rows)).await
    }

    /// Up to so many elements of a step that are in a state.
    async fn items(&mut self, place: usize, state: StepState, limit: u32) -> Result<Vec<Row>, L::Error> {
        self.write().await?;
        self.ledger.items(self.run.id, &self.definition.steps[place].name, state, limit).await
    }

    /// Moves a step's elements from one state to another.
    async fn move_items(&mut self, place: usize, from: StepState, to: StepState) -> Result<(), L::Error> {
        self.write().await?;
        self.ledger.move_items(self.run.id, &self.steps[place].row, from, to).await?;
        let moved = self.steps[place].counts.remove(&from).unwrap_or_default();
        *self.steps[place].counts.entry(to).or_default() += moved;
        Ok(())
    }

    fn next_sequence(&self) -> i64 {
        self.steps.iter().filter_map(|step| step.row.sequence).max().unwrap_or(0) + 1
    }

    fn is_each(&self, place: usize) -> bool {
        self.definition.steps[place].over.is_some()
    }
}

/// An error as it is kept: of bounded length, and without what Postgres has no place for.
fn kept(error: &str) -> String {
    error[..error.floor_char_boundary(ERROR_BYTES)].replace('\0', "\u{fffd}")
}

/// Why a task became a dead letter.
fn last_error(failures: Option<String>) -> String {
    let failures: Vec<Failure> = failures.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    failures.last().map_or_else(|| "its task failed".to_owned(), |failure| failure.error.clone())
}
