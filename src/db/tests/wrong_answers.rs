//! Through PgBouncer in transaction mode, with four server connections and drivers that name statements, one client can be
//! given another's answer. Each statement here says which it is, and its answer is looked at.

use std::sync::Arc;

use sqlx::Row;

use super::super::Written;
use super::server::TestServer;

const CALLERS: i64 = 200;
const STATEMENTS: i64 = 104;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_gets_its_own_answer_and_its_own_tenant() {
    let mut server = TestServer::pooled().await;
    server.config.max_connections = 200.try_into().unwrap();
    let db = Arc::new(server.connect().await);
    let callers = (0..CALLERS).map(|caller| {
        let db = Arc::clone(&db);
        tokio::spawn(async move {
            let mut right = 0;
            for number in (0..STATEMENTS).step_by(4) {
                right += four_statements(&db, caller, number).await;
            }
            right
        })
    });
    let mut right = 0;
    for caller in callers.collect::<Vec<_>>() {
        right += caller.await.unwrap();
    }
    assert_eq!(right, CALLERS * STATEMENTS);
}

/// Three in one transaction and one that is a transaction by itself; of different shapes, so that an answer to another statement cannot pass for its own; how many of the answers were right.
async fn four_statements(db: &super::super::PostgresDb, caller: i64, number: i64) -> i64 {
    let tenant = format!("tenant {caller}");
    let mut tx = db.read(&tenant).await.unwrap();
    let sum = tx.one(sqlx::query("SELECT $1::bigint + $2::bigint").bind(caller * 1_000).bind(number)).await.unwrap();
    let word = format!("{caller}/{number}");
    let echo = tx.one(sqlx::query("SELECT $1::text AS echo").bind(&word)).await.unwrap();
    let rows = tx.all(sqlx::query("SELECT generate_series($1, $1 + 2)::bigint").bind(number)).await.unwrap();
    drop(tx);
    let own = Written::new("SELECT $1, current_setting('ish.tenant'), current_user::text").bind(number);
    let own = db.ask(&tenant, &own).await.unwrap().remove(0);
    i64::from(sum.get::<i64, _>(0) == caller * 1_000 + number)
        + i64::from(own.get::<i64, _>(0) == number && own.get::<String, _>(1) == tenant)
            * i64::from(own.get::<String, _>(2) == "ish_tenant")
        + i64::from(echo.get::<String, _>("echo") == word)
        + i64::from(rows.iter().map(|row| row.get::<i64, _>(0)).eq(number..number + 3))
}
