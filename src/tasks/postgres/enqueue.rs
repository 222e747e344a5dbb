//! Tasks on their way in.

use sqlx::Row;
use uuid::Uuid;

use crate::db::{DbError, PostgresDb, Purpose, Transaction};
use crate::tasks::new_task::{Checked, Conflict};
use crate::tasks::{Batch, Enqueued};

/// How many tasks one statement takes.
pub(super) const CHUNK: usize = 500;

/// How often a task is tried that another with its unique key stands in the way of, while that one ends.
const TRIES: u32 = 5;

pub(in crate::tasks) async fn enqueue(
    db: &PostgresDb,
    tasks: Vec<Checked>,
    aging_ms: i64,
    remember_ms: i64,
) -> Result<Result<Vec<Enqueued>, Conflict>, DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    let enqueued = enqueue_in(&mut tx, &tasks, aging_ms, remember_ms).await?;
    if enqueued.is_ok() {
        tx.commit().await?;
    }
    Ok(enqueued)
}

/// All of them, or a conflict: the transaction is not to be committed then.
pub(in crate::tasks) async fn enqueue_in(
    tx: &mut Transaction,
    tasks: &[Checked],
    aging_ms: i64,
    remember_ms: i64,
) -> Result<Result<Vec<Enqueued>, Conflict>, DbError> {
    let plain: Vec<_> = tasks.iter().filter(|task| task.is_plain()).collect();
    for chunk in plain.chunks(CHUNK) {
        insert(tx, chunk, aging_ms).await?;
    }
    let mut enqueued: Vec<_> = tasks.iter().map(|task| Enqueued { id: task.id, is_new: true }).collect();
    let mut keyed: Vec<_> = tasks.iter().zip(&mut enqueued).filter(|(task, _)| !task.is_plain()).collect();
    // In the order of their keys, so that no two batches wait for each other.
    keyed.sort_by_key(|(task, _)| (&task.unique, &task.idempotency, &task.kind, &task.tenant));
    for (task, enqueued) in keyed {
        match enqueue_keyed(tx, task, aging_ms, remember_ms).await? {
            Ok(known) => *enqueued = known,
            Err(conflict) => return Ok(Err(conflict)),
        }
    }
    Ok(Ok(enqueued))
}

impl Batch {
    /// Stores them with whatever else `tx` does.
    pub(crate) async fn insert_into(&self, tx: &mut Transaction) -> Result<(), DbError> {
        let tasks: Vec<_> = self.tasks.iter().collect();
        for chunk in tasks.chunks(CHUNK) {
            insert(tx, chunk, self.aging_ms).await?;
        }
        Ok(())
    }
}

/// Inserts; says how many had no twin.
pub(super) async fn insert(tx: &mut Transaction, tasks: &[&Checked], aging_ms: i64) -> Result<u64, DbError> {
    fn column<T>(tasks: &[&Checked], of: impl Fn(&Checked) -> T) -> Vec<T> {
        tasks.iter().map(|task| of(task)).collect()
    }
    let query = sqlx::query(
        "INSERT INTO tasks (id, tenant, kind, version, queue, priority, arguments, max_attempts, unique_key, run_at, rank) \
         SELECT id, tenant, kind, version, queue, priority, arguments, max_attempts, unique_key, begins, begins + priority * $12 \
         FROM (SELECT *, coalesce(run_at, ish_now_ms() + delay) AS begins FROM unnest($1::uuid[], $2::text[], $3::text[], \
               $4::int[], $5::text[], $6::int[], $7::text[], $8::int[], $9::text[], $10::bigint[], $11::bigint[]) \
             AS given (id, tenant, kind, version, queue, priority, arguments, max_attempts, unique_key, run_at, delay)) AS new \
         ON CONFLICT (tenant, kind, unique_key) WHERE state IN ('available', 'running', 'retryable') DO NOTHING",
    )
    .bind(column(tasks, |task| task.id))
    .bind(column(tasks, |task| task.tenant.clone()))
    .bind(column(tasks, |task| task.kind.clone()))
    .bind(column(tasks, |task| i32::from(task.version)))
    .bind(column(tasks, |task| task.queue.clone()))
    .bind(column(tasks, |task| task.priority.level() as i32))
    .bind(column(tasks, |task| task.arguments.clone()))
    .bind(column(tasks, |task| i32::from(task.max_attempts)))
    .bind(column(tasks, |task| task.unique.clone()))
    .bind(column(tasks, |task| task.run_at_ms))
    .bind(column(tasks, |task| task.delay_ms))
    .bind(aging_ms);
    tx.execute(query).await
}

