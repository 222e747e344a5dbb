//! Equal requests on several instances share one upstream call: who asks holds a lease in Redis, the others read along.
//! Every instance asks one provider, whose log says how often it was asked.

use std::time::Duration;

use loadtest::provider::answer::answer_to;
use loadtest::provider::{Fault, Outcome};

use serde_json::json;

use crate::harness::{Line, Server, asking, redis_host, soon, until};
use crate::on_redis::over;

/// Instances that share a database, a provider (the first one's) and the Redis at the end of `line`.
async fn instances(line: &Line, count: usize) -> Vec<Server> {
    let shared = over(line);
    let first = Server::start_on_postgres(&shared).await;
    let mut all = vec![first];
    while all.len() < count {
        let next = all[0].beside(&shared).await;
        all.push(next);
    }
    all
}

async fn stop(instances: Vec<Server>) {
    for instance in instances.into_iter().rev() {
        instance.stop().await;
    }
}

/// Waits until so many flights of this instance are another's.
async fn followed(server: &Server, outcome: &str, count: u64) {
    until("the flight that was read along", || {
        (server.metrics().flights_followed.with_label_values(&[outcome]).get() == count).then_some(())
    })
    .await;
}

/// Asks everywhere at once, in all three ways, while the provider holds its answer; then lets it go.
async fn crowd(size: usize) {
    let line = Line::to(redis_host()).await;
    let instances = instances(&line, 3).await;
    let prompt = "What do people ask everywhere at once?";
    let provider = &instances[0].provider;
    provider.hold_after(1);
    let asked: Vec<_> = (0..size)
        .map(|number| {
            let http = instances[number % 3].http();
            tokio::spawn(async move {
                if number % 2 == 0 {
                    http.chat(&asking(prompt)).await.text()
                } else {
                    http.stream(&asking(prompt)).await.whole().await.text()
                }
            })
        })
        .collect();
    provider.wait_until_held(1).await;
    let aboard = || instances.iter().map(|one| one.metrics().flights_joined.get()).sum::<u64>();
    until("everybody in a flight", || (aboard() == size as u64 - 3).then_some(())).await;
    provider.release();
    for answer in asked {
        assert_eq!(soon("an answer", answer).await.unwrap(), answer_to(prompt));
    }
    assert_eq!(instances[0].upstream_calls(), 1, "one upstream call for {size} on three instances");
    stop(instances).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_prompts_on_three_instances_are_one_upstream_call() {
    crowd(30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_equal_prompts_on_three_instances_are_one_upstream_call() {
    crowd(1_000).await;
}

#[tokio::test]
async fn without_redis_each_instance_asks_for_itself() {
    let line = Line::to(redis_host()).await;
    line.cut();
    let instances = instances(&line, 2).await;
    let prompt = "Who asks without Redis?";
    instances[0].provider.hold_after(1);
    let asked: Vec<_> = instances.iter().map(|one| one.http().begin_chat(&asking(prompt))).collect();
    instances[0].provider.wait_until_held(2).await;
    instances[0].provider.release();
    for answer in asked {
        assert_eq!(answer.reply().await.text(), answer_to(prompt));
    }
    stop(instances).await;
}

#[tokio::test]
async fn pieces_come_as_they_are_made() {
    let line = Line::to(redis_host()).await;
    let instances = instances(&line, 2).await;
    let prompt = "What comes piece by piece?";
    instances[0].provider.hold_after(3);
    let mut here = instances[0].http().stream(&asking(prompt)).await;
    here.first_text().await;
    let mut there = instances[1].http().stream(&asking(prompt)).await;
    // The provider holds the rest: what comes has come from the other instance.
    let first = there.first_text().await;
    assert_eq!(there.headers["x-ish-provider"], "openai");
    instances[0].provider.release();
    here.whole().await;
    assert_eq!(first + &there.whole().await.text(), answer_to(prompt));
    assert_eq!(instances[0].upstream_calls(), 1);
    stop(instances).await;
}

#[tokio::test]
async fn who_reads_along_keeps_the_call() {
    let line = Line::to(redis_host()).await;
    let instances = instances(&line, 2).await;
    let prompt = "Who stays when the opener leaves?";
    instances[0].provider.hold_after(2);
    let mut opener = instances[0].http().stream(&asking(prompt)).await;
    opener.first_text().await;
    let mut there = instances[1].http().stream(&asking(prompt)).await;
    let first = there.first_text().await;
    drop(opener);
    instances[0].provider.release();
    assert_eq!(first + &there.whole().await.text(), answer_to(prompt));
    assert_eq!(instances[0].provider.log()[0].outcome, Outcome::Completed);
    stop(instances).await;
}

#[tokio::test]
async fn when_the_last_has_left_everywhere_the_call_ends() {
    let line = Line::to(redis_host()).await;
    let instances = instances(&line, 2).await;
    let prompt = "Who ends the call?";
    instances[0].provider.hold_after(2);
    let mut opener = instances[0].http().stream(&asking(prompt)).await;
    opener.first_text().await;
    let mut there = instances[1].http().stream(&asking(prompt)).await;
    there.first_text().await;
    drop(opener);
    drop(there);
    instances[0].provider.wait_until_idle().await;
    assert_ne!(instances[0].provider.log()[0].outcome, Outcome::Completed);
    instances[0].provider.release();
    stop(instances).await;
}

#[tokio::test]
async fn a_failure_goes_to_all() {
    let line = Line::to(redis_host()).await;
    let instances = instances(&line, 2).await;
    let prompt = "Who is told of the failure?";
    instances[0].provider.hold_after(2);
    instances[0].provider.fail_next(1, Fault::Cut { after: 5 });
    let mut here = instances[0].http().stream(&asking(prompt)).await;
    here.first_text().await;
    let mut there = instances[1].http().stream(&asking(prompt)).await;
    there.first_text().await;
    instances[0].provider.release();
    let (here, there) = (here.whole().await, there.whole().await);
    assert_eq!(there.error(), here.error());
    followed(&instances[1], "failed", 1).await;
    stop(instances).await;
}

/// What could not be told while Redis was away for a moment is told when it is back.
#[tokio::test]
async fn a_moment_without_redis_costs_nobody_his_answer() {
    let line = Line::to(redis_host()).await;
    let instances = instances(&line, 2).await;
    let prompt = "Who waits for a moment?";
    instances[0].provider.hold_after(2);
    let mut here = instances[0].http().stream(&asking(prompt)).await;
    let first = here.first_text().await;
    let mut there = instances[1].http().stream(&asking(prompt)).await;
    let first_there = there.first_text().await;
    line.cut();
    instances[0].provider.release();
    assert_eq!(first + &here.whole().await.text(), answer_to(prompt));
    line.mend();
    assert_eq!(first_there + &there.whole().await.text(), answer_to(prompt));
    followed(&instances[1], "answered", 1).await;
    stop(instances).await;
}

/// The one who asked is gone before anything came: another takes its place.
#[tokio::test]
async fn a_leader_that_leaves_is_replaced() {
    let line = Line::to(redis_host()).await;
    let mut instances = instances(&line, 2).await;
    let prompt = "Who asks when the first is gone?";
    instances[0].provider.hold_after(0);
    let opener = instances[0].http().begin_chat(&asking(prompt));
    instances[0].provider.wait_until_held(1).await;
    let waiting = instances[1].http().begin_chat(&asking(prompt));
    until("the second's flight", || (instances[1].chat().flights() == 1).then_some(())).await;
    instances[0].begin_drain();
    // The drain cuts what still runs at its end.
    assert_ne!(opener.reply().await.status, 200);
    instances[0].provider.wait_until_held(1).await;
    instances[0].provider.release();
    assert_eq!(waiting.reply().await.text(), answer_to(prompt));
    followed(&instances[1], "lost", 1).await;
    let second = instances.pop().unwrap();
    second.stop().await;
    stop(instances).await;
}

/// An answer that was stored between another's look-up and its lease is found by a second look.
#[tokio::test]
async fn what_is_answered_is_not_asked_again() {
    let line = Line::to(redis_host()).await;
    let instances = instances(&line, 2).await;
    for round in 0..20 {
        let prompt = format!("What is asked here, and then there, in round {round}?");
        instances[0].http().chat(&asking(&prompt)).await;
        let there = soon("the other's answer", instances[1].http().chat(&asking(&prompt))).await;
        assert_eq!(there.text(), answer_to(&prompt));
    }
    assert_eq!(instances[0].upstream_calls(), 20);
    let refresh =
        json!({"model": "mock", "messages": [{"role": "user", "content": "Again?"}], "cache": {"mode": "refresh"}});
    for instance in &instances {
        tokio::time::timeout(Duration::from_secs(30), instance.http().chat(&refresh)).await.unwrap();
    }
    assert_eq!(instances[0].upstream_calls(), 22, "whoever wants a new answer gets one");
    stop(instances).await;
}
