//! The schema is brought up to date once, by whoever comes first.

use std::time::Duration;

use sqlx::{Connection, Row};

use super::super::{DbError, MigrationSet, PostgresDb};
use super::server::{TestServer, run};
use crate::config::DatabaseConfig;
use crate::pool::Pools;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_start_at_once_bring_it_up_to_date_once() {
    let server = TestServer::without_schema().await;
    let starts = (0..8).map(|_| {
        let config = server.config.clone();
        tokio::spawn(async move { PostgresDb::connect(&config, &Pools::default()).await.map(drop) })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap().unwrap();
    }
    let applied = sqlx::query("SELECT version FROM ish_migrations ORDER BY version");
    let applied = applied.fetch_all(&mut server.owner().await).await.unwrap();
    let applied: Vec<i64> = applied.iter().map(|row| row.get(0)).collect();
    assert_eq!(applied, MigrationSet::POSTGRES.versions());
}

#[tokio::test]
async fn a_changed_step_and_one_of_a_later_version_are_refused() {
    let server = TestServer::direct().await;
    let mut owner = server.owner().await;
    run(&mut owner, "INSERT INTO ish_migrations (version, name, blake3) VALUES (9999, 'of the future', '')").await;
    let refused = PostgresDb::connect(&server.config, &Pools::default()).await.unwrap_err();
    assert!(matches!(refused, DbError::Migrate(sqlx::migrate::MigrateError::VersionMissing(9999))), "{refused:?}");
    run(
        &mut owner,
        "DELETE FROM ish_migrations WHERE version = 9999; UPDATE ish_migrations SET blake3 = '' WHERE version = 1",
    )
    .await;
    let refused = PostgresDb::connect(&server.config, &Pools::default()).await.unwrap_err();
    assert!(matches!(refused, DbError::Migrate(sqlx::migrate::MigrateError::VersionMismatch(1))), "{refused:?}");
    owner.close().await.unwrap();
}

/// Whoever brings it up to date is cut off while it does: the server was away, and nothing is wrong with the schema.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_meanwhile_is_away() {
    let server = TestServer::direct().await;
    let mut owner = server.owner().await;
    let mut held = owner.begin().await.unwrap();
    run(&mut held, "SELECT pg_advisory_xact_lock(0x6973686d69677261)").await;
    let config = server.config.clone();
    let start = tokio::spawn(async move { PostgresDb::connect(&config, &Pools::default()).await.map(drop) });
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
               AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
    while !start.is_finished() {
        run(&mut held, cut).await;
        tokio::task::yield_now().await;
    }
    let cut_off = start.await.unwrap().unwrap_err();
    assert!(matches!(cut_off, DbError::Away(_)), "{cut_off:?}");
    held.rollback().await.unwrap();

    let patient = DatabaseConfig { start_timeout: Duration::from_secs(30), ..server.config.clone() };
    let mut held = owner.begin().await.unwrap();
    run(&mut held, "SELECT pg_advisory_xact_lock(0x6973686d69677261)").await;
    let start = tokio::spawn(async move { PostgresDb::connect(&patient, &Pools::default()).await.map(drop) });
    while sqlx::raw_sql(cut).fetch_optional(&mut *held).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    held.rollback().await.unwrap();
    start.await.unwrap().unwrap();
    owner.close().await.unwrap();
}
