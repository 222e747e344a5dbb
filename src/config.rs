//! The configuration: one table of settings, typed sections read from it, every fault reported at once.
//!
//! A value comes from the environment, else the file, else the default. This is the only file that reads the
//! environment. Names that operators of such systems know already are honoured beside our own `ISH_*`.

mod network;
mod reader;
mod routes;
mod settings;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

pub use network::Network;
use reader::Reader;
pub use reader::{ConfigError, Environment, Origin};
pub use settings::{SETTINGS, Setting, template};

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where and how the server listens.
    pub server: ServerConfig,
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
    /// How targets are chosen, asked again and given up.
    pub routing: RoutingConfig,
    /// Public model names with targets of their own.
    pub routes: Vec<RouteConfig>,
    /// What callers may use.
    pub limits: LimitsConfig,
    /// US dollars per million tokens, by model.
    pub prices: Vec<PriceConfig>,
    /// What an operator should know: conflicts, and known names whose part does not exist yet.
    pub warnings: Vec<String>,
}

/// Section `server`.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Where the databases and the lock file live.
    pub data_dir: PathBuf,
    /// Stay in local mode although keys exist; only on a loopback address.
    pub local: bool,
    /// The first admin key of a server that does not listen on loopback.
    pub admin_key_file: Option<PathBuf>,
    /// Further origins whose pages may use this server, besides its own.
    pub allowed_origins: Vec<String>,
    /// Proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<Network>,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Largest WebSocket frame, in bytes.
    pub max_frame_bytes: usize,
    /// WebSocket connections at once.
    pub max_connections: NonZeroUsize,
    /// Of these, with one key.
    pub max_connections_per_key: NonZeroUsize,
    /// Of these, from one address.
    pub max_connections_per_address: NonZeroUsize,
    /// Frames that a WebSocket client may send in a second.
    pub max_frames_per_second: NonZeroU32,
    /// Between two pings on a WebSocket.
    pub heartbeat: Duration,
    /// How long a drain may take before what is left is cut.
    pub drain_timeout: Duration,
    /// This instance's name in logs and `/api/status`.
    pub instance_id: String,
    /// Whether `/metrics` is served.
    pub metrics: bool,
}

/// Section `log`.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// A filter per module, in tracing's syntax.
    pub filter: String,
    /// Lines for machines.
    pub json: bool,
}

/// Section `upstream`.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time to the first token of a stream.
    pub first_token_timeout: Duration,
    /// Longest silence inside a stream.
    pub idle_timeout: Duration,
    /// Time for a whole answer while another target could be asked.
    pub whole_timeout: Duration,
    /// Time for the whole call.
    pub total_timeout: Duration,
    /// Idle connections kept per provider.
    pub max_connections: NonZeroUsize,
}

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// OpenAI's chat completions.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Gemini's `generateContent`.
    Gemini,
    /// Ollama's `/api/chat`.
    Ollama,
}

impl ProviderKind {
    /// All of them, the preferred first.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Ollama];

    /// Its word in the file, which is also the name of its own section.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }
}

/// One provider: a section of its own, or `[providers.NAME]`.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// The name before the slash in `provider/model`.
    pub name: String,
    /// What it speaks.
    pub kind: ProviderKind,
    /// The address that its paths are appended to: `/chat/completions`, `/v1/messages`.
    pub base_url: Url,
    /// The key sent upstream, if any.
    pub api_key: Option<SecretString>,
    /// Models to offer; empty: asked from the provider.
    pub models: Vec<String>,
    /// How long its calls may take, where that is not as with others.
    pub timeouts: Timeouts,
}

/// A provider's own timeouts; `None`: those of section `upstream`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeouts {
    /// Time to connect.
    pub connect: Option<Duration>,
    /// Time to the first token of a stream.
    pub first_token: Option<Duration>,
    /// Longest silence inside a stream.
    pub idle: Option<Duration>,
    /// Time for a whole answer while another target could be asked.
    pub whole: Option<Duration>,
    /// Time for the whole call.
    pub total: Option<Duration>,
}

