//! What many callers at once are promised: each as much as one alone.

use super::*;

contract![many_callers_at_once_are_each_stored];

async fn many_callers_at_once_are_each_stored(database: TestDb) {
    let queue = queue(&database).await;
    let callers = (0..300).map(|number| {
        let queue = queue.clone();
        tokio::spawn(async move { (number, queue.enqueue(greet(&number.to_string())).await.unwrap().id) })
    });
    for caller in callers.collect::<Vec<_>>() {
        let (number, id) = caller.await.unwrap();
        assert_eq!(queue.task(id).await.unwrap().arguments.get(), format!(r#"{{"name":"{number}"}}"#));
    }
    assert_eq!(queue.list(&Filter::default(), 1_000).await.unwrap().len(), 300);
}

/// On a server, where callers share a transaction.
#[tokio::test]
async fn one_at_fault_among_many_fails_alone() {
    let database = TestDb::new(Backend::Postgres).await;
    let queue = queue(&database).await;
    let Db::Postgres(db) = &queue.inner.db else { panic!("it is a server") };
    let checked = |name: &str| checked(vec![greet(name)]).unwrap().remove(0);
    let twin = checked("twin");
    let tasks = [twin.clone(), checked("one"), twin, checked("two")];
    // All wait before the first is written: they are one group.
    let stored = tasks.map(|task| queue.inner.intake.store(db, task, 0));
    let failed: Vec<_> = futures_util::future::join_all(stored).await.into_iter().filter_map(Result::err).collect();
    assert!(matches!(failed.as_slice(), [error] if error.is_duplicate()), "{failed:?}");
    assert_eq!(queue.list(&Filter::default(), 10).await.unwrap().len(), 3);
}
