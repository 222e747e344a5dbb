//! What the store of logins promises, on each database.

use super::*;
use crate::clock::rfc3339;
use crate::db::tests::{Backend, TestDb, contract, plan};
use crate::db::{MigrationSet, Purpose};
use crate::keys::{KeyWish, NewKey};
use crate::memo::Memo;
use crate::users::Users;

contract!(
    a_login_is_recognised_until_it_is_ended,
    a_login_ends_when_it_is_not_used_and_in_the_end_anyway,
    a_use_is_noted_now_and_then_and_other_instances_know,
    a_login_ends_with_its_key,
    logins_are_listed_newest_first_as_far_as_they_go_on,
    one_key_has_so_many_and_who_logs_in_sweeps,
);

const NOW: u64 = 1_700_000_000_000;
const HOUR: Duration = Duration::from_hours(1);

/// One instance.
struct Instance {
    db: Db,
    keys: Keys,
    logins: Logins,
}

impl Instance {
    async fn on(database: &TestDb, clock: &Clock) -> Self {
        let db = database.open(MigrationSet::ISH).await;
        let keys = Keys::new(db.clone(), clock.clone());
        let config = LoginsConfig { idle: HOUR, lifetime: 24 * HOUR };
        let logins = Logins::new(db.clone(), keys.clone(), clock.clone(), config, Arc::new(Metrics::new()));
        Self { db, keys, logins }
    }

    async fn key(&self, wish: KeyWish) -> (NewKey, Principal) {
        let made = self.keys.create(wish).await.unwrap();
        let principal = self.keys.recognise(&made.key).await.unwrap().unwrap();
        (made, principal)
    }

    /// The digest of a new login with a key of that name.
    async fn login(&self, name: &str) -> LoginDigest {
        let (_, key) = self.key(KeyWish::new(name, "t", KeyRole::User)).await;
        self.begin(&key).await
    }

    async fn begin(&self, key: &Principal) -> LoginDigest {
        LoginDigest::of(&self.logins.begin(key).await.unwrap().cookie)
    }

    async fn knows(&self, login: LoginDigest) -> bool {
        self.logins.recognise(login).await.unwrap().is_some()
    }
}

async fn a_login_is_recognised_until_it_is_ended(database: TestDb) {
    let one = Instance::on(&database, &Clock::manual(NOW)).await;
    let (_, key) = one.key(KeyWish::new("laptop", "t", KeyRole::Service)).await;
    let begun = one.logins.begin(&key).await.unwrap();
    assert_eq!((begun.cookie.len(), begun.expires_at_ms), (64, NOW + 24 * 3_600_000));
    let [first, second, third] = [LoginDigest::of(&begun.cookie), one.begin(&key).await, one.begin(&key).await];
    let who = one.logins.recognise(first).await.unwrap().unwrap();
    assert_eq!((who.key, who.role, who.tenant.as_str()), (key.key, KeyRole::Service, "t"));
    assert_eq!((who.expires_at_ms, who.allowance), (Some(begun.expires_at_ms), key.allowance));
    assert!(!one.knows(LoginDigest::of("")).await && !one.knows(LoginDigest::of(&"0".repeat(64))).await);

    assert_eq!(one.logins.end(Which::Cookie(first)).await.unwrap(), 1);
    assert_eq!(one.logins.end(Which::Cookie(first)).await.unwrap(), 0, "once");
    assert!(!one.knows(first).await && one.knows(second).await);
    let listed = one.logins.list(LoginFilter::default()).await.unwrap();
    assert_eq!(one.logins.end(Which::Id(listed[1].id)).await.unwrap(), 1);
    assert!(!one.knows(second).await && one.knows(third).await);
    let others = one.login("another").await;
    assert_eq!(one.logins.end(Which::OfKey(key.key)).await.unwrap(), 1);
    assert!(!one.knows(third).await && one.knows(others).await);
}

