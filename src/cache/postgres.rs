//! L3 in Postgres: entries with their vectors, and blocked pairs. One verb per function. What asks for one tenant runs as
//! that tenant; the load, the sweep and the writer's groups cross tenants. Each write tells other instances of itself in its
//! own transaction ([`told`]).
//!
//! Other instances write as well, so that nothing is known of what the store does not hold ([`KnownKeys`] stays empty).

mod told;
pub(super) mod vectors;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

use sqlx::postgres::PgRow;
use sqlx::query_builder::Separated;
use sqlx::{Error, Postgres, QueryBuilder, Row};

use super::entry::{Entry, Matching};
use super::index::EntryId;
use super::key::{Keys, Place};
use super::known::KnownKeys;
use super::memory::FoundBy;
use super::scope::Digest;
use super::stored::{Deleted, IndexRow, Moved, Selection, StoredFigures, key_range};
use super::touched::Person;
use crate::changes::note;
use crate::db::{DbError, Name, PostgresDb, Purpose, Transaction, Written, without_nul};
use crate::embedding::{Embedding, WordVectors};

pub(super) use told::generations;

/// An exact match before a normalized one, then the newest.
pub(super) const FIND: &str = "SELECT * FROM entries WHERE (key = $1 OR normalized = $2) AND expires_at > $3 \
         ORDER BY key = $1 DESC, created_at DESC LIMIT 1";

/// By the ranges of keys that identifiers of the index stand for, each sought by itself: joined as a whole, a tenant's entries were
/// all read and compared wherever the planner took a tenant for small.
pub(super) const BY_IDS: &str = "SELECT entry.* FROM unnest($1::bytea[], $2::bytea[]) AS wanted (low, high) \
         CROSS JOIN LATERAL (SELECT * FROM entries WHERE key BETWEEN low AND high ORDER BY key LIMIT 1) AS entry WHERE entry.expires_at > $3";

/// A page of the load.
pub(super) const INDEX_ROWS: &str = "SELECT key, normalized, partition, CASE WHEN embedder = $2 THEN embedding END AS embedding, expires_at \
         FROM entries WHERE key > $1 AND expires_at > $4 ORDER BY key LIMIT $3";

pub(super) async fn find(
    db: &PostgresDb,
    tenant: &str,
    keys: &Keys,
    now_ms: u64,
) -> Result<Option<(Arc<Entry>, FoundBy)>, DbError> {
    let asked = Written::new(FIND).bind(keys.exact.0).bind(keys.place().map(|place| place.normalized.0));
    let rows = db.ask(tenant, &asked.bind(now_ms as i64)).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let entry = read_entry(row)?;
    let found_by = if entry.key == keys.exact { FoundBy::Exact } else { FoundBy::Normalized };
    Ok(Some((Arc::new(entry), found_by)))
}

pub(super) async fn by_ids(
    db: &PostgresDb,
    tenant: &str,
    ids: &[EntryId],
    now_ms: u64,
) -> Result<Vec<Arc<Entry>>, DbError> {
    let ranges: Vec<_> = ids.iter().map(|id| key_range(*id)).collect();
    let (low, high): (Vec<_>, Vec<_>) = ranges.iter().map(|(low, high)| (low.as_slice(), high.as_slice())).unzip();
    let asked = Written::new(BY_IDS).bind(low).bind(high).bind(now_ms as i64);
    let rows = db.ask(tenant, &asked).await?;
    Ok(rows.iter().map(|row| read_entry(row).map(Arc::new)).collect::<Result<_, _>>()?)
}

pub(super) async fn by_key(db: &PostgresDb, tenant: &str, key: Digest) -> Result<Option<Arc<Entry>>, DbError> {
    let rows = db.ask(tenant, &Written::new("SELECT * FROM entries WHERE key = $1").bind(key.0)).await?;
    Ok(rows.first().map(read_entry).transpose()?.map(Arc::new))
}

