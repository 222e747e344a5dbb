//! L3 in SQLite: entries with their vectors, and blocked pairs. One verb per function.

use std::sync::{Arc, OnceLock};

use sqlx::query_builder::Separated;
use sqlx::sqlite::SqliteRow;
use sqlx::{Error, QueryBuilder, Row, Sqlite, SqliteConnection};

use super::entry::{Entry, Matching};
use super::index::EntryId;
use super::key::{Keys, Place};
use super::known::KnownKeys;
use super::memory::FoundBy;
use super::scope::Digest;
use super::stored::{Deleted, IndexRow, Moved, Selection, StoredFigures, key_range};
use super::touched::Person;
use crate::db::packed::{pack, text};
use crate::db::{DbError, SqliteDb};
use crate::embedding::{Embedding, WordVectors};

pub(super) async fn find(
    db: &SqliteDb,
    tenant: &str,
    keys: &Keys,
    now_ms: u64,
) -> Result<Option<(Arc<Entry>, FoundBy)>, DbError> {
    let normalized = keys.place().map(|place| place.normalized.0.to_vec());
    let row = sqlx::query(
        // The plus keeps the index on the tenant out of it.
        "SELECT * FROM entries WHERE (key = ?1 OR normalized = ?2) AND +tenant = ?4 AND expires_at > ?3 \
         ORDER BY key = ?1 DESC, created_at DESC LIMIT 1",
    )
    .bind(keys.exact.0.to_vec())
    .bind(normalized)
    .bind(now_ms as i64)
    .bind(tenant)
    .fetch_optional(&mut *db.read().await?)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let entry = read_entry(&row)?;
    let found_by = if entry.key == keys.exact { FoundBy::Exact } else { FoundBy::Normalized };
    Ok(Some((Arc::new(entry), found_by)))
}

pub(super) async fn by_ids(
    db: &SqliteDb,
    tenant: &str,
    ids: &[EntryId],
    now_ms: u64,
) -> Result<Vec<Arc<Entry>>, DbError> {
    let mut connection = db.read().await?;
    let mut entries = Vec::with_capacity(ids.len());
    for id in ids {
        let (low, high) = key_range(*id);
        let query =
            sqlx::query("SELECT * FROM entries WHERE key >= ?1 AND key <= ?2 AND +tenant = ?4 AND expires_at > ?3");
        let query = query.bind(low).bind(high).bind(now_ms as i64).bind(tenant);
        if let Some(row) = query.fetch_optional(&mut *connection).await? {
            entries.push(Arc::new(read_entry(&row)?));
        }
    }
    Ok(entries)
}

pub(super) async fn by_key(db: &SqliteDb, tenant: &str, key: Digest) -> Result<Option<Arc<Entry>>, DbError> {
    let query = sqlx::query("SELECT * FROM entries WHERE key = ?1 AND tenant = ?2").bind(key.0.to_vec()).bind(tenant);
    let row = query.fetch_optional(&mut *db.read().await?).await?;
    Ok(row.as_ref().map(read_entry).transpose()?.map(Arc::new))
}

pub(super) async fn newest(
    db: &SqliteDb,
    tenant: &str,
    limit: usize,
    containing: &str,
) -> Result<Vec<Arc<Entry>>, DbError> {
    let query = sqlx::query(
        "SELECT * FROM entries WHERE tenant = ?1 AND instr(lower(prompt), lower(?3)) > 0 ORDER BY created_at DESC LIMIT ?2",
    );
    let rows = query.bind(tenant).bind(limit as i64).bind(containing).fetch_all(&mut *db.read().await?).await?;
    Ok(rows.iter().map(|row| read_entry(row).map(Arc::new)).collect::<Result<_, _>>()?)
}

/// Stores `entries` with one statement: each statement passes between threads twice, which costs more than a row.
pub(super) async fn insert(db: &SqliteDb, known: &Arc<KnownKeys>, entries: Vec<Arc<Entry>>) -> Result<(), DbError> {
    let known = Arc::clone(known);
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        rows.push(EntryRow::of(entry).await?);
    }
    db.write(move |tx| Box::pin(async move { write(tx, &known, &rows).await })).await
}

