//! Who lives, by the server's clock.

use std::time::Duration;

use super::*;
use crate::clock::new_id;
use crate::db::MigrationSet;
use crate::db::tests::{Backend, TestDb};

fn named(db: &Db, name: &str, lease: Duration) -> Instances {
    let own = Instance { id: new_id(), name: name.to_owned(), address: "127.0.0.1:1".to_owned() };
    Instances::new(db, own, lease).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_living_are_counted_and_the_dead_forgotten() {
    let database = TestDb::new(Backend::PgBouncer).await;
    let db = database.open(MigrationSet::ISH).await;
    let minute = Duration::from_mins(1);
    let (first, second) = (named(&db, "a", minute), named(&db, "b", minute));
    first.beat(false).await.unwrap();
    assert_eq!(second.beat(false).await.unwrap().living, 2);
    assert_eq!(first.beat(true).await.unwrap(), Beat { living: 2, is_new: false });

    let impatient = named(&db, "c", Duration::ZERO);
    let mut living = impatient.beat(false).await.unwrap().living;
    while living > 1 {
        // One that gives its sign of life at this moment is passed over.
        living = impatient.beat(false).await.unwrap().living;
    }
    assert_eq!(first.beat(false).await.unwrap(), Beat { living: 2, is_new: true }, "it comes back, and is told");

    assert_eq!(named(&db, "a", minute).supersede().await.unwrap(), 1);
    assert!(first.beat(false).await.unwrap().is_new);
    first.leave().await.unwrap();
    assert!(first.beat(false).await.unwrap().is_new);
}

#[tokio::test]
async fn a_file_has_one_process_and_no_table() {
    let database = TestDb::new(Backend::Sqlite).await;
    let db = database.open(MigrationSet::ISH).await;
    let own = Instance { id: new_id(), name: "a".to_owned(), address: String::new() };
    assert!(Instances::new(&db, own, Duration::from_secs(1)).is_none());
}