async fn a_login_ends_when_it_is_not_used_and_in_the_end_anyway(database: TestDb) {
    let clock = Clock::manual(NOW);
    let one = Instance::on(&database, &clock).await;
    let (used, unused) = (one.login("a").await, one.login("b").await);
    for _ in 0..24 {
        assert!(one.knows(used).await);
        // Looking at it is no use of it.
        let _ = one.logins.standing(unused).await.unwrap();
        clock.advance(HOUR.saturating_sub(Duration::from_millis(1)));
        one.logins.store_touched().await;
    }
    assert!(!one.knows(unused).await);
    assert!(one.knows(used).await, "its lifetime is not quite over");
    clock.advance(Duration::from_millis(24));
    assert!(!one.knows(used).await, "though it was used just now");
}

async fn a_use_is_noted_now_and_then_and_other_instances_know(database: TestDb) {
    let clock = Clock::manual(NOW);
    let (one, other) = (Instance::on(&database, &clock).await, Instance::on(&database, &clock).await);
    let (used, long_unused) = (one.login("a").await, one.login("b").await);
    assert!(other.knows(used).await && other.knows(long_unused).await);
    assert!(one.logins.touched.take().is_empty(), "it is noted already that it was used a moment ago");
    clock.advance(HOUR / 2);
    for _ in 0..3 {
        assert!(one.knows(used).await);
    }
    let touched = one.logins.touched.take();
    assert_eq!(touched.len(), 1);
    for (digest, at_ms) in touched {
        one.logins.touched.add(digest, at_ms);
    }
    one.logins.store_touched().await;
    clock.advance(HOUR / 2);
    // What the other one remembers of it is older.
    assert!(other.knows(used).await && !other.knows(long_unused).await);
    let seen = &one.logins.list(LoginFilter::default()).await.unwrap()[0].seen_at;
    assert_eq!(*seen, rfc3339(NOW + 1_800_000));
    // What comes late does not set it back.
    other.logins.touched.add(used, NOW);
    other.logins.store_touched().await;
    assert_eq!(one.logins.list(LoginFilter::default()).await.unwrap()[0].seen_at, *seen);
}

async fn a_login_ends_with_its_key(database: TestDb) {
    let clock = Clock::manual(NOW);
    let one = Instance::on(&database, &clock).await;
    let (revoked, key) = one.key(KeyWish::new("a", "t", KeyRole::Admin)).await;
    let (short, short_key) =
        one.key(KeyWish { expires_at_ms: Some(NOW + 1_000), ..KeyWish::new("b", "t", KeyRole::User) }).await;
    let (first, second) = (one.begin(&key).await, one.begin(&short_key).await);
    assert_eq!(one.logins.begin(&short_key).await.unwrap().expires_at_ms, NOW + 1_000);
    assert_eq!(one.logins.recognise(second).await.unwrap().unwrap().expires_at_ms, Some(NOW + 1_000));
    assert!(one.knows(first).await);
    assert!(one.keys.revoke(revoked.info.id).await.unwrap());
    assert!(!one.knows(first).await);
    clock.advance(Duration::from_secs(1));
    assert!(!one.knows(second).await, "{}", short.info.id);
    assert!(one.logins.list(LoginFilter::default()).await.unwrap().is_empty());
}

