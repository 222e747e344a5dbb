//! Runs in SQLite: one process has the file, and its one writer makes every change a step of its own.

/// Milliseconds since the Unix epoch; a macro, since statements are static text.
macro_rules! now_ms {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}

mod look;

use std::sync::Arc;

use fail::fail_point;
use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row as _, SqliteConnection};
use uuid::Uuid;

pub(super) use look::{forget, list, live, run, troubled, work};

use super::WorkflowError;
use super::ledger::{Adrift, Ledger, Row, RunRow, StartRow, Unreadable, raw_row, raw_run};
use super::run::{Started, StepState};
use super::turn::{self, Changed, Event, Guide};
use crate::db::{DbError, SqliteDb};
use crate::tasks::Batch;

pub(super) async fn start(
    db: &SqliteDb,
    guide: &Arc<Guide>,
    run: StartRow,
) -> Result<Result<Started, WorkflowError>, DbError> {
    let guide = Arc::clone(guide);
    db.write(move |tx| Box::pin(async move { turn::start(tx, &guide, &run).await })).await
}

pub(super) async fn change(
    db: &SqliteDb,
    guide: &Arc<Guide>,
    run: Uuid,
    event: Event,
) -> Result<Result<Changed, WorkflowError>, DbError> {
    let guide = Arc::clone(guide);
    db.write(move |tx| {
        Box::pin(async move {
            let changed = turn::change(tx, &guide, run, event).await;
            fail_point!("workflow-before-commit", |_| std::process::abort());
            changed
        })
    })
    .await
}

impl Ledger for SqliteConnection {
    type Error = Error;