pub(super) async fn newest(
    db: &PostgresDb,
    tenant: &str,
    limit: usize,
    containing: &str,
) -> Result<Vec<Arc<Entry>>, DbError> {
    let query = sqlx::query(
        "SELECT * FROM entries WHERE tenant = $1 AND strpos(lower(prompt), lower($2)) > 0 ORDER BY created_at DESC LIMIT $3",
    );
    let query = query.bind(tenant).bind(without_nul(containing)).bind(limit as i64);
    let rows = db.read(tenant).await?.all(query).await?;
    Ok(rows.iter().map(|row| read_entry(row).map(Arc::new)).collect::<Result<_, _>>()?)
}

/// Stores `entries` with one statement. In the order of their keys, so that no two instances wait for each other; of two
/// for one key the later stays.
pub(super) async fn insert(db: &PostgresDb, _known: &Arc<KnownKeys>, entries: Vec<Arc<Entry>>) -> Result<(), DbError> {
    let storable = entries.iter().filter(|entry| is_storable(entry)).map(|entry| (entry.key.0, entry));
    let by_key: BTreeMap<_, _> = storable.collect();
    let mut entries: Vec<_> = by_key.into_values().cloned().collect();
    if entries.is_empty() {
        return Ok(());
    }
    let mut tx = db.system(Purpose::Entries).await?;
    told::retain_valid(&mut tx, &mut entries).await?;
    if entries.is_empty() {
        return tx.commit().await;
    }
    write(&mut tx, &entries, db.vectors().is_some()).await?;
    told::commit_learned(tx, &entries).await
}

/// The next entries of other embedders behind `after`, in key order.
pub(super) async fn foreign(
    db: &PostgresDb,
    embedder: &str,
    after: Option<Digest>,
    limit: usize,
    now_ms: u64,
) -> Result<Vec<Arc<Entry>>, DbError> {
    let query = sqlx::query(
        "SELECT * FROM entries WHERE key > $1 AND scope::json ->> 'embedder' <> $2 AND expires_at > $4 \
         ORDER BY key LIMIT $3",
    );
    let query = query
        .bind(after.map_or_else(Vec::new, |key| key.0.to_vec()))
        .bind(embedder)
        .bind(limit as i64)
        .bind(now_ms as i64);
    let rows = db.system(Purpose::Entries).await?.all(query).await?;
    Ok(rows.iter().map(|row| read_entry(row).map(Arc::new)).collect::<Result<_, _>>()?)
}

/// The embedder that was noted last, and whether there are entries.
pub(super) async fn noted_embedder(db: &PostgresDb) -> Result<(Option<String>, bool), DbError> {
    let noted = "SELECT (SELECT embedder FROM cache_embedder) AS embedder, EXISTS (SELECT 1 FROM entries) AS entries";
    let row = db.system(Purpose::Entries).await?.one(sqlx::query(noted)).await?;
    Ok((row.try_get("embedder")?, row.try_get("entries")?))
}

pub(super) async fn note_embedder(db: &PostgresDb, embedder: &str) -> Result<(), DbError> {
    let mut tx = db.system(Purpose::Entries).await?;
    let noted = "INSERT INTO cache_embedder (embedder) VALUES ($1) ON CONFLICT (only_one) DO UPDATE SET embedder = excluded.embedder";
    tx.execute(sqlx::query(noted).bind(embedder)).await?;
    tx.commit().await
}

