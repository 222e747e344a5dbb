//! What only a server must keep: rows of tenants apart, and the plans of what is asked most.

use sqlx::{AssertSqlSafe, Row};

use super::super::postgres::{BRANCH, CHAIN, HITS, LIST};
use super::*;
use crate::db::tests::Backend;
use crate::db::{PostgresDb, Purpose, Transaction};
use crate::instances::{Instance, Instances};

fn postgres(store: &Store) -> &PostgresDb {
    let Db::Postgres(db) = &store.db else { panic!("it is no server") };
    db
}

async fn counts(tx: &mut Transaction) -> Vec<i64> {
    let mut counts = Vec::new();
    for count in ["SELECT count(*) FROM conversations", "SELECT count(*) FROM messages", "SELECT count(*) FROM texts"] {
        counts.push(tx.one(sqlx::query(count)).await.unwrap().get(0));
    }
    counts
}

#[tokio::test]
async fn every_row_is_seen_by_its_tenant_alone() {
    let store = Store::new(TestDb::new(Backend::PgBouncer).await).await;
    let ours = store.say("t", None, "ours", "answer").await;
    store.say("u", None, "theirs", "answer").await;
    let db = postgres(&store);
    for (tenant, rows) in [("t", [1, 2, 3]), ("u", [1, 2, 3]), ("", [0, 0, 0]), ("T", [0, 0, 0])] {
        assert_eq!(counts(&mut db.read(tenant).await.unwrap()).await, rows, "{tenant:?}");
    }
    assert_eq!(counts(&mut db.system(Purpose::Restart).await.unwrap()).await, [2, 4, 6]);

    // A message in another's conversation is refused, whichever tenant it names.
    for tenant in ["t", "u"] {
        let insert = "INSERT INTO messages (id, tenant, conversation, role, state, content, created_at) \
                      VALUES ($1, $2, $3, 'user', 'complete', 'x', 1)";
        let insert = sqlx::query(insert).bind(new_id()).bind(tenant).bind(ours.conversation);
        assert!(db.write("u").await.unwrap().execute(insert).await.is_err(), "{tenant}");
    }
    let insert = sqlx::query("INSERT INTO texts VALUES ('t', $1, NULL, '')").bind(ours.conversation);
    assert!(db.write("u").await.unwrap().execute(insert).await.is_err());
}

/// What a search looks for lasts as long as its transaction, and says nothing to the index but words.
#[tokio::test]
async fn what_is_sought_stays_in_its_transaction() {
    let store = Store::new(TestDb::new(Backend::PgBouncer).await).await;
    store.say("t", None, "glacier", "tides").await;
    for _ in 0..8 {
        assert_eq!(
            store.conversations.search("t", &SearchQuery::parse("tides"), slice(9)).await.unwrap().data.len(),
            1
        );
        assert_eq!(counts(&mut postgres(&store).read("t").await.unwrap()).await, [1, 2, 3]);
    }
}

#[tokio::test]
async fn a_message_that_has_ended_does_not_change() {
    let store = Store::new(TestDb::new(Backend::Postgres).await).await;
    store.say("t", None, "one", "two").await;
    let mut tx = postgres(&store).write("t").await.unwrap();
    assert!(tx.execute(sqlx::query("UPDATE messages SET content = 'other'")).await.is_err());
}

