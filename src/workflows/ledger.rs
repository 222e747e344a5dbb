//! What one transaction on a run reads and writes, on either database: a run is locked first, so that what changes it comes one after
//! the other, and the work that follows from a change is enqueued with it.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::run::{RunState, StepState};
use crate::tasks::Batch;

/// Reads a [`RawRow`].
macro_rules! raw_row {
    ($row:expr) => {
        $crate::db::columns!(
            $row,
            $crate::workflows::ledger::RawRow { step, item, state, round, task, output, error, undo_error, sequence }
        )
    };
}
pub(super) use raw_row;

/// Reads a [`RawRun`].
macro_rules! raw_run {
    ($row:expr) => {
        $crate::db::columns!(
            $row,
            $crate::workflows::ledger::RawRun { id, tenant, workflow, version, state, is_cancelled, output, error }
        )
    };
}
pub(super) use raw_run;

/// Why a row cannot be read.
pub(super) type Unreadable = Box<dyn std::error::Error + Send + Sync>;

/// The item that a step itself is.
pub(super) const WHOLE: i32 = -1;

/// A run, as far as it changes.
#[derive(Debug, Clone)]
pub(super) struct RunRow {
    pub id: Uuid,
    pub tenant: String,
    pub workflow: String,
    pub version: u16,
    pub state: RunState,
    pub is_cancelled: bool,
    pub output: Option<String>,
    pub error: Option<String>,
}

/// A step, or an element of its list, as far as it changes.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub step: String,
    /// [`WHOLE`], or which element.
    pub item: i32,
    pub state: StepState,
    pub round: u32,
    pub task: Option<Uuid>,
    pub output: Option<String>,
    pub error: Option<String>,
    pub undo_error: Option<String>,
    pub sequence: Option<i64>,
}

/// The same as the databases give it.
pub(super) struct RawRow {
    pub step: String,
    pub item: i32,
    pub state: String,
    pub round: i32,
    pub task: Option<String>,
    pub output: Option<String>,
    pub error: Option<String>,
    pub undo_error: Option<String>,
    pub sequence: Option<i64>,
}

impl RawRow {
    pub fn row(self) -> Result<Row, Unreadable> {
        Ok(Row {
            step: self.step,
            item: self.item,
            state: StepState::parse(&self.state).ok_or("a step's state that is none")?,
            round: self.round as u32,
            task: self.task.map(|task| task.parse()).transpose()?,
            output: self.output,
            error: self.error,
            undo_error: self.undo_error,
            sequence: self.sequence,
        })
    }
}

/// A run as the databases give it.
pub(super) struct RawRun {
    pub id: String,
    pub tenant: String,
    pub workflow: String,
    pub version: i32,
    pub state: String,
    pub is_cancelled: bool,
    pub output: Option<String>,
    pub error: Option<String>,
}

impl RawRun {
    pub fn run(self) -> Result<RunRow, Unreadable> {
        Ok(RunRow {
            id: self.id.parse()?,
            tenant: self.tenant,
            workflow: self.workflow,
            version: self.version as u16,
            state: RunState::parse(&self.state).ok_or("a run's state that is none")?,
            is_cancelled: self.is_cancelled,
            output: self.output,
            error: self.error,
        })
    }
}

/// A run on its way in.
#[derive(Debug, Clone)]
pub(super) struct StartRow {
    pub id: Uuid,
    pub tenant: String,
    pub workflow: String,
    pub version: u16,
    pub input: String,
    pub digest: [u8; 32],
    pub key: Option<String>,
    pub steps: Vec<StartStep>,
}

/// One of its steps.
#[derive(Debug, Clone)]
pub(super) struct StartStep {
    pub name: String,
    pub kind: &'static str,
    /// JSON: a list of names.
    pub needs: String,
}

/// A step, or an element, whose task has ended, or is gone, and that nobody was told of.
#[derive(Debug, Clone)]
pub(super) struct Adrift {
    pub row: Row,
    /// `None` where it is gone.
    pub task_state: Option<String>,
    /// The task's failures: JSON.
    pub failures: Option<String>,
}

/// How many elements of a step are in which state.
pub(super) type Counts = BTreeMap<StepState, u32>;

/// A transaction on one run.
pub(super) trait Ledger: Send {
    /// Why it cannot be read or written.
    type Error: Send;

    /// Stores a run with its steps, unless its key stands for one: that one, with the digest of its input.
    fn insert(&mut self, run: &StartRow) -> impl Future<Output = Result<Option<(Uuid, Vec<u8>)>, Self::Error>> + Send;

    /// Takes a run: nobody else changes it until the transaction ends.
    fn lock(&mut self, run: Uuid) -> impl Future<Output = Result<Option<RunRow>, Self::Error>> + Send;

    /// Its steps.
    fn steps(&mut self, run: Uuid) -> impl Future<Output = Result<Vec<Row>, Self::Error>> + Send;

    /// How far the elements of its steps have come.
    fn counts(&mut self, run: Uuid) -> impl Future<Output = Result<Vec<(String, StepState, u32)>, Self::Error>> + Send;

    /// These elements, by their steps' names and which they are; those that are gone are left out.
    fn elements(
        &mut self,
        run: Uuid,
        wanted: &[(String, i32)],
    ) -> impl Future<Output = Result<Vec<Row>, Self::Error>> + Send;

    /// Up to `limit` elements in a state: those that are done the latest first, others in their order.
    fn items(
        &mut self,
        run: Uuid,
        step: &str,
        state: StepState,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Row>, Self::Error>> + Send;

    /// What the elements returned, in their order.
    fn outputs(&mut self, run: Uuid, step: &str) -> impl Future<Output = Result<Vec<String>, Self::Error>> + Send;

    /// What waits for tasks that have ended or are gone.
    fn adrift(&mut self, run: Uuid) -> impl Future<Output = Result<Vec<Adrift>, Self::Error>> + Send;

    /// Writes a run.
    fn put_run(&mut self, run: &RunRow) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Writes steps and elements, each of which is there once.
    fn put(&mut self, run: Uuid, rows: &[Row]) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Adds elements that wait, of the round of their step.
    fn add_items(
        &mut self,
        run: &RunRow,
        step: &Row,
        elements: &[String],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Moves all elements of a step from one state to another, in which they have no task and no fault; those that were undone are
    /// of the step's round from then on.
    fn move_items(
        &mut self,
        run: Uuid,
        step: &Row,
        from: StepState,
        to: StepState,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Forgets the elements of a step.
    fn drop_items(&mut self, run: Uuid, step: &str) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Stores tasks.
    fn enqueue(&mut self, tasks: &Batch) -> impl Future<Output = Result<(), Self::Error>> + Send;
}