impl Timeouts {
    /// Their names in the file, in this order.
    const NAMES: [&'static str; 5] =
        ["connect_timeout", "first_token_timeout", "idle_timeout", "whole_timeout", "total_timeout"];
}

impl UpstreamConfig {
    /// The same with a provider's own timeouts.
    #[must_use]
    pub fn with(&self, own: &Timeouts) -> Self {
        Self {
            connect_timeout: own.connect.unwrap_or(self.connect_timeout),
            first_token_timeout: own.first_token.unwrap_or(self.first_token_timeout),
            idle_timeout: own.idle.unwrap_or(self.idle_timeout),
            whole_timeout: own.whole.unwrap_or(self.whole_timeout),
            total_timeout: own.total.unwrap_or(self.total_timeout),
            max_connections: self.max_connections,
        }
    }
}

/// Section `routing`.
#[derive(Debug, Clone)]
pub struct RoutingConfig {
    /// Calls that may repeat one within one request.
    pub max_retries: u32,
    /// The most that the first retry waits; doubled for each further one.
    pub backoff: Duration,
    /// The most that any retry waits.
    pub max_backoff: Duration,
    /// The share of a target's requests of the last ten seconds that may be retries.
    pub retry_budget: f64,
    /// The longest `Retry-After` that is waited out.
    pub max_retry_after: Duration,
    /// Failures in a row that open a target's breaker.
    pub breaker_failures: NonZeroU32,
    /// How long it stays open the first time.
    pub breaker_open: Duration,
    /// The longest that it stays open.
    pub breaker_max_open: Duration,
    /// Calls to one target at a time; `None`: as many as come.
    pub max_in_flight: Option<NonZeroUsize>,
    /// How long a request waits for a place at a full target.
    pub queue_timeout: Duration,
    /// Requests that may wait for a target.
    pub max_queue: usize,
}

/// In which order a route's targets are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// As they stand.
    Ordered,
    /// Each first in turn.
    RoundRobin,
    /// Each first by chance, as often as its weight says.
    Weighted,
    /// The one with the fewest calls running first.
    LeastInFlight,
    /// The one whose first token comes soonest first.
    LowestLatency,
}

impl Strategy {
    /// All of them, by the word in the file.
    pub const ALL: [(&'static str, Self); 5] = [
        ("ordered", Self::Ordered),
        ("round_robin", Self::RoundRobin),
        ("weighted", Self::Weighted),
        ("least_in_flight", Self::LeastInFlight),
        ("lowest_latency", Self::LowestLatency),
    ];
}

/// A public model name with targets of its own: `[routes."NAME"]`.
#[derive(Debug, Clone)]
pub struct RouteConfig {
    /// The public name.
    pub name: String,
    /// In which order they are asked.
    pub strategy: Strategy,
    /// At least one.
    pub targets: Vec<TargetConfig>,
}

/// One target of a route.
#[derive(Debug, Clone)]
pub struct TargetConfig {
    /// The provider's name.
    pub provider: String,
    /// The model's name there.
    pub model: String,
    /// Its share, for `weighted`.
    pub weight: NonZeroU32,
    /// Calls to it at a time; `None`: `routing.max_in_flight`.
    pub max_in_flight: Option<NonZeroUsize>,
    /// Requests to it in a minute; `None`: no bound.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens, of input and output, in a minute; `None`: no bound.
    pub tokens_per_minute: Option<NonZeroU32>,
}

/// Section `chat`.
#[derive(Debug, Clone)]
pub struct ChatConfig {
    /// The model of a request that names none; `None`: the first one named in a provider's `models`, else `demo`.
    pub default_model: Option<String>,
    /// Messages of history sent with a question.
    pub history_window: NonZeroUsize,
    /// How long an answer goes on that nobody listens to.
    pub detach_limit: Duration,
}

/// Section `cache`.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// The whole cache, one switch.
    pub enabled: bool,
    /// Matching by meaning.
    pub semantic: bool,
    /// How careful matching by meaning is.
    pub preset: String,
    /// Bytes that L1 may hold.
    pub memory_bytes: u64,
    /// How long an answer may be reused, absolute from its making.
    pub ttl: Duration,
    /// The same for questions whose answer ages quickly.
    pub short_ttl: Duration,
    /// Neighbours that the verifier looks at.
    pub neighbours: NonZeroUsize,
    /// Entries waiting to be written to the store before further ones are dropped.
    pub write_queue: NonZeroUsize,
    /// What a person's first reply from another person's entry shows.
    pub first_touch: FirstTouch,
}

