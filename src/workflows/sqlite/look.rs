//! Runs as they are looked at, by people, by their steps' code, and by who looks after them; and what is forgotten in time.

use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row as _, SqliteConnection};
use uuid::Uuid;

use super::{decoded, parsed};
use crate::db::{DbError, SqliteDb};
use crate::workflows::attempt::Work;
use crate::workflows::run::{Run, RunFilter, RunState};
use crate::workflows::shown::{RawCount, RawShown, RawStep, count_row, run_row, runs, step_row};

pub(in crate::workflows) async fn run(db: &SqliteDb, id: Uuid) -> Result<Option<Run>, DbError> {
    let mut connection = db.read().await?;
    let query = sqlx::query("SELECT * FROM workflow_runs WHERE id = ?1").bind(id.to_string());
    let rows = query.fetch_all(&mut *connection).await?;
    Ok(with_steps(&mut connection, &rows).await?.pop())
}

pub(in crate::workflows) async fn list(db: &SqliteDb, filter: &RunFilter, limit: u32) -> Result<Vec<Run>, DbError> {
    let query = sqlx::query(
        "SELECT * FROM workflow_runs WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR workflow = ?2) \
         AND (?3 IS NULL OR tenant = ?3) AND (?4 IS NULL OR id < ?4) ORDER BY id DESC LIMIT ?5",
    );
    let query = query
        .bind(filter.state.map(RunState::as_str))
        .bind(&filter.workflow)
        .bind(&filter.tenant)
        .bind(filter.before.map(|id| id.to_string()))
        .bind(limit);
    let mut connection = db.read().await?;
    let rows = query.fetch_all(&mut *connection).await?;
    Ok(with_steps(&mut connection, &rows).await?)
}

async fn with_steps(connection: &mut SqliteConnection, rows: &[SqliteRow]) -> Result<Vec<Run>, Error> {
    let shown = rows.iter().map(read_run).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<_> = shown.iter().map(|run| run.id.as_str()).collect();
    let ids = serde_json::to_string(&ids).map_err(|error| Error::Encode(Box::new(error)))?;
    let steps = sqlx::query(
        "SELECT s.*, t.state AS task_state, t.attempt AS task_attempt, t.started_at AS task_started_at, t.failures \
         FROM workflow_steps s LEFT JOIN tasks t ON t.id = s.task \
         WHERE s.run IN (SELECT value FROM json_each(?1)) AND s.item = -1 ORDER BY s.run, s.position",
    );
    let steps = steps.bind(&ids).fetch_all(&mut *connection).await?;
    let counts = sqlx::query(
        "SELECT s.run, s.step, s.state, count(*) AS items, count(t.id) AS running \
         FROM workflow_steps s LEFT JOIN tasks t ON t.id = s.task AND t.state = 'running' \
         WHERE s.run IN (SELECT value FROM json_each(?1)) AND s.item >= 0 GROUP BY s.run, s.step, s.state",
    );
    let counts = counts.bind(&ids).fetch_all(connection).await?;
    let steps = steps.iter().map(read_step).collect::<Result<_, _>>()?;
    let counts = counts.iter().map(read_count).collect::<Result<_, _>>()?;
    decoded(runs(shown, steps, counts))
}

fn read_run(row: &SqliteRow) -> Result<RawShown, Error> {
    Ok(run_row!(row))
}

fn read_step(row: &SqliteRow) -> Result<RawStep, Error> {
    Ok(step_row!(row))
}

fn read_count(row: &SqliteRow) -> Result<RawCount, Error> {
    Ok(count_row!(row))
}

