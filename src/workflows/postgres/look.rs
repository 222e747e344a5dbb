//! Runs as they are looked at, by people, by their steps' code, and by who looks after them; and what is forgotten in time.

use sqlx::postgres::PgRow;
use sqlx::{Error, Row as _};
use uuid::Uuid;

use super::decoded;
use crate::db::{DbError, PostgresDb, Purpose, Transaction};
use crate::workflows::attempt::Work;
use crate::workflows::run::{Run, RunFilter, RunState};
use crate::workflows::shown::{RawCount, RawShown, RawStep, count_row, run_row, runs, step_row};

/// What a run is shown with.
macro_rules! run_columns {
    () => {
        "id::text, workflow, version, state, input, output, error, tenant, created_at, ended_at"
    };
}

pub(in crate::workflows) async fn run(db: &PostgresDb, id: Uuid) -> Result<Option<Run>, DbError> {
    let query = sqlx::query(concat!("SELECT ", run_columns!(), " FROM workflow_runs WHERE id = $1")).bind(id);
    let mut tx = db.system(Purpose::Tasks).await?;
    let rows = tx.all(query).await?;
    Ok(with_steps(&mut tx, &rows).await?.pop())
}

pub(in crate::workflows) async fn list(db: &PostgresDb, filter: &RunFilter, limit: u32) -> Result<Vec<Run>, DbError> {
    let query = sqlx::query(concat!(
        "SELECT ",
        run_columns!(),
        " FROM workflow_runs WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR workflow = $2) \
         AND ($3::text IS NULL OR tenant = $3) AND ($4::uuid IS NULL OR workflow_runs.id < $4) \
         ORDER BY workflow_runs.id DESC LIMIT $5"
    ));
    let query = query
        .bind(filter.state.map(RunState::as_str))
        .bind(&filter.workflow)
        .bind(&filter.tenant)
        .bind(filter.before)
        .bind(i64::from(limit));
    let mut tx = db.system(Purpose::Tasks).await?;
    let rows = tx.all(query).await?;
    with_steps(&mut tx, &rows).await
}

async fn with_steps(tx: &mut Transaction, rows: &[PgRow]) -> Result<Vec<Run>, DbError> {
    let shown = rows.iter().map(read_run).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<_> = shown.iter().map(|run| run.id.clone()).collect();
    let steps = sqlx::query(
        "SELECT s.run::text, s.step, s.kind, s.needs, s.state, s.task::text, s.output, s.error, s.undo_error, s.attempt, \
             s.started_at, s.ended_at, s.undone_at, t.state AS task_state, t.attempt AS task_attempt, \
             t.started_at AS task_started_at, t.failures \
         FROM workflow_steps s LEFT JOIN tasks t ON t.id = s.task \
         WHERE s.run = ANY ($1::uuid[]) AND s.item = -1 ORDER BY s.run, s.position",
    );
    let steps = tx.all(steps.bind(ids.clone())).await?;
    let counts = sqlx::query(
        "SELECT s.run::text, s.step, s.state, count(*) AS items, count(t.id) AS running \
         FROM workflow_steps s LEFT JOIN tasks t ON t.id = s.task AND t.state = 'running' \
         WHERE s.run = ANY ($1::uuid[]) AND s.item >= 0 GROUP BY s.run, s.step, s.state",
    );
    let counts = tx.all(counts.bind(ids)).await?;
    let steps = steps.iter().map(read_step).collect::<Result<_, _>>()?;
    let counts = counts.iter().map(read_count).collect::<Result<_, _>>()?;
    Ok(decoded(runs(shown, steps, counts))?)
}

fn read_run(row: &PgRow) -> Result<RawShown, Error> {
    Ok(run_row!(row))
}

fn read_step(row: &PgRow) -> Result<RawStep, Error> {
    Ok(step_row!(row))
}

fn read_count(row: &PgRow) -> Result<RawCount, Error> {
    Ok(count_row!(row))
}

