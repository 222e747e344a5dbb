//! What the cache's writes tell other instances, in their own transactions; and generations, by which an entry that waited
//! to be written while it was evicted is left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{Error, Row};

use super::super::entry::Entry;
use super::super::key::Place;
use super::super::scope::Digest;
use super::super::stored::Selection;
use super::super::told;
use crate::changes::{Kind, commit_noting, note};
use crate::db::{DbError, Name, PostgresDb, Purpose, Transaction, Written};

/// Begins the tenant's next generation. Whoever stores entries of the tenant's waits for the commit from here on.
pub(super) async fn begin_generation(tx: &mut Transaction, tenant: &str) -> Result<u64, DbError> {
    let query = sqlx::query(
        "INSERT INTO generations (tenant, generation) VALUES ($1, 1) \
         ON CONFLICT (tenant) DO UPDATE SET generation = generations.generation + 1 RETURNING generation",
    );
    Ok(tx.one(query.bind(tenant)).await?.try_get::<i64, _>(0)? as u64)
}

pub(super) async fn note_evicted(
    tx: &mut Transaction,
    tenant: &str,
    generation: u64,
    selection: &Selection,
    gone: &[(Digest, Option<Place>)],
) -> Result<(), DbError> {
    for change in told::evicted(tenant, generation, selection, gone) {
        note(tx, &change).await?;
    }
    Ok(())
}

/// Commits with a row for each tenant.
pub(super) async fn commit_learned(tx: Transaction, entries: &[Arc<Entry>]) -> Result<(), DbError> {
    let by_tenant = by_tenant(entries).into_iter();
    let learned: Vec<_> = by_tenant.map(|(tenant, entries)| (tenant, told::learned(entries.into_iter()))).collect();
    commit_noting(tx, Kind::Learned, learned.iter().map(|(tenant, names)| (*tenant, names.as_slice()))).await
}

/// Takes out what was evicted since it was made. None of the tenants evicts more before the commit.
pub(super) async fn retain_valid(tx: &mut Transaction, entries: &mut Vec<Arc<Entry>>) -> Result<(), DbError> {
    for row in hold(tx, by_tenant(entries).into_keys().map(Name).collect()).await? {
        let (tenant, generation) = (row.try_get::<String, _>(0)?, row.try_get::<i64, _>(1)? as u64);
        let is_behind =
            |entry: &&Arc<Entry>| entry.tenant == tenant && entry.generation.is_some_and(|made| made < generation);
        let Some(oldest) = entries.iter().filter(is_behind).filter_map(|entry| entry.generation).min() else {
            continue;
        };
        let evictions = evictions_since(tx, &tenant, oldest).await?;
        let is_meant = |entry: &Entry| {
            let since = entry.generation.unwrap_or(generation);
            evictions.iter().any(|(begins, selection)| *begins > since && selection.means(entry))
        };
        entries.retain(|entry| entry.tenant != tenant || !is_meant(entry));
    }
    Ok(())
}

/// The tenants' generations, which nobody moves on before the commit. One that has none yet is given its row first.
async fn hold(tx: &mut Transaction, tenants: Vec<Name<'_>>) -> Result<Vec<PgRow>, DbError> {
    let hold =
        Written::new("SELECT tenant, generation FROM generations WHERE tenant = ANY ($1) ORDER BY tenant FOR SHARE");
    let (number, hold) = (tenants.len(), hold.bind(tenants.clone()));
    let held = tx.ask(&hold).await?;
    if held.len() == number {
        return Ok(held);
    }
    let open = Written::new("INSERT INTO generations (tenant) SELECT unnest($1) ON CONFLICT DO NOTHING");
    tx.ask(&open.bind(tenants)).await?;
    tx.ask(&hold).await
}

async fn evictions_since(
    tx: &mut Transaction,
    tenant: &str,
    generation: u64,
) -> Result<Vec<(u64, Selection)>, DbError> {
    let query = sqlx::query(
        "SELECT generation, selection FROM changes WHERE tenant = $1 AND generation > $2 AND selection IS NOT NULL",
    );
    let rows = tx.all(query.bind(tenant).bind(generation as i64)).await?;
    let read = |row: &PgRow| -> Result<_, Error> {
        let selection = serde_json::from_str(row.try_get(1)?).map_err(|error| Error::Decode(Box::new(error)))?;
        Ok((row.try_get::<i64, _>(0)? as u64, selection))
    };
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// In the tenants' order, so that no two instances wait for each other.
fn by_tenant(entries: &[Arc<Entry>]) -> BTreeMap<&str, Vec<&Entry>> {
    let mut tenants = BTreeMap::<_, Vec<_>>::new();
    for entry in entries {
        tenants.entry(entry.tenant.as_str()).or_default().push(entry.as_ref());
    }
    tenants
}

/// Every tenant's generation that has begun one.
pub(in super::super) async fn generations(db: &PostgresDb) -> Result<Vec<(String, u64)>, DbError> {
    let query = sqlx::query("SELECT tenant, generation FROM generations");
    let rows = db.system(Purpose::Entries).await?.all(query).await?;
    let read = |row: &PgRow| Ok::<_, Error>((row.try_get(0)?, row.try_get::<i64, _>(1)? as u64));
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}
