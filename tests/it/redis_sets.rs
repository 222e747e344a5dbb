//! The Redis of several servers, a cluster and a master that sentinels know: it is used as one, and goes on to be when a
//! master is killed. `scripts/redis_set.py` starts each test's own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use ish::config::Config;
use ish::metrics::Metrics;
use ish::pool::Pools;
use ish::redis::{Redis, RedisError, RedisParts};
use redis::cmd;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::soon;

/// Names enough for every part of a cluster.
const NAMES: usize = 48;

/// The servers; they end with this.
struct Set {
    script: Child,
    /// Port and process of each that answers clients.
    servers: Vec<(String, String)>,
}

impl Set {
    async fn start(kind: &'static str) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/redis_set.py");
        let mut command = Command::new("python3");
        // Its input ends with this test, however that ends; then it stops.
        command.args([path, kind]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let starting = tokio::task::spawn_blocking(move || {
            let mut script = command.spawn().unwrap();
            let lines = BufReader::new(script.stdout.take().unwrap()).lines().map_while(Result::ok);
            let lines: Vec<String> = lines.take_while(|line| line != "ready").collect();
            let split = |line: &String| line.split_once(' ').map(|(port, id)| (port.to_owned(), id.to_owned()));
            Self { script, servers: lines.iter().filter_map(split).collect() }
        });
        let set = starting.await.unwrap();
        assert!(set.servers.len() >= 3, "the {kind} did not start");
        set
    }

    fn addresses(&self) -> String {
        let addresses: Vec<_> = self.servers.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        addresses.join(",")
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        self.script.wait().unwrap();
    }
}

/// A handle as the server has it, on tasks of its own.
struct Client {
    redis: Redis,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Client {
    async fn of(url: &str) -> Self {
        let pairs = [("DATABASE_URL", "postgres://other"), ("REDIS_URL", url), ("ISH_REDIS_TIMEOUT", "5")];
        let config = Config::read(&pairs.into(), None).unwrap().redis.unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (metrics, pools) = (Arc::new(Metrics::new()), Pools::default());
        let parts = RedisParts { config: &config, metrics, pools: &pools, tasks: &tasks, stop: &stop };
        let redis = Redis::start(parts).await.unwrap();
        soon("a connection", redis.connected()).await;
        Self { redis, tasks, stop }
    }

    /// Sets every name to `value` and reads each back.
    async fn use_all(&self, value: &str) -> Result<(), RedisError> {
        for number in 0..NAMES {
            let key = self.redis.key(format_args!("v1:test:{number}"));
            let () = self.redis.query("test", cmd("SET").arg(&key).arg(value).arg("EX").arg(60)).await?;
            let read: String = self.redis.query("test", cmd("GET").arg(&key)).await?;
            assert_eq!(read, value, "{key}");
        }
        Ok(())
    }

    /// Tries until it works.
    async fn use_all_again(&self, value: &str) {
        soon("every name can be used again", async {
            while self.use_all(value).await.is_err() {
                self.redis.connected().await;
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        soon("the end of its tasks", self.tasks.wait()).await;
    }
}

fn kill(process: &str) {
    assert!(Command::new("kill").args(["-9", process]).status().unwrap().success());
}

#[tokio::test]
async fn a_cluster_is_used_as_one_and_outlives_a_master() {
    let set = Set::start("cluster").await;
    let client = Client::of(&format!("redis+cluster://{}", set.addresses())).await;
    client.use_all("first").await.unwrap();
    // Those that were named first were made masters.
    kill(&set.servers[0].1);
    client.use_all_again("second").await;
    client.stop().await;
}

#[tokio::test]
async fn the_sentinels_new_master_is_found_when_the_old_one_dies() {
    let set = Set::start("sentinel").await;
    let client = Client::of(&format!("redis+sentinel://{}/ish/0", set.addresses())).await;
    client.use_all("first").await.unwrap();
    let old = process_of_master(&client).await.unwrap();
    kill(&old);
    client.use_all_again("second").await;
    assert_ne!(process_of_master(&client).await.unwrap(), old);
    client.stop().await;
}

/// The process of the server that is written to, which says that it is a master.
async fn process_of_master(client: &Client) -> Result<String, RedisError> {
    let said: String = client.redis.query("test", cmd("INFO").arg("server").arg("replication")).await?;
    assert!(said.contains("role:master"), "{said}");
    Ok(said.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().trim().to_owned())
}