/// Puts entries in the place of others, but for those that are gone by now; says how many. Evictions of their tenants come before
/// it or after it: the generations are held first, as by every writer.
pub(super) async fn replace(db: &PostgresDb, _known: &Arc<KnownKeys>, moved: Vec<Moved>) -> Result<usize, DbError> {
    if moved.is_empty() {
        return Ok(0);
    }
    let mut tx = db.system(Purpose::Entries).await?;
    let mut entries: Vec<_> = moved.iter().map(|moved| Arc::clone(&moved.entry)).collect();
    told::retain_valid(&mut tx, &mut entries).await?;
    let keys: Vec<_> = moved.iter().map(|moved| moved.key.0.to_vec()).collect();
    let delete = sqlx::query("DELETE FROM entries WHERE key = ANY ($1) RETURNING key").bind(keys);
    let gone = tx.all(delete).await?;
    let gone = gone.iter().map(|row| digest(row, "key")).collect::<Result<HashSet<_>, _>>()?;
    let kept: Vec<_> = moved.into_iter().filter(|moved| gone.contains(&moved.key)).map(|moved| moved.entry).collect();
    if kept.is_empty() {
        return Ok(0);
    }
    write(&mut tx, &kept, db.vectors().is_some()).await?;
    told::commit_learned(tx, &kept).await?;
    Ok(kept.len())
}

/// Writes the rows, and those of their vectors where they are stored.
async fn write(tx: &mut Transaction, entries: &[Arc<Entry>], with_vectors: bool) -> Result<(), DbError> {
    let rows = entries.iter().map(|entry| EntryRow::of(entry)).collect::<Result<Vec<_>, _>>()?;
    let vectors = if with_vectors { vectors::of(entries) } else { Vec::new() };
    let mut query = QueryBuilder::<Postgres>::new(if vectors.is_empty() { "" } else { "WITH stored AS (" });
    query.push(
        "INSERT INTO entries (key, normalized, partition, tenant, scope, prompt, completion, provider, elapsed_ms, tags, \
         embedder, embedding, words, created_at, expires_at, made_by) ",
    );
    query.push_values(rows, |values, row| row.bind(values));
    query.push(
        " ON CONFLICT (key) DO UPDATE SET normalized = excluded.normalized, partition = excluded.partition, \
         tenant = excluded.tenant, scope = excluded.scope, prompt = excluded.prompt, completion = excluded.completion, \
         provider = excluded.provider, elapsed_ms = excluded.elapsed_ms, tags = excluded.tags, \
         embedder = excluded.embedder, embedding = excluded.embedding, words = excluded.words, \
         created_at = excluded.created_at, expires_at = excluded.expires_at, made_by = excluded.made_by",
    );
    if !vectors.is_empty() {
        query.push(") ");
        vectors::push(&mut query, vectors);
    }
    tx.execute(query.build()).await?;
    Ok(())
}

/// Postgres's text holds no U+0000, and a prompt that was changed would match others: such an entry lives in memory only.
fn is_storable(entry: &Entry) -> bool {
    let texts = [&entry.tenant, &entry.prompt, &entry.provider].into_iter().chain(&entry.tags);
    !texts.into_iter().any(|text| text.contains('\0'))
}

/// An entry as its row, with what had to be written as text.
struct EntryRow<'a> {
    entry: &'a Entry,
    completion: String,
}

impl<'a> EntryRow<'a> {
    fn of(entry: &'a Entry) -> Result<Self, Error> {
        let completion = serde_json::to_string(entry.completion.as_ref());
        Ok(Self { entry, completion: completion.map_err(|error| Error::Encode(Box::new(error)))? })
    }

    fn bind(self, mut values: Separated<'_, Postgres, &'static str>) {
        let Self { entry, completion } = self;
        let matching = entry.matching.get();
        values
            .push_bind(entry.key.0)
            .push_bind(entry.place.map(|place| place.normalized.0))
            .push_bind(entry.place.map(|place| place.partition.0))
            .push_bind(&entry.tenant)
            .push_bind(&entry.scope)
            .push_bind(&entry.prompt)
            .push_bind(completion)
            .push_bind(&entry.provider)
            .push_bind(entry.elapsed_ms as i64)
            .push_bind(&entry.tags)
            .push_bind(matching.map(|matching| matching.embedder.as_str()))
            .push_bind(matching.map(|matching| matching.embedding.to_bytes()))
            .push_bind(matching.map(|matching| matching.words.to_bytes()))
            .push_bind(entry.created_at_ms as i64)
            .push_bind(entry.expires_at_ms as i64)
            .push_bind(entry.made_by.map(|person| person.bytes().to_vec()));
    }
}

