//! A key's rate over several instances: Redis counts, and while it is away each instance serves its share.

use std::num::NonZeroU32;
use std::time::Instant;

use serde_json::json;

use crate::harness::{ADMIN_KEY, Http, Line, Server, asking, redis_host, soon, until};
use crate::on_redis::over;

/// Three instances with an admin's key, over the Redis at the end of `line`.
async fn three(line: &Line, folder: &tempfile::TempDir) -> Vec<Server> {
    let file = folder.path().join("admin.key");
    std::fs::write(&file, ADMIN_KEY).unwrap();
    let shared = over(line);
    let configured = |config: &mut ish::config::Config| {
        shared(config);
        config.server.admin_key_file = Some(file.clone());
    };
    let first = Server::start_on_postgres(configured).await;
    let (second, third) = (first.beside(configured).await, first.beside(configured).await);
    vec![first, second, third]
}

async fn key_of_rate(server: &Server, per_minute: u32, burst: u32) -> String {
    let wish = json!({"name": "a test's", "tenant": "t", "requests_per_minute": per_minute, "request_burst": burst});
    server.made_key(&wish).await["key"].as_str().unwrap().to_owned()
}

/// Asks in turn until so many were refused in a row, and says how many were served.
async fn drained(https: &[Http]) -> usize {
    let (mut served, mut refused) = (0, 0);
    for http in https.iter().cycle() {
        match http.chat(&asking("What is the limit?")).await.status.as_u16() {
            200 => (served, refused) = (served + 1, 0),
            429 => refused += 1,
            other => panic!("{other}"),
        }
        if refused == 10 {
            break;
        }
    }
    served
}

#[tokio::test]
async fn a_keys_rate_is_one_over_all_instances() {
    let (line, folder) = (Line::to(redis_host()).await, tempfile::tempdir().unwrap());
    let instances = three(&line, &folder).await;
    let (per_minute, burst) = (NonZeroU32::new(100).unwrap(), 20);
    let key = key_of_rate(&instances[0], per_minute.get(), burst).await;
    let https: Vec<_> = instances.iter().map(|one| one.http().with_key(&key)).collect();
    let begun = Instant::now();
    let served = drained(&https).await;
    let most = f64::from(burst) + f64::from(per_minute.get()) / 60.0 * begun.elapsed().as_secs_f64();
    assert!(served as f64 <= 1.05 * most && served >= burst as usize, "{served} of {most}");
    for http in &https {
        let refused = http.chat(&asking("And now?")).await;
        assert_eq!((refused.status.as_u16(), refused.header("x-ratelimit-remaining-requests")), (429, "0"));
        assert!(refused.header("retry-after-ms").parse::<u64>().unwrap() > 0);
    }
    stop(instances).await;
}

#[tokio::test]
async fn tokens_are_one_over_all_instances() {
    let (line, folder) = (Line::to(redis_host()).await, tempfile::tempdir().unwrap());
    let instances = three(&line, &folder).await;
    let wish = json!({"name": "a test's", "tenant": "t", "tokens_per_minute": 60, "token_burst": 100});
    let key = instances[0].made_key(&wish).await["key"].as_str().unwrap().to_owned();
    let mut body = asking("How many tokens are these?");
    body["cache"] = json!({"mode": "off"});
    let mut served = 0;
    soon("the limit", async {
        for number in 0.. {
            let reply = instances[number % 3].http().with_key(&key).chat(&body).await;
            if reply.status == 429 {
                break;
            }
            served += reply.json()["usage"]["total_tokens"].as_u64().unwrap();
        }
    })
    .await;
    // The last answer's own tokens are known when it has come, and each instance may have had one under way.
    assert!((100..=250).contains(&served), "{served}");
    stop(instances).await;
}

async fn stop(instances: Vec<Server>) {
    for instance in instances.into_iter().rev() {
        instance.stop().await;
    }
}

#[tokio::test]
async fn without_redis_each_instance_serves_its_share() {
    let (line, folder) = (Line::to(redis_host()).await, tempfile::tempdir().unwrap());
    let instances = three(&line, &folder).await;
    let (per_minute, burst) = (30, 30);
    let key = key_of_rate(&instances[0], per_minute, burst).await;
    // Each has to have heard of the others.
    for instance in &instances {
        until("the others", || (instance.metrics().instances.get() == 3).then_some(())).await;
    }
    line.cut();
    let begun = Instant::now();
    for instance in &instances {
        let served = drained(&[instance.http().with_key(&key)]).await;
        let most = (f64::from(burst) + f64::from(per_minute) / 60.0 * begun.elapsed().as_secs_f64()) / 3.0;
        assert!(served as f64 <= most.ceil() && served >= 10, "{served} of {most}");
    }
    stop(instances).await;
}