/// Of many tenants' rows, as the server counts them.
async fn filled() -> Store {
    let store = Store::new(TestDb::new(Backend::Postgres).await).await;
    let fill = "WITH made AS (INSERT INTO conversations (tenant, id, title, created_at, updated_at) \
             SELECT 'tenant ' || n % 5, ('01890000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'x', n, n \
             FROM generate_series(1, 2000) AS n RETURNING tenant, id), \
         said AS (INSERT INTO messages (id, tenant, conversation, parent, role, state, content, created_at) \
             SELECT ('01890001-0000-7000-' || lpad(to_hex(n), 4, '0') || right(id::text, 13))::uuid, tenant, id, \
                 CASE n WHEN 1 THEN NULL \
                     ELSE ('01890001-0000-7000-' || lpad(to_hex(n - 1), 4, '0') || right(id::text, 13))::uuid END, \
                 'user', 'complete', 'x', 1 FROM made, generate_series(1, 10) AS n RETURNING tenant, conversation, id), \
         short AS (INSERT INTO summaries SELECT id, tenant, conversation, 'x', 'm', 1 FROM said) \
         INSERT INTO texts SELECT tenant, conversation, id, \
             ish_words(tenant, '''word' || row_number() OVER () % 500 || ''':1 ''common'':2') FROM said";
    let mut tx = postgres(&store).system(Purpose::Restart).await.unwrap();
    tx.execute(sqlx::query(fill)).await.unwrap();
    tx.commit().await.unwrap();
    store.database.analyze().await;
    store
}

#[tokio::test]
async fn what_is_asked_most_reads_no_table_whole() {
    let store = filled().await;
    let (id, message) = (Uuid::nil(), Uuid::max());
    let page = |query: sqlx::query::Query<'static, _, sqlx::postgres::PgArguments>| query.bind(20_i64).bind(0_i64);
    let sought = "('word7':*)";
    let asked = [
        (explain(LIST).bind(i64::MAX).bind(id).bind(20_i64).bind(0_i64), "conversations_newest"),
        (explain(CHAIN).bind(message).bind(20_i64).bind(60_i64), "summaries_pkey"),
        (page(explain(BRANCH).bind(id).bind(message).bind(None::<Uuid>)), "messages_children"),
        (page(explain(HITS).bind(sought).bind(10_000_i64)), "texts_words"),
    ];
    for (query, index) in asked {
        let mut tx = postgres(&store).read("tenant 3").await.unwrap();
        tx.execute(sqlx::query("SELECT set_config('ish.sought', $1, true)").bind(sought)).await.unwrap();
        let plan: Vec<String> = tx.all(query).await.unwrap().iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan") && plan.contains(index), "{index}:\n{plan}");
    }
}

fn explain(sql: &'static str) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(AssertSqlSafe(format!("EXPLAIN {sql}")))
}

/// Who gives signs of life keeps its answers, however many others start; who leaves, or is followed by another of its name,
/// does not.
#[tokio::test]
async fn answers_of_the_living_are_not_taken_over() {
    let store = Store::new(TestDb::new(Backend::PgBouncer).await).await;
    let lease = Duration::from_mins(1);
    let named = |id: Uuid, name: &str| {
        let own = Instance { id, name: name.to_owned(), address: "127.0.0.1:1".to_owned() };
        Instances::new(&store.db, own, lease).unwrap()
    };
    let first = named(store.owner, "a");
    first.beat(false).await.unwrap();
    let begun = store.ask("t", turn("Who lives?")).await;
    let other = store.beside().await;
    assert!(other.claim(lease, 9).await.unwrap().is_empty());
    named(new_id(), "b").supersede().await.unwrap();
    assert!(other.claim(lease, 9).await.unwrap().is_empty(), "another name's");
    assert_eq!(other.claim(Duration::ZERO, 9).await.unwrap().len(), 1, "the last sign of life is too old");

    let again = store.ask("t", turn("Who follows?")).await;
    named(new_id(), "a").supersede().await.unwrap();
    assert_eq!(other.claim(lease, 9).await.unwrap().remove(0).message.id, again.reply);
    assert!(first.beat(false).await.unwrap().is_new, "who was taken for dead is told");

    let last = store.ask("t", turn("Who leaves?")).await;
    assert!(other.claim(lease, 9).await.unwrap().is_empty());
    first.leave().await.unwrap();
    assert_eq!(other.claim(lease, 9).await.unwrap().remove(0).message.id, last.reply);
    assert!(!store.conversations.finish("t", begun.reply, outcome("too late")).await.unwrap());
}