/// Deletes a tenant's entries and returns their keys and places, so that the other tiers can follow. Also where there are
/// none a generation begins: other instances may hold what is meant in memory only.
pub(super) async fn delete(
    db: &PostgresDb,
    _known: &Arc<KnownKeys>,
    tenant: &str,
    selection: Selection,
) -> Result<Deleted, DbError> {
    let mut tx = db.write(tenant).await?;
    let generation = told::begin_generation(&mut tx, tenant).await?;
    let query = match &selection {
        Selection::Key(key) => {
            sqlx::query("DELETE FROM entries WHERE key = $1 RETURNING key, normalized, partition").bind(key.0)
        }
        Selection::Tag(tag) => sqlx::query(
            "DELETE FROM entries WHERE tenant = $1 AND $2 = ANY (tags) RETURNING key, normalized, partition",
        )
        .bind(tenant)
        .bind(without_nul(tag)),
        Selection::Model(model) => {
            sqlx::query("DELETE FROM entries WHERE tenant = $1 AND model = $2 RETURNING key, normalized, partition")
                .bind(tenant)
                .bind(without_nul(model))
        }
        Selection::OlderThan(ms) => sqlx::query(
            "DELETE FROM entries WHERE tenant = $1 AND created_at < $2 RETURNING key, normalized, partition",
        )
        .bind(tenant)
        .bind(*ms as i64),
        Selection::All => {
            sqlx::query("DELETE FROM entries WHERE tenant = $1 RETURNING key, normalized, partition").bind(tenant)
        }
    };
    let read = |row: &PgRow| Ok::<_, Error>((digest(row, "key")?, read_place(row)?));
    let gone: Vec<_> = tx.all(query).await?.iter().map(read).collect::<Result<_, _>>()?;
    told::note_evicted(&mut tx, tenant, generation, &selection, &gone).await?;
    tx.commit().await?;
    Ok(Deleted { gone, generation })
}

/// Deletes what has expired; says how many entries.
pub(super) async fn expire(db: &PostgresDb, _known: &Arc<KnownKeys>, now_ms: u64) -> Result<u64, DbError> {
    let mut tx = db.system(Purpose::Entries).await?;
    let deleted = tx.execute(sqlx::query("DELETE FROM entries WHERE expires_at <= $1").bind(now_ms as i64)).await?;
    tx.commit().await?;
    Ok(deleted)
}

/// The next rows of the load at start after `after`, in key order.
pub(super) async fn index_rows(
    db: &PostgresDb,
    embedder: &str,
    after: Option<Digest>,
    limit: usize,
    now_ms: u64,
) -> Result<Vec<IndexRow>, DbError> {
    let query = sqlx::query(INDEX_ROWS);
    let query = query
        .bind(after.map_or_else(Vec::new, |key| key.0.to_vec()))
        .bind(embedder)
        .bind(limit as i64)
        .bind(now_ms as i64);
    let rows = db.system(Purpose::Entries).await?.all(query).await?;
    Ok(rows.iter().map(index_row).collect::<Result<_, _>>()?)
}

/// Those of these keys that are stored, for the index.
pub(super) async fn index_rows_of(
    db: &PostgresDb,
    embedder: &str,
    keys: &[Digest],
    now_ms: u64,
) -> Result<Vec<IndexRow>, DbError> {
    let asked = Written::new(
        "SELECT key, normalized, partition, embedding, expires_at FROM entries \
         WHERE key = ANY ($1) AND embedder = $2 AND expires_at > $3",
    );
    let keys: Vec<_> = keys.iter().map(|key| key.0).collect();
    let rows = db.ask_system(Purpose::Entries, &asked.bind(keys).bind(Name(embedder)).bind(now_ms as i64)).await?;
    Ok(rows.iter().map(index_row).collect::<Result<_, _>>()?)
}