async fn write(tx: &mut SqliteConnection, known: &KnownKeys, rows: &[EntryRow]) -> Result<(), Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT OR REPLACE INTO entries (key, normalized, partition, tenant, scope, prompt, completion, packed, provider, \
         elapsed_ms, tags, embedder, embedding, words, created_at, expires_at, made_by) ",
    );
    query.push_values(rows, |values, row| row.bind(values));
    // Groups have many sizes: a statement kept for each would push the others out.
    query.build().persistent(false).execute(tx).await?;
    for EntryRow { entry, .. } in rows {
        known.learn(entry.key, entry.place.map(|place| place.normalized));
    }
    Ok(())
}

/// The next entries of other embedders behind `after`, in key order.
pub(super) async fn foreign(
    db: &SqliteDb,
    embedder: &str,
    after: Option<Digest>,
    limit: usize,
    now_ms: u64,
) -> Result<Vec<Arc<Entry>>, DbError> {
    let rows = sqlx::query(
        "SELECT * FROM entries WHERE key > ?1 AND json_extract(scope, '$.embedder') <> ?2 AND expires_at > ?4 \
         ORDER BY key LIMIT ?3",
    )
    .bind(after.map_or_else(Vec::new, |key| key.0.to_vec()))
    .bind(embedder)
    .bind(limit as i64)
    .bind(now_ms as i64)
    .fetch_all(&mut *db.read().await?)
    .await?;
    Ok(rows.iter().map(|row| read_entry(row).map(Arc::new)).collect::<Result<_, _>>()?)
}

/// The embedder that was noted last, and whether there are entries.
pub(super) async fn noted_embedder(db: &SqliteDb) -> Result<(Option<String>, bool), DbError> {
    let noted = "SELECT (SELECT embedder FROM cache_embedder) AS embedder, EXISTS (SELECT 1 FROM entries) AS entries";
    let row = sqlx::query(noted).fetch_one(&mut *db.read().await?).await?;
    Ok((row.try_get("embedder")?, row.try_get("entries")?))
}

pub(super) async fn note_embedder(db: &SqliteDb, embedder: &str) -> Result<(), DbError> {
    let embedder = embedder.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            let noted = "INSERT INTO cache_embedder (embedder) VALUES (?1) ON CONFLICT DO UPDATE SET embedder = ?1";
            sqlx::query(noted).bind(embedder).execute(tx).await.map(drop)
        })
    })
    .await
}

/// Puts entries in the place of others, but for those that are gone by now; says how many.
pub(super) async fn replace(db: &SqliteDb, known: &Arc<KnownKeys>, moved: Vec<Moved>) -> Result<usize, DbError> {
    let (known, mut gone) = (Arc::clone(known), known.forgetting());
    let mut rows = Vec::with_capacity(moved.len());
    for Moved { key, place, entry, .. } in moved {
        rows.push((key, place, EntryRow::of(entry).await?));
    }
    let (count, gone) = db
        .write(move |tx| {
            Box::pin(async move {
                let mut kept = Vec::with_capacity(rows.len());
                for (key, place, row) in rows {
                    let deleted = sqlx::query("DELETE FROM entries WHERE key = ?1").bind(key.0.to_vec());
                    if deleted.execute(&mut *tx).await?.rows_affected() == 1 {
                        gone.forget(key, place);
                        kept.push(row);
                    }
                }
                if !kept.is_empty() {
                    write(tx, &known, &kept).await?;
                }
                Ok((kept.len(), gone))
            })
        })
        .await?;
    gone.committed();
    Ok(count)
}

/// An entry as its row, with what had to be written as text.
struct EntryRow {
    entry: Arc<Entry>,
    /// Empty where it is packed.
    completion: String,
    packed: Option<Vec<u8>>,
    tags: String,
}

impl EntryRow {
    async fn of(entry: Arc<Entry>) -> Result<Self, Error> {
        let mut completion =
            serde_json::to_string(entry.completion.as_ref()).map_err(|error| Error::Encode(Box::new(error)))?;
        let packed = pack(&completion).await;
        if packed.is_some() {
            completion.clear();
        }
        let tags = serde_json::json!(entry.tags).to_string();
        Ok(Self { entry, completion, packed, tags })
    }