/// What a step's code is given.
pub(in crate::workflows) async fn work(
    db: &SqliteDb,
    run: Uuid,
    (step, item): (&str, i32),
    needs: Vec<String>,
) -> Result<Option<Work>, DbError> {
    let mut connection = db.read().await?;
    let query = sqlx::query(
        "SELECT r.state AS run_state, r.input AS run_input, s.state, s.task, s.round, s.input AS element, s.output \
         FROM workflow_runs r JOIN workflow_steps s ON s.run = r.id WHERE r.id = ?1 AND s.step = ?2 AND s.item = ?3",
    );
    let row = query.bind(run.to_string()).bind(step).bind(item).fetch_optional(&mut *connection).await?;
    let Some(row) = row else { return Ok(None) };
    let needs = serde_json::to_string(&needs).map_err(|error| Error::Encode(Box::new(error)))?;
    let query = sqlx::query(
        "SELECT step, output FROM workflow_steps WHERE run = ?1 AND item = -1 AND output IS NOT NULL \
         AND step IN (SELECT value FROM json_each(?2))",
    );
    let outputs = query.bind(run.to_string()).bind(needs).fetch_all(&mut *connection).await?;
    let output = |row: &SqliteRow| Ok((row.try_get("step")?, row.try_get("output")?));
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
pub(in crate::workflows) async fn troubled(db: &SqliteDb, after: Uuid, limit: u32) -> Result<Vec<Uuid>, DbError> {
    let query = sqlx::query_scalar(
        "SELECT r.id FROM workflow_runs r WHERE r.ended_at IS NULL AND r.id > ?1 AND ( \
             EXISTS (SELECT 1 FROM workflow_steps s LEFT JOIN tasks t ON t.id = s.task \
                 WHERE s.run = r.id AND s.state IN ('ready', 'compensating') AND s.kind <> 'each' \
                 AND (t.id IS NULL OR t.state IN ('completed', 'cancelled', 'discarded') \
                     OR r.state = 'compensating' AND s.state = 'ready' AND NOT t.cancel_wanted)) \
             OR NOT EXISTS (SELECT 1 FROM workflow_steps s \
                 WHERE s.run = r.id AND s.state IN ('ready', 'compensating') AND s.kind <> 'each')) ORDER BY r.id LIMIT ?2",
    );
    let ids: Vec<String> = query.bind(after.to_string()).bind(limit).fetch_all(&mut *db.read().await?).await?;
    Ok(ids.iter().map(|id| parsed(id)).collect::<Result<_, _>>()?)
}

/// How many runs are under way, by workflow and version.
pub(in crate::workflows) async fn live(db: &SqliteDb) -> Result<Vec<(String, u16, u64)>, DbError> {
    let query = sqlx::query(
        "SELECT workflow, version, count(*) AS runs FROM workflow_runs WHERE ended_at IS NULL GROUP BY workflow, version",
    );
    let rows = query.fetch_all(&mut *db.read().await?).await?;
    let live = |row: &SqliteRow| {
        let (version, runs): (i32, i64) = (row.try_get("version")?, row.try_get("runs")?);
        Ok((row.try_get("workflow")?, version as u16, runs as u64))
    };
    Ok(rows.iter().map(live).collect::<Result<_, Error>>()?)
}

/// Deletes up to `limit` runs that ended long ago, with their steps; says how many.
pub(in crate::workflows) async fn forget(
    db: &SqliteDb,
    (keep_ms, keep_dead_ms): (i64, i64),
    limit: u32,
) -> Result<u64, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let query = sqlx::query_scalar(concat!(
                "DELETE FROM workflow_runs WHERE id IN (SELECT id FROM workflow_runs WHERE ended_at IS NOT NULL AND ended_at <= ",
                now_ms!(),
                " - CASE WHEN state IN ('failed', 'compensation_failed') THEN ?2 ELSE ?1 END LIMIT ?3) RETURNING id"
            ));
            let ids: Vec<String> = query.bind(keep_ms).bind(keep_dead_ms).bind(limit).fetch_all(&mut *tx).await?;
            for id in &ids {
                sqlx::query("DELETE FROM workflow_steps WHERE run = ?1").bind(id).execute(&mut *tx).await?;
            }
            Ok(ids.len() as u64)
        })
    })
    .await
}
