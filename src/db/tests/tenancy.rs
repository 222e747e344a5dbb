//! Rows stay with their tenant, transactions with who began them.

use futures_util::FutureExt;
use sqlx::{Connection, Row};

use super::super::{DbError, Name, PostgresDb, Purpose, Written};
use super::server::{TestServer, run};
use crate::pool::Pools;

const COUNT: &str = "SELECT count(*) FROM scratch";

/// A table of tenants on a database of its own.
async fn scratch(server: &TestServer) -> PostgresDb {
    let mut owner = server.owner().await;
    let table = "CREATE TABLE scratch (tenant text NOT NULL, number bigint PRIMARY KEY); SELECT ish_protect_by_tenant('scratch')";
    run(&mut owner, table).await;
    owner.close().await.unwrap();
    server.connect().await
}

async fn insert(db: &PostgresDb, tenant: &str, of: &str, number: i64) -> Result<(), DbError> {
    let mut tx = db.write(tenant).await?;
    tx.execute(sqlx::query("INSERT INTO scratch VALUES ($1, $2)").bind(of).bind(number)).await?;
    tx.commit().await
}

/// How many rows it sees, in a transaction of several messages and in one that is a message.
async fn count(db: &PostgresDb, tenant: &str) -> i64 {
    let counted = db.read(tenant).await.unwrap().one(sqlx::query(COUNT)).await.unwrap().get(0);
    assert_eq!(db.ask(tenant, &Written::new(COUNT)).await.unwrap()[0].get::<i64, _>(0), counted);
    counted
}

#[tokio::test]
async fn a_tenant_sees_and_changes_only_its_own_rows() {
    let server = TestServer::pooled().await;
    let db = scratch(&server).await;
    // Whatever a tenant is called, it is one value.
    let tenants = ["acme", "o'brien\\'; RESET ROLE; --", "żółw\n"];
    for (tenant, number) in tenants.iter().zip(1..) {
        insert(&db, tenant, tenant, number).await.unwrap();
        assert!(matches!(insert(&db, tenant, "another", 100 + number).await, Err(DbError::Sql(_))));
    }
    for tenant in tenants {
        assert_eq!(count(&db, tenant).await, 1, "{tenant:?}");
        let mut tx = db.write(tenant).await.unwrap();
        assert_eq!(tx.execute(sqlx::query("UPDATE scratch SET number = number + 10")).await.unwrap(), 1);
        tx.commit().await.unwrap();
    }
    assert_eq!((count(&db, "").await, count(&db, "ACME").await), (0, 0));
    let all = db.system(Purpose::Health).await.unwrap().all(sqlx::query("SELECT FROM scratch")).await.unwrap();
    assert_eq!(all.len(), 3);
}

#[tokio::test]
async fn without_the_wrapper_nobody_sees_a_row() {
    let server = TestServer::direct().await;
    let db = scratch(&server).await;
    insert(&db, "acme", "acme", 1).await.unwrap();
    let (mut login, mut owner) = (server.bare().await, server.owner().await);
    let refused = sqlx::query(COUNT).fetch_one(&mut login).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501", "{refused}");
    let seen: i64 = sqlx::query_scalar(COUNT).fetch_one(&mut owner).await.unwrap();
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn to_read_is_not_to_write() {
    let server = TestServer::direct().await;
    let db = scratch(&server).await;
    let mut tx = db.read("acme").await.unwrap();
    assert!(matches!(tx.execute(sqlx::query("INSERT INTO scratch VALUES ('acme', 1)")).await, Err(DbError::Sql(_))));
    let insert = Written::new("INSERT INTO scratch VALUES ('acme', 2)");
    assert!(matches!(db.ask("acme", &insert).await, Err(DbError::Sql(_))));
    assert!(matches!(db.ask_system(Purpose::Health, &insert).await, Err(DbError::Sql(_))));
    assert_eq!(count(&db, "acme").await, 0);
}

/// What a message sets lasts as long as the message, also where it fails: PgBouncer gives the connection to the next who comes.
#[tokio::test]
async fn a_message_leaves_nothing_in_its_connection() {
    let server = TestServer::pooled().await;
    let db = scratch(&server).await;
    let mut next = server.bare().await;
    let settings = "SELECT current_user::text, coalesce(current_setting('ish.tenant', true), ''), \
                    current_setting('transaction_read_only')";
    for failing in ["SELECT (1 / 0)::text", "SELECT count(*) FROM scratch"] {
        let _ = db.ask("acme", &Written::new(failing)).await;
        let row = sqlx::raw_sql(settings).fetch_one(&mut next).await.unwrap();
        let found = [0, 1, 2].map(|column| row.get::<String, _>(column));
        assert_eq!(found, ["ish_app", "", "off"], "{failing}");
    }
}

/// Where nothing else is said in a message, the time that a statement may take is.
#[tokio::test]
async fn a_message_may_take_as_long_as_any_statement() {
    let mut server = TestServer::direct().await;
    server.config.statement_timeout = std::time::Duration::from_millis(20);
    let db = scratch(&server).await;
    let slow = db.ask("acme", &Written::new("SELECT pg_sleep(25)::text")).await;
    let Err(DbError::Sql(error)) = slow else { panic!("{slow:?}") };
    assert_eq!(error.as_database_error().unwrap().code().unwrap(), "57014");
}

/// Where lines of a log go that a test reads.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_slow_statement_is_logged_without_what_was_written_into_it_or_bound() {
    let (server, lines) = (TestServer::pooled().await, Lines::default());
    let db = scratch(&server).await;
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let logging = tracing::subscriber::set_default(log);
    let slow = "SELECT pg_sleep(0.7)::text, $1, $2";
    db.ask("acme", &Written::new(slow).bind(Name("secret-name")).bind(424_242)).await.unwrap();
    let mut begun = db.read("acme").await.unwrap();
    let bound = sqlx::query("SELECT pg_sleep(0.7)::text, $1").bind("a secret text");
    begun.one(bound).await.unwrap();
    begun.one(sqlx::query("SELECT 'quick'")).await.unwrap();
    drop(logging);
    let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert_eq!(said.matches("a slow statement").count(), 2, "{said}");
    assert_eq!(said.matches("SELECT pg_sleep(0.7)::text, $1").count(), 2, "{said}");
    for value in ["secret", "424242", "736563726574", "quick"] {
        assert!(!said.contains(value), "{said}");
    }
}