/// What a person's first reply from another person's entry shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstTouch {
    /// Where it comes from, as every hit does.
    Open,
    /// It reads as a miss, and comes at once.
    Quiet,
    /// It reads as a miss, and takes as long as the answer took when it was made.
    Paced,
}

/// Section `embedding`.
#[derive(Debug, Clone)]
pub struct EmbeddingConfig {
    /// Threads of the local model.
    pub workers: NonZeroUsize,
    /// Texts that may wait for it.
    pub queue: NonZeroUsize,
    /// Texts in one run of the model.
    pub batch_size: NonZeroUsize,
    /// Embeddings kept.
    pub cache_size: u64,
    /// How long they are kept.
    pub cache_ttl: Duration,
    /// Longest wait of a look-up for its turn; beyond it the look-up is a miss.
    pub wait: Duration,
    /// An OpenAI-compatible embedder in place of the local one.
    pub remote: Option<RemoteEmbedderConfig>,
}

/// The remote embedder of section `embedding`.
#[derive(Debug, Clone)]
pub struct RemoteEmbedderConfig {
    /// The address that `/embeddings` is appended to.
    pub base_url: Url,
    /// Its model; it must answer 384 dimensions.
    pub model: String,
    /// The bearer, if any.
    pub api_key: Option<SecretString>,
}

/// Section `limits`: what every key may use that has no allowance of its own. `None`: no limit.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// Requests of a key in a minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Of these, how many at once.
    pub request_burst: Option<NonZeroU32>,
    /// Tokens of a key in a minute.
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Of these, how many at once.
    pub token_burst: Option<NonZeroU32>,
    /// Requests of a client address in a minute.
    pub address_requests_per_minute: Option<NonZeroU32>,
    /// Of these, how many at once.
    pub address_burst: Option<NonZeroU32>,
    /// Tokens of output reserved for a request that names no limit, where a key has a budget.
    pub max_tokens_default: NonZeroU32,
    /// Requests and questions in work at once.
    pub max_in_flight: Option<NonZeroU32>,
    /// How many may wait for that.
    pub max_waiting: u32,
    /// How long.
    pub max_wait: Duration,
}

impl Default for LimitsConfig {
    /// Nothing is limited.
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            request_burst: None,
            tokens_per_minute: None,
            token_burst: None,
            address_requests_per_minute: None,
            address_burst: None,
            max_tokens_default: const { NonZeroU32::new(1_024).expect("invariant: not zero") },
            max_in_flight: None,
            max_waiting: 0,
            max_wait: Duration::from_secs(1),
        }
    }
}

/// A price: `[prices."MODEL"]`, or `["MODEL"]` in the file that `chat.prices_file` names.
#[derive(Debug, Clone)]
pub struct PriceConfig {
    /// `provider/model`, or a model's name wherever it is asked.
    pub model: String,
    /// US dollars per million input tokens.
    pub input: f64,
    /// US dollars per million output tokens.
    pub output: f64,
    /// US dollars per million input tokens that the provider read from its own prompt cache; unset: as others.
    pub cached_input: Option<f64>,
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
        let server = server(reader);
        let log = log(reader);
        let upstream = upstream(reader);
        let providers = reader.providers();
        let routing = routing(reader);
        let routes = reader.routes(&providers);
        let chat = chat(reader);
        let cache = cache(reader);
        let embedding = embedding(reader);
        let limits = limits(reader);
        let prices = reader.prices();
        let (server, log, upstream, routing) = (server?, log?, upstream?, routing?);
        let (chat, cache, embedding, limits) = (chat?, cache?, embedding?, limits?);
        Some(Self {
            server,
            log,
            upstream,
            providers,
            routing,
            routes,
            chat,
            cache,
            embedding,
            limits,
            prices,
            warnings: Vec::new(),
        })
    }
}