    async fn insert(&mut self, run: &StartRow) -> Result<Option<(Uuid, Vec<u8>)>, Error> {
        let inserted = sqlx::query(concat!(
            "INSERT INTO workflow_runs (id, tenant, workflow, version, input, key, digest, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ",
            now_ms!(),
            ") ON CONFLICT (tenant, workflow, key) WHERE key IS NOT NULL DO NOTHING"
        ))
        .bind(run.id.to_string())
        .bind(&run.tenant)
        .bind(&run.workflow)
        .bind(i32::from(run.version))
        .bind(&run.input)
        .bind(&run.key)
        .bind(run.digest.to_vec())
        .execute(&mut *self)
        .await?;
        if inserted.rows_affected() == 0 {
            let query = "SELECT id, digest FROM workflow_runs WHERE tenant = ?1 AND workflow = ?2 AND key = ?3";
            let query = sqlx::query(query).bind(&run.tenant).bind(&run.workflow).bind(&run.key);
            let row = query.fetch_one(self).await?;
            return Ok(Some((parsed(row.try_get("id")?)?, row.try_get("digest")?)));
        }
        for (position, step) in run.steps.iter().enumerate() {
            sqlx::query(
                "INSERT INTO workflow_steps (run, tenant, step, position, kind, needs) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .bind(run.id.to_string())
            .bind(&run.tenant)
            .bind(&step.name)
            .bind(position as i64)
            .bind(step.kind)
            .bind(&step.needs)
            .execute(&mut *self)
            .await?;
        }
        Ok(None)
    }

    async fn lock(&mut self, run: Uuid) -> Result<Option<RunRow>, Error> {
        let query = sqlx::query(
            "SELECT id, tenant, workflow, version, state, is_cancelled, output, error FROM workflow_runs WHERE id = ?1",
        );
        let row = query.bind(run.to_string()).fetch_optional(self).await?;
        row.map(|row| decoded(raw_run!(row).run())).transpose()
    }

    async fn steps(&mut self, run: Uuid) -> Result<Vec<Row>, Error> {
        let query = "SELECT * FROM workflow_steps WHERE run = ?1 AND item = -1";
        rows(&sqlx::query(query).bind(run.to_string()).fetch_all(self).await?)
    }

    async fn counts(&mut self, run: Uuid) -> Result<Vec<(String, StepState, u32)>, Error> {
        let query = sqlx::query(
            "SELECT step, state, count(*) AS items FROM workflow_steps WHERE run = ?1 AND item >= 0 GROUP BY step, state",
        );
        let counted = query.bind(run.to_string()).fetch_all(self).await?;
        counted
            .iter()
            .map(|row| {
                let (state, items): (String, i64) = (row.try_get("state")?, row.try_get("items")?);
                Ok((row.try_get("step")?, state_of(&state)?, items as u32))
            })
            .collect()
    }

    async fn elements(&mut self, run: Uuid, wanted: &[(String, i32)]) -> Result<Vec<Row>, Error> {
        let mut found = Vec::with_capacity(wanted.len());
        for (step, item) in wanted {
            let query = sqlx::query("SELECT * FROM workflow_steps WHERE run = ?1 AND step = ?2 AND item = ?3");
            let row = query.bind(run.to_string()).bind(step).bind(item).fetch_optional(&mut *self).await?;
            found.extend(row.as_ref().map(read).transpose()?);
        }
        Ok(found)
    }

    async fn items(&mut self, run: Uuid, step: &str, state: StepState, limit: u32) -> Result<Vec<Row>, Error> {
        let query = sqlx::query(
            "SELECT * FROM workflow_steps WHERE run = ?1 AND step = ?2 AND item >= 0 AND state = ?3 \
             ORDER BY CASE state WHEN 'completed' THEN -ended_at END, CASE state WHEN 'completed' THEN -item ELSE item END LIMIT ?4",
        );
        rows(&query.bind(run.to_string()).bind(step).bind(state.as_str()).bind(limit).fetch_all(self).await?)
    }

    async fn outputs(&mut self, run: Uuid, step: &str) -> Result<Vec<String>, Error> {
        let query = sqlx::query_scalar(
            "SELECT coalesce(output, 'null') FROM workflow_steps WHERE run = ?1 AND step = ?2 AND item >= 0 ORDER BY item",
        );
        query.bind(run.to_string()).bind(step).fetch_all(self).await
    }

    async fn adrift(&mut self, run: Uuid) -> Result<Vec<Adrift>, Error> {
        let query = sqlx::query(
            "SELECT s.*, t.state AS task_state, t.failures FROM workflow_steps s LEFT JOIN tasks t ON t.id = s.task \
             WHERE s.run = ?1 AND s.state IN ('ready', 'compensating') AND s.kind <> 'each' \
             AND (t.id IS NULL OR t.state IN ('completed', 'cancelled', 'discarded'))",
        );
        let found = query.bind(run.to_string()).fetch_all(self).await?;
        let adrift = |row: &SqliteRow| {
            Ok(Adrift { row: read(row)?, task_state: row.try_get("task_state")?, failures: row.try_get("failures")? })
        };
        found.iter().map(adrift).collect()
    }

    async fn put_run(&mut self, run: &RunRow) -> Result<(), Error> {
        sqlx::query(concat!(
            "UPDATE workflow_runs SET state = ?2, is_cancelled = ?3, output = ?4, error = ?5, \
             ended_at = CASE WHEN ?2 NOT IN ('running', 'compensating') THEN ",
            now_ms!(),
            " END WHERE id = ?1"
        ))
        .bind(run.id.to_string())
        .bind(run.state.as_str())
        .bind(run.is_cancelled)
        .bind(&run.output)
        .bind(&run.error)
        .execute(self)
        .await
        .map(drop)
    }

    async fn put(&mut self, run: Uuid, rows: &[Row]) -> Result<(), Error> {
        for row in rows {
            put_one(self, run, row).await?;
        }
        Ok(())
    }

    async fn add_items(&mut self, run: &RunRow, step: &Row, elements: &[String]) -> Result<(), Error> {
        // A list of texts, each an element's JSON.
        let elements = serde_json::to_string(elements).map_err(|error| Error::Encode(Box::new(error)))?;
        sqlx::query(
            "INSERT INTO workflow_steps (run, tenant, step, item, position, kind, round, input) \
             SELECT ?1, ?2, ?3, element.key, whole.position, 'item', ?4, element.value FROM json_each(?5) element \
             JOIN workflow_steps whole ON whole.run = ?1 AND whole.step = ?3 AND whole.item = -1",
        )
        .bind(run.id.to_string())
        .bind(&run.tenant)
        .bind(&step.step)
        .bind(step.round)
        .bind(elements)
        .execute(self)
        .await
        .map(drop)
    }

    async fn move_items(&mut self, run: Uuid, step: &Row, from: StepState, to: StepState) -> Result<(), Error> {
        sqlx::query(
            "UPDATE workflow_steps SET state = ?4, task = NULL, error = NULL, undo_error = NULL, \
                 output = CASE WHEN ?4 = 'waiting' THEN NULL ELSE output END, \
                 ended_at = CASE WHEN ?4 = 'waiting' THEN NULL ELSE ended_at END, \
                 round = CASE state WHEN 'compensated' THEN ?5 ELSE round END \
             WHERE run = ?1 AND step = ?2 AND item >= 0 AND state = ?3",
        )
        .bind(run.to_string())
        .bind(&step.step)
        .bind(from.as_str())
        .bind(to.as_str())
        .bind(step.round)
        .execute(self)
        .await
        .map(drop)
    }

    async fn drop_items(&mut self, run: Uuid, step: &str) -> Result<(), Error> {
        let query = sqlx::query("DELETE FROM workflow_steps WHERE run = ?1 AND step = ?2 AND item >= 0");
        query.bind(run.to_string()).bind(step).execute(self).await.map(drop)
    }

    async fn enqueue(&mut self, tasks: &Batch) -> Result<(), Error> {
        tasks.insert_into_file(self).await
    }
}

async fn put_one(tx: &mut SqliteConnection, run: Uuid, row: &Row) -> Result<(), Error> {
    sqlx::query(concat!(
        "UPDATE workflow_steps SET state = ?4, round = ?5, task = ?6, output = ?7, error = ?8, undo_error = ?9, sequence = ?10, \
         started_at = CASE WHEN ?4 = 'waiting' THEN NULL WHEN ?4 = 'ready' AND kind = 'each' THEN coalesce(started_at, ",
        now_ms!(),
        ") WHEN ?4 IN ('completed', 'failed', 'skipped') \
         THEN coalesce((SELECT t.started_at FROM tasks t WHERE t.id = ?6), started_at) ELSE started_at END, \
         attempt = CASE WHEN ?4 = 'waiting' THEN 0 WHEN ?4 IN ('completed', 'failed', 'skipped') \
         THEN coalesce((SELECT t.attempt FROM tasks t WHERE t.id = ?6), attempt) ELSE attempt END, \
         ended_at = CASE WHEN ?4 IN ('completed', 'failed', 'skipped') THEN coalesce(ended_at, ",
        now_ms!(),
        ") WHEN ?4 IN ('waiting', 'ready') THEN NULL ELSE ended_at END, \
         undone_at = CASE WHEN ?4 IN ('compensated', 'failed') THEN CASE state WHEN 'compensating' THEN ",
        now_ms!(),
        " ELSE undone_at END END WHERE run = ?1 AND step = ?2 AND item = ?3"
    ))
    .bind(run.to_string())
    .bind(&row.step)
    .bind(row.item)
    .bind(row.state.as_str())
    .bind(row.round)
    .bind(row.task.map(|task| task.to_string()))
    .bind(&row.output)
    .bind(&row.error)
    .bind(&row.undo_error)
    .bind(row.sequence)
    .execute(tx)
    .await
    .map(drop)
}

fn rows(rows: &[SqliteRow]) -> Result<Vec<Row>, Error> {
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<Row, Error> {
    decoded(raw_row!(row).row())
}

fn state_of(name: &str) -> Result<StepState, Error> {
    decoded(StepState::parse(name).ok_or_else(|| "a step's state that is none".into()))
}

fn decoded<T>(read: Result<T, Unreadable>) -> Result<T, Error> {
    read.map_err(Error::Decode)
}

fn parsed(id: &str) -> Result<Uuid, Error> {
    id.parse().map_err(|error| Error::Decode(Box::new(error)))
}
