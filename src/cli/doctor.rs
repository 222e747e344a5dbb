//! `ish doctor`: checks everything that could keep a server from working, and says what to do.

use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::Method;
use clap::Args;

use super::console::Console;
use crate::app::RunningServer;
use crate::config::{Config, DatabaseConfig, RedisConfig};
use crate::db::Db;
use crate::embedding::{Embedder, MiniLm};
use crate::pool::Pools;
use crate::prices::Prices;
use crate::providers::{self, Provider};
use crate::redis::Redis;
use crate::upstream::Upstream;

/// Models without a price that are named.
const NAMED: usize = 10;

#[derive(Debug, Args)]
pub(super) struct Doctor {}

/// Prints verdicts and remembers whether one was bad.
#[derive(Default)]
struct Report {
    failed: bool,
}

impl Report {
    /// What is no fault, and perhaps not what was meant.
    fn warn(what: &str, detail: &str) {
        println!("warn  {what:<14} {detail}");
    }

    fn say(&mut self, what: &str, verdict: Result<String, String>) {
        match verdict {
            Ok(detail) => println!("ok    {what:<14} {detail}"),
            Err(detail) => {
                self.failed = true;
                println!("FAIL  {what:<14} {detail}");
            }
        }
    }
}

impl Doctor {
    pub(super) async fn run(self, file: Option<&Path>) -> anyhow::Result<()> {
        let mut report = Report::default();
        let config = match Config::load(file) {
            Ok(config) => config,
            Err(error) => {
                report.say("configuration", Err(error.to_string()));
                anyhow::bail!("the configuration must be mended first");
            }
        };
        report.say("configuration", Ok(format!("{} warning(s)", config.warnings.len())));
        for warning in &config.warnings {
            println!("      {:<14} {warning}", "warning");
        }
        let running = RunningServer::find(&config.server.data_dir);
        report.say("data folder", folder(&config.server.data_dir));
        if let Some(database) = &config.database {
            report.say("database", server_of(database).await);
        }
        if let Some(redis) = &config.redis {
            report.say("redis", redis_of(redis).await);
        }
        report.say("server", server(running.as_ref(), &config));
        report.say("open files", open_files());
        report.say("embedder", embedder(&config).await);
        let mut offered = Vec::new();
        for provider in &config.providers {
            let name = format!("provider {}", provider.name);
            let client = providers::configured(provider, &Upstream::new(&config.upstream, &Pools::default())?)?;
            let models = listed(client.as_ref()).await;
            let count = models.as_ref().map(|models| format!("{}, {} models", provider.kind.as_str(), models.len()));
            report.say(&name, count.map_err(Clone::clone));
            offered.extend(models.into_iter().flatten().map(|model| (provider.name.clone(), model)));
        }
        report.say("provider demo", Ok("built in".to_owned()));
        let missing = Prices::new(config.prices.clone()).missing(&config.routes, &offered);
        match budgets(&config).await {
            Ok(budgets) if budgets == 0 || missing.is_empty() => {
                report.say("budgets", Ok(format!("of {budgets} key(s)")));
            }
            Ok(budgets) => Report::warn("budgets", &unpriced(budgets, &missing)),
            Err(error) => report.say("budgets", Err(error.to_string())),
        }
        if report.failed {
            anyhow::bail!("some checks failed");
        }
        Ok(())
    }
}

fn folder(path: &Path) -> Result<String, String> {
    let shown = path.display();
    std::fs::create_dir_all(path).map_err(|error| {
        format!("{shown} cannot be made: {error}; set ISH_DATA_DIR to a folder that can be written")
    })?;
    let probe = path.join(".ish-doctor");
    std::fs::write(&probe, b"probe")
        .and_then(|()| std::fs::remove_file(&probe))
        .map_err(|error| format!("{shown} cannot be written: {error}"))?;
    Ok(format!("{shown} can be written"))
}