fn server(reader: &mut Reader) -> Option<ServerConfig> {
    let listen = reader.value("server.listen");
    let data_dir = reader.value("server.data_dir");
    let local = reader.flag("server.local");
    let admin_key_file = reader.optional("server.admin_key_file");
    let allowed_origins = reader.list("server.allowed_origins");
    let trusted_proxies = reader.values("server.trusted_proxies");
    let max_body_bytes = reader.value("server.max_body_bytes");
    let max_frame_bytes = reader.value("server.max_frame_bytes");
    let max_connections = reader.value("server.max_connections");
    let max_connections_per_key = reader.value("server.max_connections_per_key");
    let max_connections_per_address = reader.value("server.max_connections_per_address");
    let max_frames_per_second = reader.value("server.max_frames_per_second");
    let heartbeat = reader.seconds("server.heartbeat");
    let drain_timeout = reader.seconds("server.drain_timeout");
    let instance_id = reader.value("server.instance_id");
    let metrics = reader.flag("server.metrics");
    Some(ServerConfig {
        listen: listen?,
        data_dir: data_dir?,
        local: local?,
        admin_key_file,
        allowed_origins,
        trusted_proxies: trusted_proxies?,
        max_body_bytes: max_body_bytes?,
        max_frame_bytes: max_frame_bytes?,
        max_connections: max_connections?,
        max_connections_per_key: max_connections_per_key?,
        max_connections_per_address: max_connections_per_address?,
        max_frames_per_second: max_frames_per_second?,
        heartbeat: heartbeat?,
        drain_timeout: drain_timeout?,
        instance_id: instance_id?,
        metrics: metrics?,
    })
}

fn log(reader: &mut Reader) -> Option<LogConfig> {
    let filter = reader.value("log.filter");
    let format = reader.one_of("log.format", &["human", "json"]);
    Some(LogConfig { filter: filter?, json: format? == "json" })
}

fn upstream(reader: &mut Reader) -> Option<UpstreamConfig> {
    let connect = reader.seconds("upstream.connect_timeout");
    let first_token = reader.seconds("upstream.first_token_timeout");
    let idle = reader.seconds("upstream.idle_timeout");
    let whole = reader.seconds("upstream.whole_timeout");
    let total = reader.seconds("upstream.total_timeout");
    let max_connections = reader.value("upstream.max_connections");
    Some(UpstreamConfig {
        connect_timeout: connect?,
        first_token_timeout: first_token?,
        idle_timeout: idle?,
        whole_timeout: whole?,
        total_timeout: total?,
        max_connections: max_connections?,
    })
}

fn routing(reader: &mut Reader) -> Option<RoutingConfig> {
    let max_retries = reader.value("routing.max_retries");
    let backoff = reader.seconds("routing.backoff");
    let max_backoff = reader.seconds("routing.max_backoff");
    let retry_budget = reader.share("routing.retry_budget");
    let max_retry_after = reader.seconds("routing.max_retry_after");
    let breaker_failures = reader.value("routing.breaker_failures");
    let breaker_open = reader.seconds("routing.breaker_open");
    let breaker_max_open = reader.seconds("routing.breaker_max_open");
    let max_in_flight = reader.value("routing.max_in_flight");
    let queue_timeout = reader.seconds("routing.queue_timeout");
    let max_queue = reader.value("routing.max_queue");
    Some(RoutingConfig {
        max_retries: max_retries?,
        backoff: backoff?,
        max_backoff: max_backoff?,
        retry_budget: retry_budget?,
        max_retry_after: max_retry_after?,
        breaker_failures: breaker_failures?,
        breaker_open: breaker_open?,
        breaker_max_open: breaker_max_open?,
        max_in_flight: NonZeroUsize::new(max_in_flight?),
        queue_timeout: queue_timeout?,
        max_queue: max_queue?,
    })
}

