//! What the store of users promises, on each database.

use super::*;
use crate::clock::rfc3339;
use crate::db::MigrationSet;
use crate::db::tests::{TestDb, contract};

contract!(a_user_is_made_once_and_belongs_to_one_tenant, users_are_listed_by_name_with_when_they_were_seen);

const NOW: u64 = 1_700_000_000_000;

fn name(text: &str) -> UserName {
    text.parse().unwrap()
}

async fn users(database: &TestDb) -> (Users, Clock) {
    let clock = Clock::manual(NOW);
    (Users::new(database.open(MigrationSet::ISH).await, clock.clone(), Memo::in_process()), clock)
}

async fn a_user_is_made_once_and_belongs_to_one_tenant(database: TestDb) {
    let (users, clock) = users(&database).await;
    assert_eq!(users.find("t", &name("google/ann")).await.unwrap(), None);
    // All at once, as the first requests of a page come.
    let all = futures_util::future::join_all((0..8).map(|_| {
        let users = Users::new(users.db.clone(), clock.clone(), Memo::in_process());
        async move { users.identify("t", &name("google/ann")).await.unwrap() }
    }));
    let all = all.await;
    let ann = users.identify("t", &name("google/ann")).await.unwrap();
    assert!(all.iter().all(|id| *id == ann));
    assert_eq!(users.find("t", &name("google/ann")).await.unwrap(), Some(ann));
    for (tenant, other) in [("t", "google/Ann"), ("t", "github/ann"), ("t2", "google/ann")] {
        assert_eq!(users.find(tenant, &name(other)).await.unwrap(), None);
        assert_ne!(users.identify(tenant, &name(other)).await.unwrap(), ann, "{tenant} {other}");
    }
}

async fn users_are_listed_by_name_with_when_they_were_seen(database: TestDb) {
    let (users, clock) = users(&database).await;
    for user in ["google/bob", "github/zoe", "google/ann"] {
        users.identify("t", &name(user)).await.unwrap();
    }
    users.identify("other", &name("google/eve")).await.unwrap();
    clock.advance(Duration::from_mins(10));
    // Another instance sees him later; an earlier sight that is stored late does not set him back.
    Users::new(users.db.clone(), clock.clone(), Memo::in_process()).identify("t", &name("google/bob")).await.unwrap();
    Users::new(users.db.clone(), Clock::manual(NOW), Memo::in_process())
        .identify("t", &name("google/bob"))
        .await
        .unwrap();
    let listed = users.list("t", None).await.unwrap();
    let names: Vec<String> = listed.iter().map(|user| user.user.to_string()).collect();
    assert_eq!(names, ["github/zoe", "google/ann", "google/bob"]);
    let seen: Vec<&str> = listed.iter().map(|user| user.last_seen_at.as_str()).collect();
    let (first, later) = (rfc3339(NOW), rfc3339(NOW + 600_000));
    assert_eq!(seen, [first.as_str(), &first, &later]);
    assert!(listed.iter().all(|user| user.created_at == first));
    let rest = users.list("t", Some(&name("github/zoe"))).await.unwrap();
    assert_eq!(rest, listed[1..]);
}