    fn bind(&self, mut values: Separated<'_, Sqlite, &'static str>) {
        let Self { entry, completion, packed, tags } = self;
        let matching = entry.matching.get();
        values
            .push_bind(&entry.key.0[..])
            .push_bind(entry.place.map(|place| place.normalized.0.to_vec()))
            .push_bind(entry.place.map(|place| place.partition.0.to_vec()))
            .push_bind(&entry.tenant)
            .push_bind(&entry.scope)
            .push_bind(&entry.prompt)
            .push_bind(completion)
            .push_bind(packed.as_deref())
            .push_bind(&entry.provider)
            .push_bind(entry.elapsed_ms as i64)
            .push_bind(tags)
            .push_bind(matching.map(|matching| matching.embedder.as_str()))
            .push_bind(matching.map(|matching| matching.embedding.to_bytes()))
            .push_bind(matching.map(|matching| matching.words.to_bytes()))
            .push_bind(entry.created_at_ms as i64)
            .push_bind(entry.expires_at_ms as i64)
            .push_bind(entry.made_by.map(|person| person.bytes().to_vec()));
    }
}

/// Deletes a tenant's entries and returns their keys and places, so that the other tiers can follow.
pub(super) async fn delete(
    db: &SqliteDb,
    known: &Arc<KnownKeys>,
    tenant: &str,
    selection: Selection,
) -> Result<Deleted, DbError> {
    let (tenant, mut gone) = (tenant.to_owned(), known.forgetting());
    let gone = db.write(move |tx| {
        Box::pin(async move {
            let query = match &selection {
                Selection::Key(key) => sqlx::query("DELETE FROM entries WHERE tenant = ?1 AND key = ?2 RETURNING key, normalized, partition").bind(tenant).bind(key.0.to_vec()),
                Selection::Tag(tag) => sqlx::query("DELETE FROM entries WHERE tenant = ?1 AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?2) RETURNING key, normalized, partition").bind(tenant).bind(tag.clone()),
                Selection::Model(model) => sqlx::query("DELETE FROM entries WHERE tenant = ?1 AND json_extract(scope, '$.model') = ?2 RETURNING key, normalized, partition").bind(tenant).bind(model.clone()),
                Selection::OlderThan(ms) => sqlx::query("DELETE FROM entries WHERE tenant = ?1 AND created_at < ?2 RETURNING key, normalized, partition").bind(tenant).bind(*ms as i64),
                Selection::All => sqlx::query("DELETE FROM entries WHERE tenant = ?1 RETURNING key, normalized, partition").bind(tenant),
            };
            for row in query.fetch_all(tx).await? {
                gone.forget(digest(&row, "key")?, read_place(&row)?);
            }
            Ok(gone)
        })
    });
    Ok(Deleted { gone: gone.await?.committed(), generation: 0 })
}

/// Deletes what has expired; says how many entries.
pub(super) async fn expire(db: &SqliteDb, known: &Arc<KnownKeys>, now_ms: u64) -> Result<u64, DbError> {
    let mut gone = known.forgetting();
    let (count, gone) = db
        .write(move |tx| {
            Box::pin(async move {
                let query =
                    sqlx::query("DELETE FROM entries WHERE expires_at <= ?1 RETURNING key, normalized, partition");
                let rows = query.bind(now_ms as i64).fetch_all(tx).await?;
                for row in &rows {
                    gone.forget(digest(row, "key")?, read_place(row)?);
                }
                Ok((rows.len() as u64, gone))
            })
        })
        .await?;
    gone.committed();
    Ok(count)
}

