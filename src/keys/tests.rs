//! What the store of keys promises, on each database.

use std::time::Duration;

use super::*;
use crate::db::MigrationSet;
use crate::db::tests::{Backend, TestDb, contract, plan};
use crate::db::{Db, Purpose};

contract!(
    a_key_is_recognised_until_it_is_revoked,
    a_key_ends_when_its_time_is_over,
    keys_are_listed_newest_first_with_all_that_is_known_of_them,
    an_allowance_can_be_changed,
    an_operators_key_is_stored_once,
    what_one_instance_makes_another_knows,
);

const NOW: u64 = 1_700_000_000_000;

async fn keys(database: &TestDb) -> (Keys, Clock) {
    let clock = Clock::manual(NOW);
    (Keys::new(database.open(MigrationSet::ISH).await, clock.clone()), clock)
}

fn allowance() -> Allowance {
    let number = |number| std::num::NonZeroU32::new(number);
    Allowance {
        requests_per_minute: number(60),
        request_burst: number(5),
        tokens_per_minute: number(u32::MAX),
        token_burst: number(1),
        max_tokens_default: number(77),
        budget: Money::from_usd(12.5),
        budget_period: Some(BudgetPeriod::Month),
    }
}

async fn a_key_is_recognised_until_it_is_revoked(database: TestDb) {
    let (keys, _) = keys(&database).await;
    let tenant = "o'brien\\ & żółw";
    let made = keys
        .create(KeyWish { allowance: allowance(), ..KeyWish::new("lap\0top", tenant, KeyRole::User) })
        .await
        .unwrap();
    let principal = keys.recognise(&made.key).await.unwrap().unwrap();
    assert_eq!((principal.key, principal.tenant.as_str(), principal.role), (made.info.id, tenant, KeyRole::User));
    assert_eq!((principal.allowance, principal.expires_at_ms), (allowance(), None));
    let Standing::Good(again) = keys.standing(made.info.id).await.unwrap() else { panic!("it is good") };
    assert_eq!(Principal { as_of: 0, ..again }, Principal { as_of: 0, ..principal });
    assert_eq!(keys.recognise("ish_nobody's").await.unwrap(), None);
    assert!(keys.revoke(made.info.id).await.unwrap());
    assert!(!keys.revoke(made.info.id).await.unwrap(), "once");
    assert!(!keys.revoke(new_id()).await.unwrap());
    assert_eq!(keys.recognise(&made.key).await.unwrap(), None);
    assert_eq!(keys.standing(made.info.id).await.unwrap(), Standing::Revoked);
}

async fn a_key_ends_when_its_time_is_over(database: TestDb) {
    let (keys, clock) = keys(&database).await;
    let made = keys
        .create(KeyWish { expires_at_ms: Some(NOW + 1_000), ..KeyWish::new("guest", "t", KeyRole::Admin) })
        .await
        .unwrap();
    assert_eq!(keys.recognise(&made.key).await.unwrap().unwrap().expires_at_ms, Some(NOW + 1_000));
    clock.advance(Duration::from_secs(1));
    assert_eq!(keys.recognise(&made.key).await.unwrap(), None);
    assert!(keys.has_expired(&made.key));
    assert_eq!(keys.standing(made.info.id).await.unwrap(), Standing::Expired);
}

async fn keys_are_listed_newest_first_with_all_that_is_known_of_them(database: TestDb) {
    let (keys, clock) = keys(&database).await;
    assert!(keys.list().await.unwrap().is_empty());
    let mut made = Vec::new();
    let ann: UserName = "google/ann".parse().unwrap();
    let ann = (
        users::Users::new(keys.db.clone(), clock.clone(), crate::memo::Memo::in_process())
            .identify("t", &ann)
            .await
            .unwrap(),
        ann,
    );
    let roles = [("a", KeyRole::User), ("b", KeyRole::Admin), ("c", KeyRole::Service), ("d", KeyRole::User)];
    for (name, role) in roles {
        let user = Some(ann.clone()).filter(|_| name == "d");
        let more = KeyWish { user, allowance: allowance(), ..KeyWish::new(name, "t", role) };
        let new = keys.create(KeyWish { expires_at_ms: Some(NOW + 60_000), ..more }).await.unwrap();
        let known = keys.recognise(&new.key).await.unwrap().unwrap();
        assert_eq!((known.role, known.user), (role, (name == "d").then_some(ann.0)));
        made.push(new.info);
        clock.advance(Duration::from_millis(1));
    }
    keys.revoke(made[1].id).await.unwrap();
    let listed = keys.list().await.unwrap();
    made.reverse();
    made[2].revoked_at = Some(rfc3339(NOW + 4));
    assert_eq!(serde_json::to_value(&listed).unwrap(), serde_json::to_value(&made).unwrap());
    let one = keys.get(made[1].id).await.unwrap();
    assert_eq!(serde_json::to_value(one).unwrap(), serde_json::to_value(&made[1]).unwrap());
    assert!(keys.get(new_id()).await.unwrap().is_none());
}

async fn an_allowance_can_be_changed(database: TestDb) {
    let (keys, _) = keys(&database).await;
    let made =
        keys.create(KeyWish { allowance: allowance(), ..KeyWish::new("laptop", "t", KeyRole::User) }).await.unwrap();
    assert_eq!(keys.recognise(&made.key).await.unwrap().unwrap().allowance, allowance());
    assert!(keys.allow(made.info.id, Allowance::default()).await.unwrap());
    assert_eq!(keys.recognise(&made.key).await.unwrap().unwrap().allowance, Allowance::default());
    assert!(!keys.allow(new_id(), allowance()).await.unwrap());
}

async fn an_operators_key_is_stored_once(database: TestDb) {
    let (keys, _) = keys(&database).await;
    for _ in 0..2 {
        keys.ensure_admin("a key that an operator chose").await.unwrap();
    }
    assert_eq!(keys.list().await.unwrap().len(), 1);
    let principal = keys.recognise("a key that an operator chose").await.unwrap().unwrap();
    assert_eq!((principal.role, principal.tenant.as_str()), (KeyRole::Admin, "default"));
}

async fn what_one_instance_makes_another_knows(database: TestDb) {
    let (first, _) = keys(&database).await;
    let (second, _) = keys(&database).await;
    let made = first.create(KeyWish::new("laptop", "t", KeyRole::User)).await.unwrap();
    assert!(second.recognise(&made.key).await.unwrap().is_some());
    assert!(second.revoke(made.info.id).await.unwrap());
    let (third, _) = keys(&database).await;
    assert!(third.recognise(&made.key).await.unwrap().is_none());
}

#[tokio::test]
async fn a_key_is_looked_up_by_an_index() {
    let database = TestDb::new(Backend::Postgres).await;
    let Db::Postgres(db) = database.open(MigrationSet::ISH).await else { panic!("it is a server") };
    let mut tx = db.system(Purpose::Keys).await.unwrap();
    let rows = sqlx::query(
        "INSERT INTO keys (id, hash, name, tenant, role, hint, created_at) \
         SELECT gen_random_uuid(), sha256(n::text::bytea), '', 't', 'user', '', n FROM generate_series(1, 3000) AS n",
    );
    tx.execute(rows).await.unwrap();
    tx.commit().await.unwrap();
    database.analyze().await;
    let mut tx = db.system(Purpose::Authentication).await.unwrap();
    let plan = plan(postgres::BY_HASH, &mut tx, |query| query.bind([1_u8; 32])).await;
    assert!(plan.contains("keys_hash_key") && !plan.contains("Seq Scan"), "{plan}");
}
