//! Runs in Postgres: a run is locked before anything of it is read, so that processes change it one after the other. Runs are of many
//! tenants, and looked after together.

mod look;

use std::sync::Arc;

use fail::fail_point;
use sqlx::postgres::PgRow;
use sqlx::{Error, Row as _};
use uuid::Uuid;

pub(super) use look::{forget, list, live, run, troubled, work};

use super::WorkflowError;
use super::ledger::{Adrift, Ledger, Row, RunRow, StartRow, Unreadable, raw_row, raw_run};
use super::run::{Started, StepState};
use super::turn::{self, Changed, Event, Guide};
use crate::db::{DbError, PostgresDb, Purpose, Transaction};
use crate::tasks::Batch;

/// What a step's or an element's row is read from.
macro_rules! step_columns {
    () => {
        "s.step, s.item, s.state, s.round, s.task::text, s.output, s.error, s.undo_error, s.sequence"
    };
}

pub(super) async fn start(
    db: &PostgresDb,
    guide: &Arc<Guide>,
    run: StartRow,
) -> Result<Result<Started, WorkflowError>, DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    let started = turn::start(&mut tx, guide, &run).await?;
    tx.commit().await?;
    Ok(started)
}

pub(super) async fn change(
    db: &PostgresDb,
    guide: &Arc<Guide>,
    run: Uuid,
    event: Event,
) -> Result<Result<Changed, WorkflowError>, DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    let changed = turn::change(&mut tx, guide, run, event).await?;
    fail_point!("workflow-before-commit", |_| std::process::abort());
    tx.commit().await?;
    Ok(changed)
}

impl Ledger for Transaction {
    type Error = DbError;

    async fn insert(&mut self, run: &StartRow) -> Result<Option<(Uuid, Vec<u8>)>, DbError> {
        // Who starts one under the key at this moment is waited for.
        let query = sqlx::query(
            "INSERT INTO workflow_runs (id, tenant, workflow, version, input, key, digest) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (tenant, workflow, key) WHERE key IS NOT NULL DO NOTHING",
        )
        .bind(run.id)
        .bind(&run.tenant)
        .bind(&run.workflow)
        .bind(i32::from(run.version))
        .bind(&run.input)
        .bind(&run.key)
        .bind(run.digest.to_vec());
        if self.execute(query).await? == 0 {
            let query = "SELECT id, digest FROM workflow_runs WHERE tenant = $1 AND workflow = $2 AND key = $3";
            let query = sqlx::query(query).bind(&run.tenant).bind(&run.workflow).bind(&run.key);
            let row = self.one(query).await?;
            return Ok(Some((row.try_get("id")?, row.try_get("digest")?)));
        }
        let query = sqlx::query(
            "INSERT INTO workflow_steps (run, tenant, step, position, kind, needs) \
             SELECT $1, $2, step, position - 1, kind, needs FROM unnest($3::text[], $4::text[], $5::text[]) \
             WITH ORDINALITY AS given (step, kind, needs, position)",
        )
        .bind(run.id)
        .bind(&run.tenant)
        .bind(run.steps.iter().map(|step| step.name.clone()).collect::<Vec<_>>())
        .bind(run.steps.iter().map(|step| step.kind.to_owned()).collect::<Vec<_>>())
        .bind(run.steps.iter().map(|step| step.needs.clone()).collect::<Vec<_>>());
        self.execute(query).await?;
        Ok(None)
    }

    async fn lock(&mut self, run: Uuid) -> Result<Option<RunRow>, DbError> {
        let query = sqlx::query(
            "SELECT id::text, tenant, workflow, version, state, is_cancelled, output, error FROM workflow_runs \
             WHERE id = $1 FOR UPDATE",
        );
        let Some(row) = self.optional(query.bind(run)).await? else { return Ok(None) };
        Ok(Some(decoded(raw_run!(row).run())?))
    }

    async fn steps(&mut self, run: Uuid) -> Result<Vec<Row>, DbError> {
        let query = concat!("SELECT ", step_columns!(), " FROM workflow_steps s WHERE run = $1 AND item = -1");
        Ok(rows(&self.all(sqlx::query(query).bind(run)).await?)?)
    }

