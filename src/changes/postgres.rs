//! The log's table: one verb per function. It is written by whoever's transaction it belongs to, and read across tenants.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{Change, Kind, Read};
use crate::db::{DbError, Name, PostgresDb, Purpose, Transaction, Written};

/// How many seconds a change is kept.
const KEPT_S: i64 = 3_600;

/// Rows deleted at once.
pub(super) const DELETED: u64 = 1_000;

/// Taken by who deletes: "ishtrim".
const LOCK: i64 = 0x69_7368_7472_696d;

/// Behind which row a reader is, in the order of transactions.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub xid: String,
    pub id: i64,
}

/// A row, and where it stands.
pub(super) struct Entry {
    pub position: Position,
    /// Whether nothing can come before it any more.
    pub is_settled: bool,
    pub read: Read,
}

/// Writes a change down, to be committed with what it tells of.
///
/// # Errors
/// When the statement fails.
pub async fn note(tx: &mut Transaction, change: &Change) -> Result<(), DbError> {
    let query = sqlx::query(
        "INSERT INTO changes (kind, tenant, generation, selection, digests, made_by) VALUES ($1, $2, $3, $4, $5, $6)",
    );
    let query = query
        .bind(change.kind.as_str())
        .bind(&change.tenant)
        .bind(change.generation.map(|generation| generation as i64))
        .bind(&change.selection)
        .bind(&change.digests)
        .bind(tx.changes());
    tx.execute(query).await?;
    Ok(())
}

/// Commits with changes of one kind that are a tenant's names and nothing else, in the message of the commit.
///
/// # Errors
/// As [`Transaction::commit_with`].
pub async fn commit_noting(
    mut tx: Transaction,
    kind: Kind,
    names: impl Iterator<Item = (&str, &[u8])>,
) -> Result<(), DbError> {
    let (tenants, digests): (Vec<_>, Vec<_>) = names.map(|(tenant, digests)| (Name(tenant), digests)).unzip();
    let noted = Written::new(
        "INSERT INTO changes (kind, tenant, digests, made_by) SELECT $1, tenant, digests, $2 \
         FROM unnest($3, $4) AS noted (tenant, digests)",
    );
    let noted = noted.bind(Name(kind.as_str())).bind(tx.changes()).bind(tenants).bind(digests);
    tx.commit_with(&noted).await
}

/// The next changes, and whether some were deleted unread: a row that says so where there are none.
const AFTER: &str = "SELECT (deleted.xid, deleted.id) > ($1::xid8, $2) AS is_behind, change.position, change.id, is_settled, kind, \
     tenant, generation, selection, digests, made_by, age_s \
     FROM changes_deleted AS deleted LEFT JOIN LATERAL ( \
         SELECT xid, xid::text AS position, id, xid < pg_snapshot_xmin(pg_current_snapshot()) AS is_settled, kind, tenant, \
             generation, selection, digests, made_by, extract(epoch FROM clock_timestamp() - at)::float8 AS age_s \
         FROM changes \
         WHERE (xid, id) > ($1::xid8, $2) AND (id <> ALL ($3) OR xid < pg_snapshot_xmin(pg_current_snapshot())) \
         ORDER BY xid, id LIMIT $4) AS change ON true \
     ORDER BY change.xid, change.id";

/// Where a reader begins that is about to read all else, and the numbers of what is committed beyond there already.
pub(super) async fn now(db: &PostgresDb) -> Result<(Position, Vec<i64>), DbError> {
    let query = sqlx::query(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text, \
         ARRAY(SELECT id FROM changes WHERE xid >= pg_snapshot_xmin(pg_current_snapshot()))",
    );
    let row = db.system(Purpose::Changes).await?.one(query).await?;
    Ok((Position { xid: row.try_get(0)?, id: 0 }, row.try_get(1)?))
}

/// The next changes behind `position`: of those that something may still come before, all but the `ahead` that were read.
/// `None` where some were deleted unread.
pub(super) async fn after(
    db: &PostgresDb,
    position: &Position,
    ahead: &[i64],
    limit: usize,
) -> Result<Option<Vec<Entry>>, DbError> {
    let asked = Written::new(AFTER).bind(Name(&position.xid)).bind(position.id).bind(ahead.to_vec()).bind(limit as i64);
    let rows = db.ask_system(Purpose::Changes, &asked).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get("is_behind")? {
            return Ok(None);
        }
        if row.try_get::<Option<i64>, _>("id")?.is_some() {
            entries.push(entry(row, db.writer())?);
        }
    }
    Ok(Some(entries))
}

fn entry(row: &PgRow, writer: Uuid) -> Result<Entry, sqlx::Error> {
    let kind = row.try_get::<&str, _>("kind")?;
    let change = Change {
        kind: Kind::parse(kind).ok_or_else(|| sqlx::Error::Decode(format!("a change of kind {kind}").into()))?,
        tenant: row.try_get("tenant")?,
        generation: row.try_get::<Option<i64>, _>("generation")?.map(|generation| generation as u64),
        selection: row.try_get("selection")?,
        digests: row.try_get("digests")?,
    };
    let is_ours = row.try_get::<Uuid, _>("made_by")? == writer;
    Ok(Entry {
        position: Position { xid: row.try_get("position")?, id: row.try_get("id")? },
        is_settled: row.try_get("is_settled")?,
        read: Read { change, is_ours, age_s: row.try_get("age_s")? },
    })
}

/// Deletes some of what is older than it is kept, unless another instance is at it. Only what every reader who reads on
/// has long passed.
pub(super) async fn trim(db: &PostgresDb) -> Result<u64, DbError> {
    let mut tx = db.system(Purpose::Changes).await?;
    let lock = sqlx::query("SELECT pg_try_advisory_xact_lock($1)").bind(LOCK);
    if !tx.one(lock).await?.try_get::<bool, _>(0)? {
        return Ok(0);
    }
    let delete = sqlx::query(
        "WITH oldest AS (SELECT xid, id, at FROM changes WHERE xid < pg_snapshot_xmin(pg_current_snapshot()) \
             ORDER BY xid, id LIMIT $2), \
         gone AS (DELETE FROM changes USING oldest WHERE changes.xid = oldest.xid AND changes.id = oldest.id \
             AND oldest.at < clock_timestamp() - make_interval(secs => $1) RETURNING changes.xid, changes.id) \
         UPDATE changes_deleted SET xid = last.xid, id = last.id \
             FROM (SELECT xid, id FROM gone ORDER BY xid DESC, id DESC LIMIT 1) AS last RETURNING (SELECT count(*) FROM gone)",
    );
    let deleted = tx.optional(delete.bind(KEPT_S as f64).bind(DELETED as i64)).await?;
    tx.commit().await?;
    Ok(deleted.map_or(Ok(0), |row| row.try_get::<i64, _>(0))? as u64)
}
