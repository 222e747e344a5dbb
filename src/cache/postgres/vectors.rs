//! Vectors of entries in Postgres, where pgvector is: the nearest of a partition that the process does not hold as a
//! whole. A small partition is compared row by row, which misses nothing. What comes to a large one goes into an index over all
//! partitions, which is read on until enough rows of this one have come; its first rows are compared as ever.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{Error, Postgres, QueryBuilder, Row};

use super::digest;
use crate::cache::entry::Entry;
use crate::cache::index::Neighbour;
use crate::cache::key::entry_id;
use crate::cache::scope::Digest;
use crate::config::VectorIndex;
use crate::db::{DbError, PostgresDb, Transaction, VectorSearch};
use crate::embedding::Embedding;

/// Up to this many vectors of a partition every one is compared: some milliseconds.
pub(in crate::cache) const EXACT_ROWS: i64 = 2_000;

/// How many vectors a partition has; not more than asked are counted.
pub(in crate::cache) const SIZE: &str =
    "SELECT count(*) FROM (SELECT FROM entry_vectors WHERE partition = $1 LIMIT $2) AS counted";

/// Every vector of a partition.
pub(in crate::cache) const EXACT: &str = "WITH mine AS MATERIALIZED ( \
         SELECT key, meaning FROM entry_vectors WHERE partition = $1 AND expires_at > $3) \
     SELECT key, 1 - (meaning <=> $2::real[]::halfvec) AS similarity FROM mine ORDER BY similarity DESC LIMIT $4";

/// Those of a large partition that are in no index.
pub(in crate::cache) const FIRST: &str = "WITH mine AS MATERIALIZED ( \
         SELECT key, meaning FROM entry_vectors WHERE partition = $1 AND NOT is_indexed AND expires_at > $3) \
     SELECT key, 1 - (meaning <=> $2::real[]::halfvec) AS similarity FROM mine ORDER BY similarity DESC LIMIT $4";

/// The others, by the index.
pub(in crate::cache) const NEAREST: &str = "SELECT key, 1 - (meaning <=> $2::real[]::halfvec) AS similarity \
     FROM entry_vectors WHERE partition = $1 AND is_indexed AND expires_at > $3 ORDER BY meaning <=> $2::real[]::halfvec LIMIT $4";

/// Whether the store has any vector of a partition.
pub(in crate::cache) async fn holds(db: &PostgresDb, tenant: &str, partition: Digest) -> Result<bool, DbError> {
    Ok(size(&mut db.read(tenant).await?, partition, 1).await? > 0)
}

/// The nearest in a partition, at most `k`, in descending similarity.
pub(in crate::cache) async fn nearest(
    db: &PostgresDb,
    search: VectorSearch,
    tenant: &str,
    partition: Digest,
    embedding: &Embedding,
    k: usize,
    now_ms: u64,
) -> Result<Vec<Neighbour>, DbError> {
    let mut tx = db.read(tenant).await?;
    let is_small = size(&mut tx, partition, EXACT_ROWS + 1).await? <= EXACT_ROWS;
    let asked = |statement: &'static str| {
        let query = sqlx::query(statement).bind(partition.0).bind(embedding.values().as_slice());
        query.bind(now_ms as i64).bind(k as i64)
    };
    let mut rows = tx.all(asked(if is_small { EXACT } else { FIRST })).await?;
    if !is_small {
        set(&mut tx, search).await?;
        rows.extend(tx.all(asked(NEAREST)).await?);
    }
    let mut found = rows.iter().map(read_neighbour).collect::<Result<Vec<_>, _>>()?;
    // IVFFlat's further lists come after its first ones.
    found.sort_by(|one, other| other.similarity.total_cmp(&one.similarity));
    found.truncate(k);
    Ok(found)
}

async fn size(tx: &mut Transaction, partition: Digest, limit: i64) -> Result<i64, DbError> {
    Ok(tx.one(sqlx::query(SIZE).bind(partition.0).bind(limit)).await?.try_get(0)?)
}

/// How the index is searched, for this transaction. That it is, does not depend on what the server has counted last: right
/// after many rows have come it would rather sort all of them.
pub(in crate::cache) async fn set(tx: &mut Transaction, search: VectorSearch) -> Result<(), DbError> {
    let (query, width) = match search.index {
        VectorIndex::IvfFlat => (
            "SELECT set_config('ivfflat.probes', $1, true), set_config('ivfflat.iterative_scan', 'relaxed_order', true), \
             set_config('enable_sort', 'off', true)",
            search.probes,
        ),
        VectorIndex::Hnsw | VectorIndex::Off => (
            "SELECT set_config('hnsw.ef_search', $1, true), set_config('hnsw.iterative_scan', 'strict_order', true), \
             set_config('enable_sort', 'off', true)",
            search.ef_search,
        ),
    };
    tx.execute(sqlx::query(query).bind(width.to_string())).await.map(drop)
}

fn read_neighbour(row: &PgRow) -> Result<Neighbour, Error> {
    let similarity = row.try_get::<f64, _>("similarity")? as f32;
    Ok(Neighbour { id: entry_id(digest(row, "key")?), similarity: similarity.clamp(-1.0, 1.0) })
}

/// An entry with its place and its vector.
pub(super) type VectorRow<'a> = (&'a Entry, Digest, Vec<f32>);

/// Those of `entries` that have one.
pub(super) fn of(entries: &[Arc<Entry>]) -> Vec<VectorRow<'_>> {
    let row = |entry: &'_ Arc<Entry>| {
        let (place, matching) = (entry.place?, entry.matching.get()?);
        Some((place.partition, matching.embedding.values().to_vec()))
    };
    entries
        .iter()
        .filter_map(|entry| row(entry).map(|(partition, meaning)| (entry.as_ref(), partition, meaning)))
        .collect()
}

/// Has a statement store them, beside their entries, which it may have written itself. The first of a partition go into no
/// index: they are compared as a whole.
pub(super) fn push(query: &mut QueryBuilder<Postgres>, rows: Vec<VectorRow<'_>>) {
    query.push(
        "INSERT INTO entry_vectors (key, tenant, partition, expires_at, meaning, is_indexed) \
         SELECT *, (SELECT count(*) FROM (SELECT FROM entry_vectors AS known WHERE known.partition = added.partition \
             AND NOT is_indexed LIMIT ",
    );
    query.push_bind(EXACT_ROWS).push(") AS first) >= ").push_bind(EXACT_ROWS).push(" FROM (");
    query.push_values(rows, |mut values, (entry, partition, meaning)| {
        values
            .push_bind(entry.key.0)
            .push_bind(entry.tenant.clone())
            .push_bind(partition.0)
            .push_bind(entry.expires_at_ms as i64)
            .push_bind(meaning);
    });
    query.push(
        ") AS added (key, tenant, partition, expires_at, meaning) \
         ON CONFLICT (key) DO UPDATE SET tenant = excluded.tenant, partition = excluded.partition, \
         expires_at = excluded.expires_at, meaning = excluded.meaning, is_indexed = excluded.is_indexed",
    );
}
