//! What one instance learns, the others know: an exact hit at once, a hit by meaning within a second; and what is evicted on
//! one is gone on all.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Http, Line, Server, asking, redis_host, report, soon};
use crate::on_redis::over;

/// Rounds in `make test`; `make soak` asks for more.
#[expect(clippy::disallowed_methods, reason = "how often, which only the one who starts the tests knows")]
fn rounds() -> usize {
    std::env::var("ISH_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5)
}

fn only(prompt: &str) -> Value {
    let mut body = asking(prompt);
    body["cache"] = json!({"mode": "only"});
    body
}

/// How long it takes until every one of these finds an answer to the question in its cache, or none does.
async fn until_all(https: &[&Http], prompt: &str, found: bool) -> Duration {
    let begun = Instant::now();
    soon("all instances to agree", async {
        for http in https {
            loop {
                let reply = http.chat(&only(prompt)).await;
                assert!(matches!(reply.status.as_u16(), 200 | 504), "{reply:?}");
                if (reply.status == 200) == found {
                    break;
                }
            }
        }
    })
    .await;
    begun.elapsed()
}

fn ms(times: &mut [Duration]) -> Value {
    times.sort();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1)).map(|time| time.as_secs_f64() * 1e3);
    json!({"median": at(50), "p99": at(99)})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_learns_all_know_and_what_one_forgets_all_forget() {
    let line = Line::to(redis_host()).await;
    let shared = over(&line);
    let first = Server::start_on_postgres(&shared).await;
    let (second, third) = (first.beside(&shared).await, first.beside(&shared).await);
    let https = [first.http(), second.http(), third.http()];
    let (mut exact, mut meant, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds() {
        let prompt = format!("How do I undo the last {} git commits?", round + 2);
        let reworded = format!("How can I undo the last {} git commits?", round + 2);
        let asked = https[round % 3].chat(&asking(&prompt)).await;
        assert_eq!((asked.status.as_u16(), asked.header("x-ish-cache")), (200, "MISS"), "{round}");
        let others = [&https[(round + 1) % 3], &https[(round + 2) % 3]];
        exact.push(until_all(&others, &prompt, true).await);
        meant.push(until_all(&others, &reworded, true).await);
        let key = others[0].chat(&only(&prompt)).await.header("x-ish-cache-key").to_owned();
        let evicted = others[0].send(Method::DELETE, &format!("/api/cache/entries/{key}"), "").await;
        assert!(evicted.status.is_success(), "{evicted:?}");
        let all = [&https[0], &https[1], &https[2]];
        gone.push(until_all(&all, &prompt, false).await);
        assert!(until_all(&all, &reworded, false).await < Duration::from_secs(30));
    }
    assert_eq!(first.upstream_calls(), rounds(), "each question was asked once");
    report::write("learned", "an answer learned on one of three instances, then evicted on another: ms until all know", &json!({
        "rounds": rounds(), "exact_ms": ms(&mut exact), "by_meaning_ms": ms(&mut meant), "evicted_ms": ms(&mut gone),
    }));
    for instance in [third, second, first] {
        instance.stop().await;
    }
}
