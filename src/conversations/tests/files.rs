//! What only files must keep: databases of older schemas, and the plan of the window's read.

use super::*;
use crate::db::SqliteDb;
use crate::db::tests::Backend;

/// A file of the first schema with rows in it, as it is after an update.
async fn of_the_first_schema(rows: &'static str) -> Store {
    let database = TestDb::new(Backend::Sqlite).await;
    let old = database.open(MigrationSet::ISH.oldest(1)).await;
    let insert = sqlite(&old).write(move |tx| Box::pin(async move { sqlx::raw_sql(rows).execute(tx).await.map(drop) }));
    insert.await.unwrap();
    old.close().await;
    Store::new(database).await
}

fn sqlite(db: &Db) -> &SqliteDb {
    let Db::Sqlite(db) = db else { panic!("it is no file") };
    db
}

#[tokio::test]
async fn the_window_is_one_read_that_ends_with_it() {
    let store = Store::new(TestDb::new(Backend::Sqlite).await).await;
    let plan: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", super::super::sqlite::CHAIN)))
            .bind(new_id().to_string())
            .bind("t")
            .bind(20)
            .bind(60)
            .fetch_all(&mut *sqlite(&store.db).read().await.unwrap())
            .await
            .unwrap();
    let reads: Vec<&str> = plan
        .iter()
        .map(|(.., step)| step.as_str())
        .filter(|step| ["messages", " m ", "summaries"].iter().any(|table| step.contains(table)))
        .collect();
    assert!(reads.len() >= 5, "{plan:?}");
    for step in reads {
        assert!(step.starts_with("SEARCH"), "a row that is not in the window would be read: {step}");
    }
}

#[tokio::test]
async fn a_database_of_the_first_schema_goes_on_at_its_end() {
    let store = of_the_first_schema(
        "INSERT INTO conversations VALUES ('01890000-0000-7000-8000-000000000001', 't', 'Old', 'm', 1, 2),
                                          ('01890000-0000-7000-8000-000000000009', 't', 'Empty', NULL, 1, 2);
         INSERT INTO messages (id, tenant, conversation, parent, role, state, content, created_at) VALUES
         ('01890000-0000-7000-8000-000000000002', 't', '01890000-0000-7000-8000-000000000001', NULL, 'user', 'complete', 'one', 1),
         ('01890000-0000-7000-8000-000000000003', 't', '01890000-0000-7000-8000-000000000001', '01890000-0000-7000-8000-000000000002', 'assistant', 'complete', 'first', 1),
         ('01890000-0000-7000-8000-000000000004', 't', '01890000-0000-7000-8000-000000000001', '01890000-0000-7000-8000-000000000002', 'assistant', 'complete', 'second', 1);",
    )
    .await;
    let [id, empty] = [1, 9].map(|end| format!("01890000-0000-7000-8000-00000000000{end}").parse().unwrap());
    assert_eq!(store.branch_texts(id, None).await, ["one", "second"]);
    store.follow(id, Parent::Selected, "two").await;
    assert_eq!(store.branch_texts(id, None).await, ["one", "second", "two", "to two"]);
    assert_eq!(store.branch_texts(empty, None).await, [] as [&str; 0]);
}

#[tokio::test]
async fn a_long_text_takes_less_room_than_it_has() {
    let store = Store::new(TestDb::new(Backend::Sqlite).await).await;
    let text = "What is said in many words is said in many words again. ".repeat(100);
    let begun = store.say("t", None, &text, &text).await;
    let stored = "SELECT sum(length(content)), sum(length(packed)) FROM messages WHERE conversation = ?1";
    let query = sqlx::query_as::<_, (i64, i64)>(stored).bind(begun.conversation.to_string());
    let (plain, packed) = query.fetch_one(&mut *sqlite(&store.db).read().await.unwrap()).await.unwrap();
    assert!(plain == 0 && (1..text.len() as i64).contains(&packed), "{plain}, {packed}");
    let change = "UPDATE messages SET content = 'another'";
    let changed =
        sqlite(&store.db).write(move |tx| Box::pin(async move { sqlx::query(change).execute(tx).await.map(drop) }));
    assert!(changed.await.is_err(), "what has ended does not change");
}

#[tokio::test]
async fn a_database_of_the_first_schema_is_searched_too() {
    let store = of_the_first_schema(
        "INSERT INTO conversations VALUES ('01890000-0000-7000-8000-000000000001', 't', 'Old tides', 'm', 1, 2);
         INSERT INTO messages (id, tenant, conversation, parent, role, state, content, created_at) VALUES
         ('01890000-0000-7000-8000-000000000002', 't', '01890000-0000-7000-8000-000000000001', NULL, 'system', 'complete', 'Be short about narwhals.', 1),
         ('01890000-0000-7000-8000-000000000003', 't', '01890000-0000-7000-8000-000000000001', '01890000-0000-7000-8000-000000000002', 'user', 'complete', 'Why tides?', 1),
         ('01890000-0000-7000-8000-000000000004', 't', '01890000-0000-7000-8000-000000000001', '01890000-0000-7000-8000-000000000003', 'assistant', 'streaming', 'The old Moon', 1);",
    )
    .await;
    assert_eq!(store.checked_texts().await, 2);
    store.interrupt_all().await;
    assert_eq!(store.checked_texts().await, 3, "what was being answered then is found too");
    let found = store.found("t", "moon").await.remove(0);
    assert_eq!((found.conversation.title.as_str(), found.conversation.messages), ("Old tides", 3));
    assert_eq!(store.found("t", "narwhals").await.len(), 0, "instructions are no part of the talk");
    assert_eq!(store.found("u", "moon").await.len(), 0);
}
