//! The configuration: one table of settings, typed sections read from it, every fault reported at once.
//!
//! A value comes from the environment, else the file, else the default. This is the only file that reads the
//! environment. Names that operators of such systems know already are honoured beside our own `ISH_*`.

mod alerts;
mod cache;
mod chat;
mod database;
mod instances;
mod limits;
mod logins;
mod memo;
mod monitoring;
mod network;
mod providers;
mod reader;
mod redis;
mod routing;
mod server;
mod settings;
mod tasks;

use std::path::Path;

pub use self::redis::{RedisConfig, RedisServers};
pub use alerts::{AlertConfig, AlertsConfig, Comparison, Severity, WebhookConfig};
pub use cache::{CacheConfig, EmbeddingConfig, FirstTouch, RemoteEmbedderConfig};
pub use chat::{ChatConfig, PriceConfig};
pub use database::{DatabaseConfig, VectorIndex};
pub use instances::InstancesConfig;
pub use limits::LimitsConfig;
pub use logins::LoginsConfig;
pub use memo::MemoConfig;
pub use monitoring::MonitoringConfig;
pub use network::Network;
pub use providers::{ProviderConfig, ProviderKind, Timeouts, UpstreamConfig};
use reader::Reader;
pub(crate) use reader::likeliest;
pub use reader::{ConfigError, Environment, Origin};
pub use routing::{RouteConfig, RoutingConfig, Strategy, TargetConfig};
pub use server::{LogConfig, ServerConfig};
pub use settings::{SETTINGS, Setting, template};
pub use tasks::TasksConfig;

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where and how the server listens.
    pub server: ServerConfig,
    /// How long browsers stay logged in.
    pub logins: LoginsConfig,
    /// A Postgres in place of files.
    pub database: Option<DatabaseConfig>,
    /// The processes that share it.
    pub instances: InstancesConfig,
    /// What instances share, where there is one.
    pub redis: Option<RedisConfig>,
    /// What is logged.
    pub log: LogConfig,
    /// How providers are called.
    pub upstream: UpstreamConfig,
    /// Who answers: those with a section of their own, then `[providers.NAME]` in the order of their names.
    pub providers: Vec<ProviderConfig>,
    /// Conversations and answers.
    pub chat: ChatConfig,
    /// The answer cache.
    pub cache: CacheConfig,
    /// The embedder.
    pub embedding: EmbeddingConfig,
    /// The caches of what is no answer.
    pub memo: MemoConfig,
    /// How targets are chosen, asked again and given up.
    pub routing: RoutingConfig,
    /// Public model names with targets of their own.
    pub routes: Vec<RouteConfig>,
    /// What callers may use.
    pub limits: LimitsConfig,
    /// Work in the background.
    pub tasks: TasksConfig,
    /// US dollars per million tokens, by model.
    pub prices: Vec<PriceConfig>,
    /// How the process is watched from inside.
    pub monitoring: MonitoringConfig,
    /// What is an alert, and who is told.
    pub alerts: AlertsConfig,
    /// What an operator should know: conflicts, and known names whose part does not exist yet.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the process's environment and the file that it, or `file`, names.
    ///
    /// # Errors
    /// All faults at once, each with the value, where it came from and what is accepted.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::read(&Environment::of_process(), file)
    }

    /// Reads `environment` and the file that it, or `file`, names.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn read(environment: &Environment, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut reader = Reader::open(environment, file)?;
        let config = Self::from_reader(&mut reader);
        reader.finish()?;
        let mut config = config.ok_or_else(ConfigError::default)?;
        config.warnings = reader.warnings;
        Ok(config)
    }

    /// Every setting with its value and where that came from, secrets hidden.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn origins(
        environment: &Environment,
        file: Option<&Path>,
    ) -> Result<Vec<(&'static str, String, Origin)>, ConfigError> {
        let reader = Reader::open(environment, file)?;
        Ok(SETTINGS.iter().map(|setting| reader.shown(setting)).collect())
    }

    /// `None` only when a fault was recorded.
    fn from_reader(reader: &mut Reader) -> Option<Self> {
        let server = ServerConfig::read(reader);
        let logins = LoginsConfig::read(reader);
        let database = DatabaseConfig::read(reader);
        let instances = InstancesConfig::read(reader);
        let redis = RedisConfig::read(reader).filter(|_| reader.shares_redis(database.is_some()));
        let log = LogConfig::read(reader);
        let upstream = UpstreamConfig::read(reader);
        let providers = reader.providers();
        let routing = RoutingConfig::read(reader);
        let routes = reader.routes(&providers);
        let chat = ChatConfig::read(reader);
        let cache = CacheConfig::read(reader);
        let embedding = EmbeddingConfig::read(reader);
        let memo = MemoConfig::read(reader);
        let limits = LimitsConfig::read(reader);
        let tasks = TasksConfig::read(reader, server.as_ref().map(ServerConfig::instance_name).unwrap_or_default());
        let monitoring = MonitoringConfig::read(reader);
        let alerts = AlertsConfig::read(reader);
        let prices = reader.prices();
        let (server, logins, instances, log) = (server?, logins?, instances?, log?);
        let (upstream, routing) = (upstream?, routing?);
        let (chat, cache, embedding, memo, limits, tasks) = (chat?, cache?, embedding?, memo?, limits?, tasks?);
        let (monitoring, alerts) = (monitoring?, alerts?);
        Some(Self {
            server,
            logins,
            database,
            instances,
            redis,
            log,
            upstream,
            providers,
            routing,
            routes,
            chat,
            cache,
            embedding,
            memo,
            limits,
            tasks,
            monitoring,
            alerts,
            prices,
            warnings: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests;