async fn enqueue_keyed(
    tx: &mut Transaction,
    task: &Checked,
    aging_ms: i64,
    remember_ms: i64,
) -> Result<Result<Enqueued, Conflict>, DbError> {
    if let Some((id, digest)) = remember(tx, task, remember_ms).await? {
        let enqueued = Enqueued { id, is_new: false };
        return Ok(if digest == task.digest { Ok(enqueued) } else { Err(Conflict) });
    }
    for _ in 0..TRIES {
        if insert(tx, &[task], aging_ms).await? == 1 {
            return Ok(Ok(Enqueued { id: task.id, is_new: true }));
        }
        if let Some(id) = twin(tx, task).await? {
            repoint(tx, task, id).await?;
            return Ok(Ok(Enqueued { id, is_new: false }));
        }
    }
    Err(DbError::Busy)
}

/// Remembers the key for this task, unless it stands for one already: that one, then.
async fn remember(tx: &mut Transaction, task: &Checked, remember_ms: i64) -> Result<Option<(Uuid, Vec<u8>)>, DbError> {
    let Some(key) = &task.idempotency else { return Ok(None) };
    // Who remembers it at this moment is waited for.
    let query = sqlx::query(
        "INSERT INTO task_keys (tenant, kind, key, task, digest, expires_at) VALUES ($1, $2, $3, $4, $5, ish_now_ms() + $6) \
         ON CONFLICT (tenant, kind, key) DO UPDATE SET task = excluded.task, digest = excluded.digest, \
         expires_at = excluded.expires_at WHERE task_keys.expires_at <= ish_now_ms()",
    );
    let query = query.bind(&task.tenant).bind(&task.kind).bind(key).bind(task.id);
    if tx.execute(query.bind(task.digest.to_vec()).bind(remember_ms)).await? == 1 {
        return Ok(None);
    }
    let query = sqlx::query("SELECT task, digest FROM task_keys WHERE tenant = $1 AND kind = $2 AND key = $3");
    let row = tx.one(query.bind(&task.tenant).bind(&task.kind).bind(key)).await?;
    Ok(Some((row.try_get("task")?, row.try_get("digest")?)))
}

/// The living task that has its unique key.
async fn twin(tx: &mut Transaction, task: &Checked) -> Result<Option<Uuid>, DbError> {
    let query = sqlx::query(
        "SELECT id FROM tasks WHERE tenant = $1 AND kind = $2 AND unique_key = $3 \
         AND state IN ('available', 'running', 'retryable')",
    );
    let row = tx.optional(query.bind(&task.tenant).bind(&task.kind).bind(&task.unique)).await?;
    Ok(row.map(|row| row.try_get("id")).transpose()?)
}

/// Lets the idempotency key stand for the task that was there.
async fn repoint(tx: &mut Transaction, task: &Checked, id: Uuid) -> Result<(), DbError> {
    let Some(key) = &task.idempotency else { return Ok(()) };
    let query = sqlx::query("UPDATE task_keys SET task = $4 WHERE tenant = $1 AND kind = $2 AND key = $3");
    tx.execute(query.bind(&task.tenant).bind(&task.kind).bind(key).bind(id)).await.map(drop)
}

/// Moves a schedule from one slot to another, and enqueues what is due by that; false where another has moved it.
pub(in crate::tasks) async fn move_slot(
    db: &PostgresDb,
    schedule: &str,
    (from, to): (Option<i64>, i64),
    due: Option<Checked>,
    aging_ms: i64,
) -> Result<bool, DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    let moved = match from {
        None => sqlx::query("INSERT INTO task_slots (schedule, slot) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(schedule)
            .bind(to),
        Some(from) => sqlx::query("UPDATE task_slots SET slot = $2 WHERE schedule = $1 AND slot = $3")
            .bind(schedule)
            .bind(to)
            .bind(from),
    };
    let moved = tx.execute(moved).await? == 1;
    if let (true, Some(task)) = (moved, due) {
        insert(&mut tx, &[&task], aging_ms).await?;
    }
    tx.commit().await?;
    Ok(moved)
}
