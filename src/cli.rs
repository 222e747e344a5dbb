//! The command line: one file a verb. Verbs that look at data ask the server that holds the data folder, or, when none
//! does, the same application inside this process.

mod alerts;
mod cache;
mod chat;
mod config;
mod console;
mod doctor;
mod keys;
mod providers;
mod serve;
mod sessions;
mod tasks;
mod worker;
mod workflows;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// A chat backend that answers from a verified semantic cache when an earlier answer is safe to reuse.
#[derive(Debug, Parser)]
#[command(name = "ish", version, about)]
pub struct Cli {
    /// The configuration file; `ish config init` prints one.
    #[arg(long, global = true, env = "ISH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve (the default).
    Serve(serve::Serve),
    /// Run tasks, and serve nothing: beside servers on the same Postgres.
    Worker(worker::Worker),
    /// Chat with a server from this terminal, over its WebSocket.
    Chat(chat::Chat),
    /// Check configuration, data folder, embedder, providers and a running server.
    Doctor(doctor::Doctor),
    /// List the providers, and whether each answers.
    Providers(providers::Providers),
    /// Print, check or show the configuration.
    #[command(subcommand)]
    Config(config::ConfigVerb),
    /// Make, list, limit and revoke API keys.
    #[command(subcommand)]
    Keys(keys::KeysVerb),
    /// Look into the cache, explain its decisions, evict entries.
    #[command(subcommand)]
    Cache(cache::CacheVerb),
    /// List what a running server finds wrong with itself; silence it.
    #[command(subcommand)]
    Alerts(alerts::AlertsVerb),
    /// List, enqueue, cancel, retry, purge and pause work in the background.
    #[command(subcommand)]
    Tasks(tasks::TasksVerb),
    /// List, show, start, cancel and retry runs of workflows.
    #[command(subcommand)]
    Workflows(workflows::WorkflowsVerb),
    /// List, show, search, rename, export and delete conversations.
    #[command(subcommand)]
    Sessions(sessions::SessionsVerb),
}

impl Cli {
    /// Runs the verb.
    ///
    /// # Errors
    /// What failed, for a person to read.
    pub async fn run(self) -> anyhow::Result<()> {
        let file = self.config.as_deref();
        match self.verb.unwrap_or_else(|| Verb::Serve(serve::Serve::default())) {
            Verb::Config(verb) => verb.run(file),
            Verb::Serve(verb) => Box::pin(verb.run(Config::load(file)?)).await,
            Verb::Worker(verb) => Box::pin(verb.run(Config::load(file)?)).await,
            Verb::Chat(verb) => verb.run(Config::load(file)?).await,
            Verb::Doctor(verb) => Box::pin(verb.run(file)).await,
            Verb::Providers(verb) => verb.run(Config::load(file)?).await,
            Verb::Keys(verb) => Box::pin(verb.run(Config::load(file)?)).await,
            Verb::Cache(verb) => Box::pin(verb.run(Config::load(file)?)).await,
            Verb::Alerts(verb) => Box::pin(verb.run(Config::load(file)?)).await,
            Verb::Tasks(verb) => Box::pin(verb.run(Config::load(file)?)).await,
            Verb::Workflows(verb) => Box::pin(verb.run(Config::load(file)?)).await,
            Verb::Sessions(verb) => Box::pin(verb.run(Config::load(file)?)).await,
        }
    }
}