/// The next rows of the load at start after `after`, in key order.
pub(super) async fn index_rows(
    db: &SqliteDb,
    embedder: &str,
    after: Option<Digest>,
    limit: usize,
    now_ms: u64,
) -> Result<Vec<IndexRow>, DbError> {
    let rows = sqlx::query(
        "SELECT key, normalized, partition, CASE WHEN embedder = ?2 THEN embedding END AS embedding, expires_at \
         FROM entries WHERE key > ?1 AND expires_at > ?4 ORDER BY key LIMIT ?3",
    )
    .bind(after.map_or_else(Vec::new, |key| key.0.to_vec()))
    .bind(embedder)
    .bind(limit as i64)
    .bind(now_ms as i64)
    .fetch_all(&mut *db.read().await?)
    .await?;
    let read = |row: &SqliteRow| -> Result<IndexRow, Error> {
        let embedding = row.try_get::<Option<&[u8]>, _>("embedding")?.map(Embedding::from_bytes).transpose();
        Ok(IndexRow {
            key: digest(row, "key")?,
            place: read_place(row)?,
            embedding: embedding.map_err(|error| Error::Decode(Box::new(error)))?,
            expires_at_ms: row.try_get::<i64, _>("expires_at")? as u64,
        })
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

pub(super) async fn figures(db: &SqliteDb) -> Result<StoredFigures, DbError> {
    let row = sqlx::query(
        "SELECT count(*) AS entries, count(embedding) AS embedded, \
         (SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()) AS bytes FROM entries",
    )
    .fetch_one(&mut *db.read().await?)
    .await?;
    let count = |name: &str| -> Result<u64, Error> { Ok(row.try_get::<i64, _>(name)? as u64) };
    Ok(StoredFigures { entries: count("entries")?, embedded: count("embedded")?, bytes: count("bytes")? })
}

pub(super) async fn block(
    db: &SqliteDb,
    tenant: &str,
    asked: Digest,
    answered: Digest,
    now_ms: u64,
) -> Result<(), DbError> {
    let tenant = tenant.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            sqlx::query(
                "INSERT OR IGNORE INTO blocked_pairs (asked, answered, tenant, created_at) VALUES (?1, ?2, ?3, ?4)",
            )
            .bind(asked.0.to_vec())
            .bind(answered.0.to_vec())
            .bind(tenant)
            .bind(now_ms as i64)
            .execute(tx)
            .await
            .map(drop)
        })
    })
    .await
}

pub(super) async fn blocked_pairs(db: &SqliteDb) -> Result<Vec<(Digest, Digest)>, DbError> {
    let rows = sqlx::query("SELECT asked, answered FROM blocked_pairs").fetch_all(&mut *db.read().await?).await?;
    Ok(rows
        .iter()
        .map(|row| Ok::<_, Error>((digest(row, "asked")?, digest(row, "answered")?)))
        .collect::<Result<_, _>>()?)
}

fn digest(row: &SqliteRow, name: &str) -> Result<Digest, Error> {
    let bytes: &[u8] = row.try_get(name)?;
    bytes.try_into().map(Digest).map_err(|error| Error::Decode(Box::new(error)))
}

fn read_place(row: &SqliteRow) -> Result<Option<Place>, Error> {
    if row.try_get::<Option<&[u8]>, _>("normalized")?.is_none()
        || row.try_get::<Option<&[u8]>, _>("partition")?.is_none()
    {
        return Ok(None);
    }
    Ok(Some(Place { normalized: digest(row, "normalized")?, partition: digest(row, "partition")? }))
}

fn read_entry(row: &SqliteRow) -> Result<Entry, Error> {
    let entry = Entry {
        key: digest(row, "key")?,
        place: read_place(row)?,
        tenant: row.try_get("tenant")?,
        scope: row.try_get("scope")?,
        prompt: row.try_get("prompt")?,
        completion: Arc::new(parsed(&text(row, "completion", "packed")?)?),
        provider: row.try_get("provider")?,
        elapsed_ms: row.try_get::<i64, _>("elapsed_ms")? as u64,
        made_by: row.try_get::<Option<&[u8]>, _>("made_by")?.and_then(Person::from_bytes),
        tags: parsed(row.try_get("tags")?)?,
        generation: None,
        created_at_ms: row.try_get::<i64, _>("created_at")? as u64,
        expires_at_ms: row.try_get::<i64, _>("expires_at")? as u64,
        matching: OnceLock::new(),
        templates: OnceLock::new(),
    };
    if let Some(matching) = read_matching(row)? {
        // The cell is new: setting it cannot fail.
        let _ = entry.matching.set(matching);
    }
    Ok(entry)
}

fn read_matching(row: &SqliteRow) -> Result<Option<Matching>, Error> {
    let columns = (
        row.try_get::<Option<String>, _>("embedder")?,
        row.try_get::<Option<&[u8]>, _>("embedding")?,
        row.try_get::<Option<&[u8]>, _>("words")?,
    );
    let (Some(embedder), Some(embedding), Some(words)) = columns else { return Ok(None) };
    let embedding = Embedding::from_bytes(embedding).map_err(|error| Error::Decode(Box::new(error)))?;
    let words = WordVectors::from_bytes(words).map_err(|error| Error::Decode(Box::new(error)))?;
    Ok(Some(Matching::new(embedder, embedding, words)))
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Decode(Box::new(error)))
}

#[cfg(test)]
mod tests;
