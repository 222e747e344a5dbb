//! Tasks in work: claimed, held, settled, and lost.

use sqlx::postgres::PgRow;
use sqlx::{Error, Row};
use uuid::Uuid;

use super::decoded;
use crate::db::{DbError, PostgresDb, Purpose, Transaction};
use crate::tasks::headroom::{Headroom, Limits};
use crate::tasks::stored::{Claim, Claimed, Held, Settled, claimed_row};

/// Held by who claims where limits hold: "ishtasks".
const LOCK: i64 = 0x6973_6874_6173_6b73;

/// The columns of a claimed task.
macro_rules! claimed_columns {
    () => {
        "tasks.id::text, tenant, kind, version, priority, arguments, attempt, max_attempts, epoch, cancel_wanted, failures, \
         tasks.rank, ish_now_ms() - run_at AS waited_ms"
    };
}

pub(in crate::tasks) async fn claim(db: &PostgresDb, claim: Claim, limits: &Limits) -> Result<Vec<Claimed>, DbError> {
    let mut tx = db.system(Purpose::Tasks).await?;
    let claimed = if limits.are_none() {
        claim_some(&mut tx, &claim, claim.count, &Headroom::default()).await?
    } else {
        claim_within(&mut tx, &claim, limits).await?
    };
    if !claimed.is_empty() {
        tx.commit().await?;
    }
    Ok(claimed)
}

/// One after the other, so that each is counted before the next.
async fn claim_within(tx: &mut Transaction, claim: &Claim, limits: &Limits) -> Result<Vec<Claimed>, DbError> {
    tx.execute(sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK)).await?;
    let mut room = headroom(tx, limits).await?;
    let mut claimed = Vec::new();
    while claimed.len() < claim.count as usize {
        let Some(one) = claim_some(tx, claim, 1, &room).await?.pop() else { break };
        room.take(&one.kind, &one.tenant);
        claimed.push(one);
    }
    store_rates(tx, &room).await?;
    Ok(claimed)
}

/// What others claim, settle or cancel at this moment is passed over. What is paused is a subquery: of an array the planner
/// would think that it holds every kind, and sort all that waits.
pub(in crate::tasks) const CLAIM: &str = concat!(
    "WITH next AS MATERIALIZED ( \
         SELECT id FROM tasks WHERE state IN ('available', 'retryable') AND run_at <= ish_now_ms() \
             AND version <= ($1::jsonb ->> kind)::int AND kind <> ALL ($5) AND tenant <> ALL ($6) \
             AND kind NOT IN (SELECT name FROM task_pauses WHERE scope = 'kind') \
             AND queue NOT IN (SELECT name FROM task_pauses WHERE scope = 'queue') \
         ORDER BY rank, id LIMIT $3 FOR UPDATE SKIP LOCKED) \
     UPDATE tasks SET state = 'running', attempt = attempt + 1, epoch = epoch + 1, worker = $2, \
         started_at = ish_now_ms(), lease_until = ish_now_ms() + $4 FROM next WHERE tasks.id = next.id RETURNING ",
    claimed_columns!()
);

async fn claim_some(tx: &mut Transaction, claim: &Claim, count: u32, room: &Headroom) -> Result<Vec<Claimed>, DbError> {
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let query = sqlx::query(CLAIM)
        .bind(&claim.versions)
        .bind(claim.worker)
        .bind(i64::from(count))
        .bind(claim.lease_ms)
        .bind(owned(room.full_kinds()))
        .bind(owned(room.full_tenants()));
    let rows = tx.all(query).await?;
    let mut claimed = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    claimed.sort_by_key(|claimed| (claimed.rank, claimed.id));
    Ok(claimed)
}

fn read(row: &PgRow) -> Result<Claimed, Error> {
    decoded(claimed_row!(row).claimed())
}

async fn headroom(tx: &mut Transaction, limits: &Limits) -> Result<Headroom, DbError> {
    let now: i64 = tx.one(sqlx::query("SELECT ish_now_ms()")).await?.try_get(0)?;
    let mut room = Headroom::new(limits.clone(), now as f64);
    let running = "SELECT kind, tenant, count(*) AS tasks FROM tasks WHERE state = 'running' GROUP BY kind, tenant";
    for row in tx.all(sqlx::query(running)).await? {
        let tasks: i64 = row.try_get("tasks")?;
        room.note_running(row.try_get("kind")?, row.try_get("tenant")?, tasks as u32);
    }
    for row in tx.all(sqlx::query("SELECT scope, name, arrival_ms FROM task_rates")).await? {
        room.note_arrival(row.try_get("scope")?, row.try_get("name")?, row.try_get("arrival_ms")?);
    }
    Ok(room)
}