fn index_row(row: &PgRow) -> Result<IndexRow, Error> {
    let embedding = row.try_get::<Option<Vec<u8>>, _>("embedding")?;
    let embedding = embedding.as_deref().map(Embedding::from_bytes).transpose();
    Ok(IndexRow {
        key: digest(row, "key")?,
        place: read_place(row)?,
        embedding: embedding.map_err(|error| Error::Decode(Box::new(error)))?,
        expires_at_ms: row.try_get::<i64, _>("expires_at")? as u64,
    })
}

pub(super) async fn figures(db: &PostgresDb) -> Result<StoredFigures, DbError> {
    let query = sqlx::query(
        "SELECT count(*) AS entries, count(embedding) AS embedded, pg_total_relation_size('entries') AS bytes FROM entries",
    );
    let row = db.system(Purpose::Entries).await?.one(query).await?;
    let count = |name: &str| -> Result<u64, Error> { Ok(row.try_get::<i64, _>(name)? as u64) };
    Ok(StoredFigures { entries: count("entries")?, embedded: count("embedded")?, bytes: count("bytes")? })
}

pub(super) async fn block(
    db: &PostgresDb,
    tenant: &str,
    asked: Digest,
    answered: Digest,
    now_ms: u64,
) -> Result<(), DbError> {
    let mut tx = db.write(tenant).await?;
    let query = sqlx::query(
        "INSERT INTO blocked_pairs (asked, answered, tenant, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    );
    tx.execute(query.bind(asked.0).bind(answered.0).bind(tenant).bind(now_ms as i64)).await?;
    note(&mut tx, &super::told::blocked(tenant, asked, answered)).await?;
    tx.commit().await
}

pub(super) async fn blocked_pairs(db: &PostgresDb) -> Result<Vec<(Digest, Digest)>, DbError> {
    let rows = db.system(Purpose::Entries).await?.all(sqlx::query("SELECT asked, answered FROM blocked_pairs")).await?;
    let read = |row: &PgRow| Ok::<_, Error>((digest(row, "asked")?, digest(row, "answered")?));
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn digest(row: &PgRow, name: &str) -> Result<Digest, Error> {
    row.try_get(name).map(Digest)
}

fn read_place(row: &PgRow) -> Result<Option<Place>, Error> {
    let (normalized, partition) = (row.try_get("normalized")?, row.try_get("partition")?);
    let place = |(normalized, partition)| Place { normalized: Digest(normalized), partition: Digest(partition) };
    Ok(Option::zip(normalized, partition).map(place))
}

fn read_entry(row: &PgRow) -> Result<Entry, Error> {
    let completion = serde_json::from_str(row.try_get("completion")?);
    let entry = Entry {
        key: digest(row, "key")?,
        place: read_place(row)?,
        tenant: row.try_get("tenant")?,
        scope: row.try_get("scope")?,
        prompt: row.try_get("prompt")?,
        completion: Arc::new(completion.map_err(|error| Error::Decode(Box::new(error)))?),
        provider: row.try_get("provider")?,
        elapsed_ms: row.try_get::<i64, _>("elapsed_ms")? as u64,
        made_by: row.try_get::<Option<Vec<u8>>, _>("made_by")?.as_deref().and_then(Person::from_bytes),
        tags: row.try_get("tags")?,
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

fn read_matching(row: &PgRow) -> Result<Option<Matching>, Error> {
    let columns = (
        row.try_get::<Option<String>, _>("embedder")?,
        row.try_get::<Option<Vec<u8>>, _>("embedding")?,
        row.try_get::<Option<Vec<u8>>, _>("words")?,
    );
    let (Some(embedder), Some(embedding), Some(words)) = columns else { return Ok(None) };
    let embedding = Embedding::from_bytes(&embedding).map_err(|error| Error::Decode(Box::new(error)))?;
    let words = WordVectors::from_bytes(&words).map_err(|error| Error::Decode(Box::new(error)))?;
    Ok(Some(Matching::new(embedder, embedding, words)))
}
