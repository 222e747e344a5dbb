//! Tasks in work: claimed, held, settled, and lost.

use sqlx::sqlite::SqliteRow;
use sqlx::{Error, Row, SqliteConnection};
use uuid::Uuid;

use super::decoded;
use crate::db::{DbError, SqliteDb};
use crate::tasks::headroom::{Headroom, Limits};
use crate::tasks::stored::{Claim, Claimed, Held, Settled, claimed_row};

/// The columns of a claimed task.
macro_rules! claimed_columns {
    () => {
        concat!(
            "id, tenant, kind, version, priority, arguments, attempt, max_attempts, epoch, cancel_wanted, failures, rank, ",
            now_ms!(),
            " - run_at AS waited_ms"
        )
    };
}

pub(in crate::tasks) async fn claim(db: &SqliteDb, claim: Claim, limits: &Limits) -> Result<Vec<Claimed>, DbError> {
    let limits = limits.clone();
    db.write(move |tx| {
        Box::pin(async move {
            if limits.are_none() {
                return claim_some(tx, &claim, claim.count, &Headroom::default()).await;
            }
            let mut room = headroom(tx, &limits).await?;
            let mut claimed = Vec::new();
            while claimed.len() < claim.count as usize {
                let Some(one) = claim_some(tx, &claim, 1, &room).await?.pop() else { break };
                room.take(&one.kind, &one.tenant);
                claimed.push(one);
            }
            store_rates(tx, &room).await?;
            Ok(claimed)
        })
    })
    .await
}

async fn claim_some(
    tx: &mut SqliteConnection,
    claim: &Claim,
    count: u32,
    room: &Headroom,
) -> Result<Vec<Claimed>, Error> {
    let rows = sqlx::query(concat!(
        "UPDATE tasks SET state = 'running', attempt = attempt + 1, epoch = epoch + 1, worker = ?2, started_at = ",
        now_ms!(),
        ", lease_until = ?4 + ",
        now_ms!(),
        " WHERE id IN ( \
             SELECT id FROM tasks WHERE state IN ('available', 'retryable') AND run_at <= ",
        now_ms!(),
        " AND version <= ?1 ->> kind \
             AND NOT EXISTS (SELECT 1 FROM task_pauses WHERE scope = 'kind' AND name = kind) \
             AND NOT EXISTS (SELECT 1 FROM task_pauses WHERE scope = 'queue' AND name = queue) \
             AND kind NOT IN (SELECT value FROM json_each(?5)) AND tenant NOT IN (SELECT value FROM json_each(?6)) \
             ORDER BY rank, id LIMIT ?3) RETURNING ",
        claimed_columns!()
    ))
    .bind(&claim.versions)
    .bind(claim.worker.to_string())
    .bind(count)
    .bind(claim.lease_ms)
    .bind(json(&room.full_kinds()))
    .bind(json(&room.full_tenants()))
    .fetch_all(tx)
    .await?;
    let mut claimed = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    claimed.sort_by_key(|claimed| (claimed.rank, claimed.id));
    Ok(claimed)
}

fn json(names: &[&str]) -> String {
    serde_json::to_string(names).unwrap_or_default()
}

fn read(row: &SqliteRow) -> Result<Claimed, Error> {
    decoded(claimed_row!(row).claimed())
}

async fn headroom(tx: &mut SqliteConnection, limits: &Limits) -> Result<Headroom, Error> {
    let now: i64 = sqlx::query_scalar(concat!("SELECT ", now_ms!())).fetch_one(&mut *tx).await?;
    let mut room = Headroom::new(limits.clone(), now as f64);
    let running = "SELECT kind, tenant, count(*) AS tasks FROM tasks WHERE state = 'running' GROUP BY kind, tenant";
    for row in sqlx::query(running).fetch_all(&mut *tx).await? {
        let tasks: i64 = row.try_get("tasks")?;
        room.note_running(row.try_get("kind")?, row.try_get("tenant")?, tasks as u32);
    }
    for row in sqlx::query("SELECT scope, name, arrival_ms FROM task_rates").fetch_all(tx).await? {
        room.note_arrival(row.try_get("scope")?, row.try_get("name")?, row.try_get("arrival_ms")?);
    }
    Ok(room)
}