async fn store_rates(tx: &mut Transaction, room: &Headroom) -> Result<(), DbError> {
    for (scope, name, arrival_ms) in room.moved() {
        let query = sqlx::query(
            "INSERT INTO task_rates (scope, name, arrival_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (scope, name) DO UPDATE SET arrival_ms = excluded.arrival_ms",
        );
        tx.execute(query.bind(scope).bind(name).bind(arrival_ms)).await?;
    }
    Ok(())
}

/// Renews leases; says which claims still hold, and whether they are wished to end.
pub(in crate::tasks) async fn beat(
    db: &PostgresDb,
    held: Vec<Held>,
    lease_ms: i64,
) -> Result<Vec<(Uuid, bool)>, DbError> {
    let query = sqlx::query(
        "WITH held AS MATERIALIZED ( \
             SELECT tasks.id, said.progress FROM tasks \
             JOIN unnest($1::uuid[], $2::bigint[], $3::text[]) AS said (id, epoch, progress) \
                 ON tasks.id = said.id AND tasks.epoch = said.epoch \
             WHERE tasks.state = 'running' ORDER BY tasks.id FOR UPDATE OF tasks) \
         UPDATE tasks SET lease_until = ish_now_ms() + $4, progress = coalesce(held.progress, tasks.progress) \
         FROM held WHERE tasks.id = held.id RETURNING tasks.id, cancel_wanted",
    );
    let query = query
        .bind(held.iter().map(|held| held.id).collect::<Vec<_>>())
        .bind(held.iter().map(|held| held.epoch).collect::<Vec<_>>())
        .bind(held.into_iter().map(|held| held.progress).collect::<Vec<_>>())
        .bind(lease_ms);
    let mut tx = db.system(Purpose::Tasks).await?;
    let rows = tx.all(query).await?;
    tx.commit().await?;
    let heard = |row: &PgRow| Ok((row.try_get("id")?, row.try_get("cancel_wanted")?));
    Ok(rows.iter().map(heard).collect::<Result<_, Error>>()?)
}

/// Ends claims; says which still held.
pub(in crate::tasks) async fn settle(
    db: &PostgresDb,
    settled: Vec<Settled>,
    aging_ms: i64,
) -> Result<Vec<Uuid>, DbError> {
    fn column<T>(settled: &[Settled], of: impl Fn(&Settled) -> T) -> Vec<T> {
        settled.iter().map(of).collect()
    }
    let query = sqlx::query(
        "WITH settled AS MATERIALIZED ( \
             SELECT tasks.id, said.state, ish_now_ms() + said.wait AS run_at, said.refund, said.result, said.failures FROM tasks \
             JOIN unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::int[], $6::text[], $7::text[]) \
                 AS said (id, epoch, state, wait, refund, result, failures) \
                 ON tasks.id = said.id AND tasks.epoch = said.epoch \
             WHERE tasks.state = 'running' ORDER BY tasks.id FOR UPDATE OF tasks) \
         UPDATE tasks SET state = settled.state, worker = NULL, lease_until = NULL, attempt = attempt - settled.refund, \
             run_at = coalesce(settled.run_at, tasks.run_at), \
             rank = coalesce(settled.run_at, tasks.run_at) + priority * $8, \
             result = settled.result, failures = coalesce(settled.failures, tasks.failures), \
             ended_at = CASE WHEN settled.state IN ('completed', 'cancelled', 'discarded') THEN ish_now_ms() END \
         FROM settled WHERE tasks.id = settled.id RETURNING tasks.id",
    )
    .bind(column(&settled, |one| one.id))
    .bind(column(&settled, |one| one.epoch))
    .bind(column(&settled, |one| one.state.as_str()))
    .bind(column(&settled, |one| one.wait_ms))
    .bind(column(&settled, |one| i32::from(one.is_refunded)))
    .bind(column(&settled, |one| one.result.clone()))
    .bind(column(&settled, |one| one.failures.clone()))
    .bind(aging_ms);
    let mut tx = db.system(Purpose::Tasks).await?;
    let rows = tx.all(query).await?;
    tx.commit().await?;
    Ok(rows.iter().map(|row| row.try_get("id")).collect::<Result<_, Error>>()?)
}

/// Claims whose lease is over.
pub(in crate::tasks) async fn expired(db: &PostgresDb, limit: u32) -> Result<Vec<Claimed>, DbError> {
    let query = sqlx::query(concat!(
        "SELECT ",
        claimed_columns!(),
        " FROM tasks WHERE state = 'running' AND lease_until < ish_now_ms() ORDER BY lease_until LIMIT $1"
    ));
    let rows = db.system(Purpose::Tasks).await?.all(query.bind(i64::from(limit))).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}
