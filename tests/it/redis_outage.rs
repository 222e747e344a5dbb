//! Redis goes away under load, for a while, and comes back: no message fails, and the instances find it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use loadtest::provider::answer::answer_to;
use serde_json::json;

use crate::harness::{Line, Server, Socket, asking, redis_host, report, soon};
use crate::on_redis::over;

/// How long Redis is away, in `make test`; `make soak` says 30 s.
#[expect(clippy::disallowed_methods, reason = "how long, which only the one who starts the tests knows")]
fn outage() -> Duration {
    let seconds = std::env::var("ISH_TEST_OUTAGE_S").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(1.5))
}

/// One client: asks by turns what is new, what was asked before, and over the socket; returns how long each took.
async fn client(number: usize, address: std::net::SocketAddr, over: Arc<AtomicBool>) -> Vec<Duration> {
    let http = crate::harness::Http::new(address);
    let (mut socket, name) = (Socket::greeted(address).await, uuid::Uuid::now_v7());
    let mut took = Vec::new();
    for round in 0.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let begun = Instant::now();
        let prompt = match round % 3 {
            0 => format!("What is new to client {number} in round {round}?"),
            _ => format!("What do clients ask again and again, number {}?", round % 5),
        };
        if round % 2 == 0 {
            let reply = http.chat(&asking(&prompt)).await;
            assert_eq!((reply.status.as_u16(), reply.text()), (200, answer_to(&prompt)));
        } else {
            let (_, answer) = socket.ask_whole(&format!("{name}-{round}"), &prompt).await;
            assert_eq!(answer.ending(), "done");
        }
        took.push(begun.elapsed());
    }
    took
}

fn p99(mut took: Vec<Duration>) -> f64 {
    took.sort();
    took.get(took.len() * 99 / 100).map_or(0.0, Duration::as_secs_f64) * 1e3
}

/// Runs the load for so long and says how long each message took.
async fn load(instances: [&Server; 2], time: impl Future<Output = ()>) -> Vec<Duration> {
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (0..8).map(|number| tokio::spawn(client(number, instances[number % 2].address, Arc::clone(&over)))).collect();
    time.await;
    over.store(true, Ordering::SeqCst);
    let mut took = Vec::new();
    for client in clients {
        took.extend(soon("a client's end", client).await.unwrap());
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_redis_fails_no_message() {
    let line = Line::to(redis_host()).await;
    let shared = over(&line);
    let first = Server::start_on_postgres(&shared).await;
    let second = first.beside(&shared).await;
    let before = load([&first, &second], tokio::time::sleep(outage())).await;
    let during = load([&first, &second], async {
        line.cut();
        tokio::time::sleep(outage()).await;
    })
    .await;
    line.mend();
    let mended = Instant::now();
    for instance in [&first, &second] {
        soon("Redis to be found again", async {
            while instance.http().get("/api/status").await.json()["redis"] != "up" {}
        })
        .await;
    }
    let found_after = mended.elapsed();
    let after = load([&first, &second], tokio::time::sleep(outage())).await;
    assert!(before.len() > 20 && during.len() > 20 && after.len() > 20);
    report::write(
        "redis-outage",
        "messages before, during and after an outage of Redis; none failed",
        &json!({
            "outage_s": outage().as_secs_f64(),
            "messages": [before.len(), during.len(), after.len()],
            "p99_ms": [p99(before), p99(during), p99(after)],
            "found_again_after_s": found_after.as_secs_f64(),
        }),
    );
    second.stop().await;
    first.stop().await;
}