/// What a step's code is given.
pub(in crate::workflows) async fn work(
    db: &PostgresDb,
    run: Uuid,
    (step, item): (&str, i32),
    needs: Vec<String>,
) -> Result<Option<Work>, DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    let query = sqlx::query(
        "SELECT r.state AS run_state, r.input AS run_input, s.state, s.task::text, s.round, s.input AS element, s.output \
         FROM workflow_runs r JOIN workflow_steps s ON s.run = r.id WHERE r.id = $1 AND s.step = $2 AND s.item = $3",
    );
    let Some(row) = tx.optional(query.bind(run).bind(step).bind(item)).await? else { return Ok(None) };
    let query = sqlx::query(
        "SELECT step, output FROM workflow_steps WHERE run = $1 AND item = -1 AND output IS NOT NULL AND step = ANY ($2)",
    );
    let outputs = if needs.is_empty() { Vec::new() } else { tx.all(query.bind(run).bind(needs)).await? };
    let output = |row: &PgRow| Ok((row.try_get("step")?, row.try_get("output")?));
    Ok(Some(Work {
        run_state: row.try_get("run_state")?,
        input: row.try_get("run_input")?,
        state: row.try_get("state")?,
        task: row.try_get("task")?,
        round: row.try_get("round")?,
        element: row.try_get("element")?,
        output: row.try_get("output")?,
        outputs: outputs.iter().map(output).collect::<Result<_, Error>>()?,
    }))
}

/// Runs after `after` in which something waits for a task that has ended or is gone, or that nobody wants and nobody cancelled.
pub(in crate::workflows) async fn troubled(db: &PostgresDb, after: Uuid, limit: u32) -> Result<Vec<Uuid>, DbError> {
    let query = sqlx::query(
        "SELECT r.id FROM workflow_runs r WHERE r.ended_at IS NULL AND r.id > $1 AND ( \
             EXISTS (SELECT 1 FROM workflow_steps s LEFT JOIN tasks t ON t.id = s.task \
                 WHERE s.run = r.id AND s.state IN ('ready', 'compensating') AND s.kind <> 'each' \
                 AND (t.id IS NULL OR t.state IN ('completed', 'cancelled', 'discarded') \
                     OR r.state = 'compensating' AND s.state = 'ready' AND NOT t.cancel_wanted)) \
             OR NOT EXISTS (SELECT 1 FROM workflow_steps s \
                 WHERE s.run = r.id AND s.state IN ('ready', 'compensating') AND s.kind <> 'each')) ORDER BY r.id LIMIT $2",
    );
    let rows = db.system(Purpose::Tasks).await?.all(query.bind(after).bind(i64::from(limit))).await?;
    Ok(rows.iter().map(|row| row.try_get("id")).collect::<Result<_, Error>>()?)
}

/// How many runs are under way, by workflow and version.
pub(in crate::workflows) async fn live(db: &PostgresDb) -> Result<Vec<(String, u16, u64)>, DbError> {
    let query = sqlx::query(
        "SELECT workflow, version, count(*) AS runs FROM workflow_runs WHERE ended_at IS NULL GROUP BY workflow, version",
    );
    let rows = db.system(Purpose::Tasks).await?.all(query).await?;
    let live = |row: &PgRow| {
        let (version, runs): (i32, i64) = (row.try_get("version")?, row.try_get("runs")?);
        Ok((row.try_get("workflow")?, version as u16, runs as u64))
    };
    Ok(rows.iter().map(live).collect::<Result<_, Error>>()?)
}

/// Deletes up to `limit` runs that ended long ago, with their steps; says how many.
pub(in crate::workflows) async fn forget(
    db: &PostgresDb,
    (keep_ms, keep_dead_ms): (i64, i64),
    limit: u32,
) -> Result<u64, DbError> {
    let query = sqlx::query(
        "WITH old AS MATERIALIZED ( \
             SELECT id FROM workflow_runs WHERE ended_at IS NOT NULL AND ended_at <= ish_now_ms() \
                 - CASE WHEN state IN ('failed', 'compensation_failed') THEN $2 ELSE $1 END \
             ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED), \
         gone AS (DELETE FROM workflow_steps WHERE run IN (SELECT id FROM old)) \
         DELETE FROM workflow_runs WHERE id IN (SELECT id FROM old)",
    );
    let mut tx = db.system(Purpose::Tasks).await?;
    let forgotten = tx.execute(query.bind(keep_ms).bind(keep_dead_ms).bind(i64::from(limit))).await?;
    tx.commit().await?;
    Ok(forgotten)
}