#[tokio::test]
async fn the_last_statement_and_the_commit_are_one() {
    let server = TestServer::pooled().await;
    let db = scratch(&server).await;
    let insert = |number| Written::new("INSERT INTO scratch VALUES ($1, $2)").bind(Name("acme")).bind(number);
    let begun = db.write("acme").await.unwrap();
    begun.commit_with(&insert(1)).await.unwrap();
    let mut twice = db.write("acme").await.unwrap();
    twice.ask(&insert(2)).await.unwrap();
    let refused = twice.commit_with(&insert(1)).await.unwrap_err();
    assert!(refused.is_duplicate(), "{refused:?}");
    assert_eq!(count(&db, "acme").await, 1, "what was written before it is undone with it");
}

#[tokio::test]
async fn what_is_not_committed_was_never_there() {
    let server = TestServer::pooled().await;
    let db = scratch(&server).await;
    let mut dropped = db.write("acme").await.unwrap();
    dropped.execute(sqlx::query("INSERT INTO scratch VALUES ('acme', 1)")).await.unwrap();
    drop(dropped);
    let mut failed = db.write("acme").await.unwrap();
    failed.execute(sqlx::query("INSERT INTO scratch VALUES ('acme', 2)")).await.unwrap();
    assert!(failed.execute(sqlx::query("INSERT INTO scratch VALUES ('other', 3)")).await.is_err());
    assert!(matches!(failed.commit().await, Err(DbError::Commit(_))), "a failed statement cannot be committed over");
    assert_eq!(count(&db, "acme").await, 0);
    // More often than there are connections, given up at each point on the way.
    for given_up in 0..40 {
        let work = insert(&db, "acme", "acme", given_up);
        tokio::select! {
            biased;
            _ = work => {}
            () = async { for _ in 0..given_up { tokio::task::yield_now().await } } => {}
        }
    }
    insert(&db, "acme", "acme", 1_000).await.unwrap();
    let found = sqlx::query("SELECT FROM scratch WHERE number = 1000");
    assert!(db.read("acme").await.unwrap().optional(found).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_cut_cost_no_request() {
    let server = TestServer::direct().await;
    let db = scratch(&server).await;
    let begun = futures_util::future::join_all((0..8).map(|_| db.read("acme"))).await;
    assert!(begun.iter().all(Result::is_ok));
    drop(begun);
    count(&db, "acme").await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    run(&mut server.owner().await, cut).await;
    for number in 0..20 {
        insert(&db, "acme", "acme", number).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_away() {
    let server = TestServer::direct().await;
    let mut config = server.config.clone();
    let db = server.connect().await;
    drop(server);
    assert!(matches!(db.read("acme").await, Err(DbError::Away(_) | DbError::Sql(_))));
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    config.direct_url = format!("postgres://ish@{nowhere}/ish").into();
    assert!(matches!(PostgresDb::connect(&config, &Pools::default()).boxed().await, Err(DbError::Away(_))));
}