fn chat(reader: &mut Reader) -> Option<ChatConfig> {
    let default_model = reader.optional("chat.default_model");
    let history_window = reader.value("chat.history_window");
    let detach_limit = reader.seconds("chat.detach_limit");
    Some(ChatConfig { default_model, history_window: history_window?, detach_limit: detach_limit? })
}

fn cache(reader: &mut Reader) -> Option<CacheConfig> {
    let enabled = reader.flag("cache.enabled");
    let semantic = reader.flag("cache.semantic");
    let preset = reader.one_of("cache.preset", &["strict", "balanced", "loose"]);
    let memory_bytes = reader.value("cache.memory_bytes");
    let ttl = reader.seconds("cache.ttl");
    let short_ttl = reader.seconds("cache.short_ttl");
    let neighbours = reader.value("cache.neighbours");
    let write_queue = reader.value("cache.write_queue");
    let first_touch = reader.one_of("cache.first_touch", &["open", "quiet", "paced"]);
    Some(CacheConfig {
        enabled: enabled?,
        semantic: semantic?,
        preset: preset?,
        memory_bytes: memory_bytes?,
        ttl: ttl?,
        short_ttl: short_ttl?,
        neighbours: neighbours?,
        write_queue: write_queue?,
        first_touch: match first_touch?.as_str() {
            "open" => FirstTouch::Open,
            "paced" => FirstTouch::Paced,
            _ => FirstTouch::Quiet,
        },
    })
}

fn embedding(reader: &mut Reader) -> Option<EmbeddingConfig> {
    let workers = reader.value("embedding.workers");
    let queue = reader.value("embedding.queue");
    let batch_size = reader.value("embedding.batch_size");
    let cache_size = reader.value("embedding.cache_size");
    let cache_ttl = reader.seconds("embedding.cache_ttl");
    let wait = reader.seconds("embedding.wait");
    let remote = reader.remote_embedder();
    Some(EmbeddingConfig {
        workers: workers?,
        queue: queue?,
        batch_size: batch_size?,
        cache_size: cache_size?,
        cache_ttl: cache_ttl?,
        wait: wait?,
        remote,
    })
}

/// A count of 0 is no limit.
fn limits(reader: &mut Reader) -> Option<LimitsConfig> {
    let requests_per_minute = reader.value("limits.requests_per_minute");
    let request_burst = reader.value("limits.request_burst");
    let tokens_per_minute = reader.value("limits.tokens_per_minute");
    let token_burst = reader.value("limits.token_burst");
    let address_requests_per_minute = reader.value("limits.address_requests_per_minute");
    let address_burst = reader.value("limits.address_burst");
    let max_tokens_default = reader.value("limits.max_tokens_default");
    let max_in_flight = reader.value("limits.max_in_flight");
    let max_waiting = reader.value("limits.max_waiting");
    let max_wait = reader.seconds("limits.max_wait");
    Some(LimitsConfig {
        requests_per_minute: NonZeroU32::new(requests_per_minute?),
        request_burst: NonZeroU32::new(request_burst?),
        tokens_per_minute: NonZeroU32::new(tokens_per_minute?),
        token_burst: NonZeroU32::new(token_burst?),
        address_requests_per_minute: NonZeroU32::new(address_requests_per_minute?),
        address_burst: NonZeroU32::new(address_burst?),
        max_tokens_default: max_tokens_default?,
        max_in_flight: NonZeroU32::new(max_in_flight?),
        max_waiting: max_waiting?,
        max_wait: max_wait?,
    })
}

#[cfg(test)]
mod tests;
