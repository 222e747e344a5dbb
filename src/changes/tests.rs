//! What the log promises its readers, on a Postgres and through PgBouncer.

use super::{Change, Kind, Page, Reader, note};
use crate::db::tests::{Backend, TestDb};
use crate::db::{Db, MigrationSet, PostgresDb, Purpose, Transaction};

async fn database(backend: Backend) -> (TestDb, PostgresDb) {
    let database = TestDb::new(backend).await;
    let Db::Postgres(db) = database.open(MigrationSet::ISH).await else { panic!("it is a server") };
    (database, db)
}

fn learned(number: u8) -> Change {
    Change::of(Kind::Learned, "t", vec![number; 64])
}

/// A write that is not committed yet.
async fn write(db: &PostgresDb, numbers: &[u8]) -> Transaction {
    let mut tx = db.write("t").await.unwrap();
    for number in numbers {
        note(&mut tx, &learned(*number)).await.unwrap();
    }
    tx
}

/// Lets all that is committed have been so for longer than it is kept.
async fn age(db: &PostgresDb) {
    let mut tx = db.system(Purpose::Changes).await.unwrap();
    tx.execute(sqlx::query("UPDATE changes SET at = at - interval '61 minutes'")).await.unwrap();
    tx.commit().await.unwrap();
}

/// Deletes until so much is gone: what another test of this server has open holds it up.
async fn trim(reader: &Reader, count: u64) {
    let mut deleted = 0;
    while deleted < count {
        deleted += reader.trim().await.unwrap();
    }
    assert_eq!(deleted, count);
}

/// The numbers of what is new.
async fn next(reader: &mut Reader) -> Vec<u8> {
    match reader.next().await.unwrap() {
        Page::Changes { changes, .. } => changes.iter().map(|read| read.change.digests[0]).collect(),
        Page::FellBehind => panic!("nothing was deleted"),
    }
}

#[tokio::test]
async fn what_is_committed_is_read_once_and_says_who_wrote_it() {
    for backend in [Backend::Postgres, Backend::PgBouncer] {
        let (database, db) = database(backend).await;
        let mut reader = Reader::begin(db.clone()).await.unwrap();
        drop(write(&db, &[1]).await);
        let mut eviction = Change { generation: Some(7), selection: Some("{}".to_owned()), ..learned(2) };
        eviction.kind = Kind::Evicted;
        let Db::Postgres(other) = database.open(MigrationSet::ISH).await else { panic!("it is a server") };
        let mut tx = other.write("t").await.unwrap();
        note(&mut tx, &eviction).await.unwrap();
        note(&mut tx, &learned(3)).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = db.system(Purpose::Keys).await.unwrap();
        note(&mut tx, &Change::key()).await.unwrap();
        tx.commit().await.unwrap();
        let Page::Changes { changes, is_last: true } = reader.next().await.unwrap() else { panic!("a page") };
        let read: Vec<_> = changes.iter().map(|read| (&read.change, read.is_ours)).collect();
        assert_eq!(read, [(&eviction, false), (&learned(3), false), (&Change::key(), true)]);
        assert!(next(&mut reader).await.is_empty());
    }
}

#[tokio::test]
async fn a_transaction_that_stays_open_hides_nothing_and_delays_nobody() {
    let (_database, db) = database(Backend::PgBouncer).await;
    let mut reader = Reader::begin(db.clone()).await.unwrap();
    let slow = write(&db, &[1]).await;
    for numbers in [[2, 3], [4, 5]] {
        write(&db, &numbers).await.commit().await.unwrap();
        assert_eq!(next(&mut reader).await, numbers, "it does not wait for who came before");
    }
    slow.commit().await.unwrap();
    write(&db, &[6]).await.commit().await.unwrap();
    assert_eq!(next(&mut reader).await, [1, 6], "none twice");
    assert!(next(&mut reader).await.is_empty());
}

/// A reader that begins reads what the transactions write that are open then: they are in nothing that it read before.
#[tokio::test]
async fn who_begins_reads_what_is_not_committed_yet() {
    let (_database, db) = database(Backend::PgBouncer).await;
    write(&db, &[1]).await.commit().await.unwrap();
    let open = write(&db, &[2]).await;
    write(&db, &[3]).await.commit().await.unwrap();
    let mut reader = Reader::begin(db.clone()).await.unwrap();
    assert!(next(&mut reader).await.is_empty(), "what is committed can be read");
    open.commit().await.unwrap();
    assert_eq!(next(&mut reader).await, [2]);
    assert!(next(&mut reader).await.is_empty());
}

#[tokio::test]
async fn more_than_a_page_comes_in_pages() {
    let (_database, db) = database(Backend::Postgres).await;
    let mut reader = Reader::begin(db.clone()).await.unwrap();
    let numbers: Vec<u8> = (0..=255).collect();
    write(&db, &numbers).await.commit().await.unwrap();
    let Page::Changes { changes, is_last: false } = reader.next().await.unwrap() else { panic!("there is more") };
    let mut read: Vec<_> = changes.iter().map(|read| read.change.digests[0]).collect();
    read.extend(next(&mut reader).await);
    assert_eq!(read, numbers);
}

#[tokio::test]
async fn who_missed_what_was_deleted_is_told_and_nobody_else() {
    let (_database, db) = database(Backend::Postgres).await;
    let mut asleep = Reader::begin(db.clone()).await.unwrap();
    let mut awake = Reader::begin(db.clone()).await.unwrap();
    write(&db, &[1, 2]).await.commit().await.unwrap();
    assert_eq!(next(&mut awake).await, [1, 2]);
    assert_eq!(awake.trim().await.unwrap(), 0, "they are new");
    age(&db).await;
    let open = write(&db, &[3]).await;
    trim(&awake, 2).await;
    assert!(next(&mut awake).await.is_empty());
    assert_eq!(asleep.next().await.unwrap(), Page::FellBehind);
    open.commit().await.unwrap();
    for reader in [&mut asleep, &mut awake] {
        assert_eq!(next(reader).await, [3]);
    }
}

/// Deleting goes by the transactions' order as reading does, whatever the rows' age.
#[tokio::test]
async fn nothing_is_deleted_that_something_may_still_come_before() {
    let (_database, db) = database(Backend::Postgres).await;
    let mut reader = Reader::begin(db.clone()).await.unwrap();
    let open = write(&db, &[1]).await;
    write(&db, &[2]).await.commit().await.unwrap();
    age(&db).await;
    assert_eq!(reader.trim().await.unwrap(), 0);
    open.commit().await.unwrap();
    assert_eq!(next(&mut reader).await, [1, 2]);
    // The first one is new.
    trim(&reader, 1).await;
}