async fn store_rates(tx: &mut SqliteConnection, room: &Headroom) -> Result<(), Error> {
    for (scope, name, arrival_ms) in room.moved() {
        sqlx::query("INSERT OR REPLACE INTO task_rates (scope, name, arrival_ms) VALUES (?1, ?2, ?3)")
            .bind(scope)
            .bind(name)
            .bind(arrival_ms)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Renews leases; says which claims still hold, and whether they are wanted.
pub(in crate::tasks) async fn beat(
    db: &SqliteDb,
    held: Vec<Held>,
    lease_ms: i64,
) -> Result<Vec<(Uuid, bool)>, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let mut heard = Vec::with_capacity(held.len());
            for held in held {
                let query = sqlx::query(concat!(
                    "UPDATE tasks SET lease_until = ?3 + ",
                    now_ms!(),
                    ", progress = coalesce(?4, progress) WHERE id = ?1 AND epoch = ?2 AND state = 'running' RETURNING cancel_wanted"
                ));
                let query = query.bind(held.id.to_string()).bind(held.epoch).bind(lease_ms).bind(held.progress);
                if let Some(row) = query.fetch_optional(&mut *tx).await? {
                    heard.push((held.id, row.try_get("cancel_wanted")?));
                }
            }
            Ok(heard)
        })
    })
    .await
}

/// Ends claims; says which still held.
pub(in crate::tasks) async fn settle(
    db: &SqliteDb,
    settled: Vec<Settled>,
    aging_ms: i64,
) -> Result<Vec<Uuid>, DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            let mut done = Vec::with_capacity(settled.len());
            for one in settled {
                let id = one.id;
                if settle_one(tx, one, aging_ms).await? {
                    done.push(id);
                }
            }
            Ok(done)
        })
    })
    .await
}

async fn settle_one(tx: &mut SqliteConnection, settled: Settled, aging_ms: i64) -> Result<bool, Error> {
    let ended = sqlx::query(concat!(
        "UPDATE tasks SET state = ?3, worker = NULL, lease_until = NULL, attempt = attempt - ?5, \
             run_at = coalesce(?4 + ",
        now_ms!(),
        ", run_at), rank = coalesce(?4 + ",
        now_ms!(),
        ", run_at) + priority * ?8, result = ?6, failures = coalesce(?7, failures), \
             ended_at = CASE WHEN ?3 IN ('completed', 'cancelled', 'discarded') THEN ",
        now_ms!(),
        " END WHERE id = ?1 AND epoch = ?2 AND state = 'running'"
    ))
    .bind(settled.id.to_string())
    .bind(settled.epoch)
    .bind(settled.state.as_str())
    .bind(settled.wait_ms)
    .bind(i32::from(settled.is_refunded))
    .bind(settled.result)
    .bind(settled.failures)
    .bind(aging_ms)
    .execute(tx)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// Claims whose lease is over.
pub(in crate::tasks) async fn expired(db: &SqliteDb, limit: u32) -> Result<Vec<Claimed>, DbError> {
    let query = sqlx::query(concat!(
        "SELECT ",
        claimed_columns!(),
        " FROM tasks WHERE state = 'running' AND lease_until < ",
        now_ms!(),
        " ORDER BY lease_until LIMIT ?1"
    ));
    let rows = query.bind(limit).fetch_all(&mut *db.read().await?).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::sqlite_plan;

    #[tokio::test]
    async fn a_claim_reads_the_waiting_in_their_order() {
        let plan = sqlite_plan(
            "SELECT id FROM tasks WHERE state IN ('available', 'retryable') AND run_at <= 1 ORDER BY rank, id LIMIT 4",
        )
        .await;
        assert!(plan.contains("INDEX tasks_waiting") && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}