    async fn counts(&mut self, run: Uuid) -> Result<Vec<(String, StepState, u32)>, DbError> {
        let query = sqlx::query(
            "SELECT step, state, count(*) AS items FROM workflow_steps WHERE run = $1 AND item >= 0 GROUP BY step, state",
        );
        let counted = self.all(query.bind(run)).await?;
        let count = |row: &PgRow| {
            let items: i64 = row.try_get("items")?;
            Ok((row.try_get("step")?, state_of(row.try_get("state")?)?, items as u32))
        };
        Ok(counted.iter().map(count).collect::<Result<_, Error>>()?)
    }

    async fn elements(&mut self, run: Uuid, wanted: &[(String, i32)]) -> Result<Vec<Row>, DbError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            step_columns!(),
            " FROM workflow_steps s JOIN unnest($2::text[], $3::int[]) AS wanted (step, item) \
             ON s.step = wanted.step AND s.item = wanted.item WHERE s.run = $1"
        ));
        let (steps, items): (Vec<String>, Vec<i32>) = wanted.iter().cloned().unzip();
        Ok(rows(&self.all(query.bind(run).bind(steps).bind(items)).await?)?)
    }

    async fn items(&mut self, run: Uuid, step: &str, state: StepState, limit: u32) -> Result<Vec<Row>, DbError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            step_columns!(),
            " FROM workflow_steps s WHERE run = $1 AND step = $2 AND item >= 0 AND state = $3 \
             ORDER BY CASE state WHEN 'completed' THEN -ended_at END, CASE state WHEN 'completed' THEN -item ELSE item END LIMIT $4"
        ));
        Ok(rows(&self.all(query.bind(run).bind(step).bind(state.as_str()).bind(i64::from(limit))).await?)?)
    }

    async fn outputs(&mut self, run: Uuid, step: &str) -> Result<Vec<String>, DbError> {
        let query = sqlx::query(
            "SELECT coalesce(output, 'null') AS output FROM workflow_steps WHERE run = $1 AND step = $2 AND item >= 0 ORDER BY item",
        );
        let found = self.all(query.bind(run).bind(step)).await?;
        Ok(found.iter().map(|row| row.try_get("output")).collect::<Result<_, Error>>()?)
    }

    async fn adrift(&mut self, run: Uuid) -> Result<Vec<Adrift>, DbError> {
        let query = sqlx::query(concat!(
            "SELECT ",
            step_columns!(),
            ", t.state AS task_state, t.failures FROM workflow_steps s LEFT JOIN tasks t ON t.id = s.task \
             WHERE s.run = $1 AND s.state IN ('ready', 'compensating') AND s.kind <> 'each' \
             AND (t.id IS NULL OR t.state IN ('completed', 'cancelled', 'discarded'))"
        ));
        let found = self.all(query.bind(run)).await?;
        let adrift = |row: &PgRow| {
            Ok(Adrift { row: read(row)?, task_state: row.try_get("task_state")?, failures: row.try_get("failures")? })
        };
        Ok(found.iter().map(adrift).collect::<Result<_, Error>>()?)
    }

    async fn put_run(&mut self, run: &RunRow) -> Result<(), DbError> {
        let query = sqlx::query(
            "UPDATE workflow_runs SET state = $2, is_cancelled = $3, output = $4, error = $5, \
             ended_at = CASE WHEN $2 NOT IN ('running', 'compensating') THEN ish_now_ms() END WHERE id = $1",
        );
        let query = query.bind(run.id).bind(run.state.as_str()).bind(run.is_cancelled).bind(&run.output);
        self.execute(query.bind(&run.error)).await.map(drop)
    }

    async fn put(&mut self, run: Uuid, rows: &[Row]) -> Result<(), DbError> {
        fn column<T>(rows: &[Row], of: impl Fn(&Row) -> T) -> Vec<T> {
            rows.iter().map(of).collect()
        }
        let query = sqlx::query(
            "UPDATE workflow_steps s SET state = new.state, round = new.round, task = new.task, output = new.output, error = new.error, \
                 undo_error = new.undo_error, sequence = new.sequence, \
             started_at = CASE WHEN new.state = 'waiting' THEN NULL \
                 WHEN new.state = 'ready' AND s.kind = 'each' THEN coalesce(s.started_at, ish_now_ms()) \
                 WHEN new.state IN ('completed', 'failed', 'skipped') \
                     THEN coalesce((SELECT t.started_at FROM tasks t WHERE t.id = new.task), s.started_at) ELSE s.started_at END, \
             attempt = CASE WHEN new.state = 'waiting' THEN 0 WHEN new.state IN ('completed', 'failed', 'skipped') \
                 THEN coalesce((SELECT t.attempt FROM tasks t WHERE t.id = new.task), s.attempt) ELSE s.attempt END, \
             ended_at = CASE WHEN new.state IN ('completed', 'failed', 'skipped') THEN coalesce(s.ended_at, ish_now_ms()) \
                 WHEN new.state IN ('waiting', 'ready') THEN NULL ELSE s.ended_at END, \
             undone_at = CASE WHEN new.state IN ('compensated', 'failed') \
                 THEN CASE s.state WHEN 'compensating' THEN ish_now_ms() ELSE s.undone_at END END \
             FROM unnest($2::text[], $3::int[], $4::text[], $5::int[], $6::uuid[], $7::text[], $8::text[], $9::text[], $10::bigint[]) \
                 AS new (step, item, state, round, task, output, error, undo_error, sequence) \
             WHERE s.run = $1 AND s.step = new.step AND s.item = new.item",
        )
        .bind(run)
        .bind(column(rows, |row| row.step.clone()))
        .bind(column(rows, |row| row.item))
        .bind(column(rows, |row| row.state.as_str()))
        .bind(column(rows, |row| row.round as i32))
        .bind(column(rows, |row| row.task))
        .bind(column(rows, |row| row.output.clone()))
        .bind(column(rows, |row| row.error.clone()))
        .bind(column(rows, |row| row.undo_error.clone()))
        .bind(column(rows, |row| row.sequence));
        self.execute(query).await.map(drop)
    }

    async fn add_items(&mut self, run: &RunRow, step: &Row, elements: &[String]) -> Result<(), DbError> {
        let query = sqlx::query(
            "INSERT INTO workflow_steps (run, tenant, step, item, position, kind, round, input) \
             SELECT $1, $2, $3, element.place - 1, whole.position, 'item', $4, element.input \
             FROM unnest($5::text[]) WITH ORDINALITY AS element (input, place) \
             JOIN workflow_steps whole ON whole.run = $1 AND whole.step = $3 AND whole.item = -1",
        );
        let query = query.bind(run.id).bind(&run.tenant).bind(&step.step).bind(step.round as i32);
        self.execute(query.bind(elements.to_vec())).await.map(drop)
    }

    async fn move_items(&mut self, run: Uuid, step: &Row, from: StepState, to: StepState) -> Result<(), DbError> {
        let query = sqlx::query(
            "UPDATE workflow_steps SET state = $4, task = NULL, error = NULL, undo_error = NULL, \
                 output = CASE WHEN $4 = 'waiting' THEN NULL ELSE output END, \
                 ended_at = CASE WHEN $4 = 'waiting' THEN NULL ELSE ended_at END, \
                 round = CASE state WHEN 'compensated' THEN $5 ELSE round END \
             WHERE run = $1 AND step = $2 AND item >= 0 AND state = $3",
        );
        let query = query.bind(run).bind(&step.step).bind(from.as_str()).bind(to.as_str());
        self.execute(query.bind(step.round as i32)).await.map(drop)
    }

    async fn drop_items(&mut self, run: Uuid, step: &str) -> Result<(), DbError> {
        let query = sqlx::query("DELETE FROM workflow_steps WHERE run = $1 AND step = $2 AND item >= 0");
        self.execute(query.bind(run).bind(step)).await.map(drop)
    }

    async fn enqueue(&mut self, tasks: &Batch) -> Result<(), DbError> {
        tasks.insert_into(self).await
    }
}

fn rows(rows: &[PgRow]) -> Result<Vec<Row>, Error> {
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<Row, Error> {
    decoded(raw_row!(row).row())
}

fn state_of(name: &str) -> Result<StepState, Error> {
    decoded(StepState::parse(name).ok_or_else(|| "a step's state that is none".into()))
}

fn decoded<T>(read: Result<T, Unreadable>) -> Result<T, Error> {
    read.map_err(Error::Decode)
}
