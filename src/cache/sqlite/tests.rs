//! What is known of the store when a write to it fails.

use super::*;
use crate::cache::key::{MatchKeys, Place};
use crate::db::{Durability, MigrationSet};

const KEY: Digest = Digest([1; 32]);
const PLACE: Place = Place { normalized: Digest([2; 32]), partition: Digest([3; 32]) };

/// A store with one entry, which is known, and a table into which no commit takes a row.
async fn store(folder: &tempfile::TempDir) -> (SqliteDb, Arc<KnownKeys>) {
    let db = SqliteDb::open(&folder.path().join("cache.db"), Durability::Normal, MigrationSet::CACHE).await.unwrap();
    for statement in [
        "CREATE TABLE parents (id INTEGER PRIMARY KEY)",
        "CREATE TABLE orphans (parent INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
    ] {
        db.write(move |tx| Box::pin(async move { sqlx::query(statement).execute(tx).await.map(drop) })).await.unwrap();
    }
    let made = "INSERT INTO entries (key, normalized, partition, tenant, scope, prompt, completion, provider, elapsed_ms, \
                created_at, expires_at) VALUES (?1, ?2, ?3, 't', '{}', '', '{}', 'p', 1, 1, 2)";
    let making = db.write(move |tx| {
        let query = sqlx::query(made).bind(&KEY.0[..]).bind(&PLACE.normalized.0[..]).bind(&PLACE.partition.0[..]);
        Box::pin(async move { query.execute(tx).await.map(drop) })
    });
    making.await.unwrap();
    let known = Arc::new(KnownKeys::default());
    known.learn(KEY, Some(PLACE.normalized));
    known.complete();
    (db, known)
}

fn may_hold(known: &KnownKeys) -> (bool, bool) {
    let keys = |exact, normalized| {
        let place = Place { normalized, ..PLACE };
        Keys { exact, matching: Some(MatchKeys { place, standalone: true, context: None }) }
    };
    (known.may_hold(&keys(KEY, KEY)), known.may_hold(&keys(PLACE.normalized, PLACE.normalized)))
}

/// A write whose group cannot be committed.
async fn orphan(db: &SqliteDb) -> Result<(), DbError> {
    let statement = "INSERT INTO orphans VALUES (1)";
    db.write(move |tx| Box::pin(async move { sqlx::query(statement).execute(tx).await.map(drop) })).await
}

#[tokio::test]
async fn what_a_failed_commit_did_not_take_out_is_known_again() {
    let folder = tempfile::tempdir().unwrap();
    let (db, known) = store(&folder).await;
    let (evicted, orphaned) = tokio::join!(delete(&db, &known, "t", Selection::All), orphan(&db));
    assert!(matches!(evicted, Err(DbError::Commit(_))) && orphaned.is_err(), "{evicted:?}");
    assert_eq!((figures(&db).await.unwrap().entries, may_hold(&known)), (1, (true, true)));
    let (expired, orphaned) = tokio::join!(expire(&db, &known, 10), orphan(&db));
    assert!(matches!(expired, Err(DbError::Commit(_))) && orphaned.is_err(), "{expired:?}");
    assert_eq!((figures(&db).await.unwrap().entries, may_hold(&known)), (1, (true, true)));
    assert_eq!(delete(&db, &known, "t", Selection::All).await.unwrap().gone.len(), 1);
    assert_eq!((figures(&db).await.unwrap().entries, may_hold(&known)), (0, (false, false)));
    db.close().await;
}
