//! The gate before the pool: who waits, what is told of connections, what is let go.

use std::time::Duration;

use futures_util::FutureExt;

use super::super::PostgresDb;
use super::server::{TestServer, run};
use crate::pool::{PoolFigures, Pools};

async fn opened(server: &TestServer) -> (PostgresDb, Pools) {
    let pools = Pools::default();
    (PostgresDb::connect(&server.config, &pools).await.unwrap(), pools)
}

fn now(pools: &Pools) -> PoolFigures {
    pools.figures().remove(0)
}

/// The figures as soon as they are so: a connection goes back in the background.
async fn once(pools: &Pools, is_so: impl Fn(&PoolFigures) -> bool) -> PoolFigures {
    let looked = tokio::time::timeout(Duration::from_secs(30), async {
        while !is_so(&now(pools)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    looked.await.unwrap_or_else(|_| panic!("{:?}", now(pools)));
    now(pools)
}

#[tokio::test]
async fn the_first_connections_are_there_before_they_are_asked_for() {
    let mut server = TestServer::direct().await;
    server.config.min_connections = 3;
    let (db, pools) = opened(&server).await;
    let figures = once(&pools, |figures| figures.created >= 3).await;
    assert_eq!((figures.name, figures.limit, figures.in_use), ("postgres", 16, 0));
    assert!(figures.size >= Some(3), "{figures:?}");
    db.close().await;
}

#[tokio::test]
async fn who_finds_no_connection_waits_its_turn() {
    let mut server = TestServer::direct().await;
    server.config.max_connections = 2.try_into().unwrap();
    let (db, pools) = opened(&server).await;
    let (one, two) = (db.read("t").await.unwrap(), db.write("t").await.unwrap());
    let mut third = Box::pin(db.read("t"));
    assert!((&mut third).now_or_never().is_none());
    assert_eq!((now(&pools).in_use, now(&pools).waiting), (2, 1));
    drop(one);
    let third = third.await.unwrap();
    // What has committed gives its connection back as well.
    two.commit().await.unwrap();
    let fourth = db.read("t").await.unwrap();
    assert!(now(&pools).size <= Some(2), "{:?}", now(&pools));
    drop((third, fourth));
    assert_eq!(once(&pools, |figures| figures.in_use == 0).await.acquire_timeouts, 0);
}

#[tokio::test]
async fn an_old_connection_is_replaced_and_a_dead_one_is_counted() {
    let mut server = TestServer::direct().await;
    server.config.max_lifetime = Duration::from_nanos(1);
    let (db, pools) = opened(&server).await;
    drop(db.read("t").await.unwrap());
    let figures = once(&pools, |figures| figures.recycled >= 2).await;
    assert_eq!(figures.created, 2, "{figures:?}");

    server.config.max_lifetime = Duration::from_hours(1);
    let (db, pools) = opened(&server).await;
    once(&pools, |figures| figures.in_use == 0).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    run(&mut server.owner().await, cut).await;
    drop(db.read("t").await.unwrap());
    assert!(now(&pools).errors >= 1, "{:?}", now(&pools));
}