async fn logins_are_listed_newest_first_as_far_as_they_go_on(database: TestDb) {
    let clock = Clock::manual(NOW);
    let one = Instance::on(&database, &clock).await;
    let ann: UserName = "google/ann".parse().unwrap();
    let users = Users::new(one.db.clone(), clock.clone(), Memo::in_process());
    let id = users.identify("t", &ann).await.unwrap();
    let hers = KeyWish { user: Some((id, ann.clone())), ..KeyWish::new("hers", "t", KeyRole::User) };
    let (hers, key) = one.key(hers).await;
    let (_, foreign) = one.key(KeyWish::new("web", "t2", KeyRole::Service)).await;
    for key in [&key, &foreign, &key] {
        one.begin(key).await;
        clock.advance(Duration::from_millis(1));
    }
    let list = async |filter| one.logins.list(filter).await.unwrap();
    let all = list(LoginFilter::default()).await;
    let named: Vec<&str> = all.iter().map(|login| login.name.as_str()).collect();
    assert_eq!(named, ["hers", "web", "hers"]);
    let expected = LoginInfo {
        id: all[0].id,
        key: hers.info.id,
        name: "hers".to_owned(),
        tenant: "t".to_owned(),
        role: KeyRole::User,
        user: Some(ann),
        created_at: rfc3339(NOW + 2),
        seen_at: rfc3339(NOW + 2),
        expires_at: rfc3339(NOW + 2 + 24 * 3_600_000),
    };
    assert_eq!(all[0], expected);
    assert_eq!((all[1].role, &all[1].user, all[1].tenant.as_str()), (KeyRole::Service, &None, "t2"));
    let filters = [
        (LoginFilter { user: Some(id), ..LoginFilter::default() }, vec![0, 2]),
        (LoginFilter { key: Some(foreign.key), ..LoginFilter::default() }, vec![1]),
        (LoginFilter { tenant: Some("t".to_owned()), ..LoginFilter::default() }, vec![0, 2]),
        (LoginFilter { before: Some(all[0].id), ..LoginFilter::default() }, vec![1, 2]),
        (LoginFilter { key: Some(new_id()), ..LoginFilter::default() }, vec![]),
    ];
    for (filter, wanted) in filters {
        let wanted: Vec<&LoginInfo> = wanted.into_iter().map(|at: usize| &all[at]).collect();
        assert_eq!(list(filter.clone()).await.iter().collect::<Vec<_>>(), wanted, "{filter:?}");
    }
    clock.advance(HOUR);
    assert!(list(LoginFilter::default()).await.is_empty());
}

async fn one_key_has_so_many_and_who_logs_in_sweeps(database: TestDb) {
    let clock = Clock::manual(NOW);
    let one = Instance::on(&database, &clock).await;
    let other = one.login("another").await;
    let (_, key) = one.key(KeyWish::new("a", "t", KeyRole::User)).await;
    let mut logins = Vec::new();
    for _ in 0..=PER_KEY {
        logins.push(one.begin(&key).await);
        clock.advance(Duration::from_millis(1));
        assert!(one.knows(logins[0]).await == (logins.len() <= PER_KEY));
    }
    assert!(one.knows(logins[1]).await && one.knows(other).await);
    clock.advance(2 * HOUR);
    one.begin(&key).await;
    assert_eq!(one.logins.end(Which::OfKey(key.key)).await.unwrap(), 2, "100 of the 101 that had ended are gone");
}

#[tokio::test]
async fn a_login_is_looked_up_by_an_index() {
    let database = TestDb::new(Backend::Postgres).await;
    let one = Instance::on(&database, &Clock::manual(NOW)).await;
    let (_, key) = one.key(KeyWish::new("a", "t", KeyRole::User)).await;
    let Db::Postgres(db) = &one.db else { panic!("it is a server") };
    let mut tx = db.system(Purpose::Logins).await.unwrap();
    let rows = sqlx::query(
        "INSERT INTO logins (id, hash, key_id, created_at, seen_at) \
         SELECT gen_random_uuid(), sha256(n::text::bytea), $1, n, n FROM generate_series(1, 3000) AS n",
    );
    tx.execute(rows.bind(key.key)).await.unwrap();
    tx.commit().await.unwrap();
    database.analyze().await;
    let mut tx = db.system(Purpose::Authentication).await.unwrap();
    let plan = plan(postgres::BY_DIGEST, &mut tx, |query| query.bind([1_u8; 32])).await;
    assert!(plan.contains("logins_hash_key") && !plan.contains("Seq Scan"), "{plan}");
}