fn server(running: Option<&RunningServer>, config: &Config) -> Result<String, String> {
    if let Some(running) = running {
        return Ok(format!(
            "runs as process {} at {}",
            running.pid,
            running.address.map_or_else(|| "(starting)".to_owned(), |address| address.to_string())
        ));
    }
    match std::net::TcpListener::bind(config.server.listen) {
        Ok(_) => Ok(format!("none runs; {} is free", config.server.listen)),
        Err(error) => {
            Err(format!("{} cannot be listened on: {error}; set ISH_LISTEN to another address", config.server.listen))
        }
    }
}

async fn server_of(database: &DatabaseConfig) -> Result<String, String> {
    let fix = "check DATABASE_URL, and DATABASE_DIRECT_URL where it is set";
    let probed = Db::probe(database).await.map_err(|error| format!("{:#}; {fix}", anyhow::Error::from(error)))?;
    Ok(format!("{probed}, up to {} connections", database.max_connections))
}

async fn redis_of(redis: &RedisConfig) -> Result<String, String> {
    let shown = redis.servers.shown();
    match Redis::probe(redis).await {
        Ok(took) => Ok(format!("{shown} answers within {:.1} ms", took.as_secs_f64() * 1e3)),
        Err(error) => Err(format!("{shown}: {error}; check REDIS_URL; the server works without it, and slower")),
    }
}

/// How many keys have a budget.
async fn budgets(config: &Config) -> anyhow::Result<usize> {
    let console = Console::open(config.clone()).await?;
    let listed = console.call(Method::GET, "/api/admin/keys", None).await;
    console.close().await;
    let listed = listed?;
    let keys = listed["data"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(keys.iter().filter(|key| key["budget_usd"].is_number() && key["revoked_at"].is_null()).count())
}

/// What the keys with a budget cannot use. Some providers offer hundreds of models: of those the first are named.
fn unpriced(budgets: usize, missing: &[String]) -> String {
    let named = &missing[..missing.len().min(NAMED)];
    let more = match missing.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let names = named.join(", ");
    format!("{budgets} key(s) have one, and may not use what has no price: {names}{more}; [prices] gives them one")
}

fn open_files() -> Result<String, String> {
    match rlimit::getrlimit(rlimit::Resource::NOFILE) {
        Ok((_, hard)) if hard < 4_096 => {
            Err(format!("at most {hard} open files: each socket takes one; raise `ulimit -Hn`"))
        }
        Ok((_, hard)) => Ok(format!("up to {hard}")),
        Err(error) => Err(error.to_string()),
    }
}

async fn embedder(config: &Config) -> Result<String, String> {
    if let Some(remote) = &config.embedding.remote {
        return Ok(format!("remote: {} at {}", remote.model, remote.base_url));
    }
    let started = Instant::now();
    let model =
        MiniLm::start(config.embedding.workers, 8, config.embedding.batch_size).map_err(|error| error.to_string())?;
    let texts = ["How do I reset my password?", "What is the way to reset a password?", "Who painted the ceiling?"]
        .map(str::to_owned);
    let embedded = model.embed(texts.to_vec(), None).await.map_err(|error| error.to_string())?;
    let (alike, other) = (
        embedded[0].embedding.cosine(&embedded[1].embedding).get(),
        embedded[0].embedding.cosine(&embedded[2].embedding).get(),
    );
    if alike < other + 0.3 {
        return Err(format!("a paraphrase scored {alike:.2}, another question {other:.2}: the model file is damaged"));
    }
    Ok(format!(
        "{}: self-test {alike:.2} > {other:.2} in {} ms, load included",
        model.id(),
        started.elapsed().as_millis()
    ))
}

async fn listed(provider: &dyn Provider) -> Result<Vec<String>, String> {
    match tokio::time::timeout(Duration::from_secs(10), provider.models()).await {
        Ok(Ok(models)) => Ok(models),
        Ok(Err(failure)) => Err(format!("{failure}; check its base_url and key")),
        Err(_) => Err("no answer within 10 s".to_owned()),
    }
}
