//! The table of settings: key, environment names (ours first), default, one doc line. `ish config init` prints it,
//! `--help` and the docs quote it, a test holds that each is read.

use std::fmt::Write;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// `section.name`, as in the file.
    pub key: &'static str,
    /// Environment names; the first that is set wins.
    pub env: &'static [&'static str],
    /// The default, as it would stand in the environment; empty: none.
    pub default: &'static str,
    /// What it does, with its unit.
    pub doc: &'static str,
    /// Never shown.
    pub secret: bool,
}

const fn setting(key: &'static str, env: &'static [&'static str], default: &'static str, doc: &'static str) -> Setting {
    Setting { key, env, default, doc, secret: false }
}

const fn secret(key: &'static str, env: &'static [&'static str], doc: &'static str) -> Setting {
    Setting { key, env, default: "", doc, secret: true }
}

/// All settings but the tables `[providers.NAME]`, `[routes."NAME"]`, `[prices."MODEL"]` and `[alerts.rules.NAME]`.
pub const SETTINGS: &[Setting] = &[
    setting(
        "server.listen",
        &["ISH_LISTEN"],
        "127.0.0.1:8080",
        "Address to listen on. Any but a loopback address needs keys.",
    ),
    setting(
        "server.data_dir",
        &["ISH_DATA_DIR"],
        "data",
        "Folder of the databases and the lock file; made where missing.",
    ),
    setting("server.local", &["ISH_LOCAL"], "false", "Serve without keys on a loopback address although keys exist."),
    setting(
        "server.admin_key_file",
        &["ISH_ADMIN_KEY_FILE"],
        "",
        "File that holds the first admin key, for a server that is not on loopback.",
    ),
    setting(
        "server.allowed_origins",
        &["ISH_ALLOWED_ORIGINS"],
        "",
        "Further origins whose pages may use this server, separated by commas.",
    ),
    setting(
        "server.trusted_proxies",
        &["ISH_TRUSTED_PROXIES"],
        "",
        "Addresses and networks of proxies whose X-Forwarded-For is believed, separated by commas.",
    ),
    setting("server.max_body_bytes", &["ISH_MAX_BODY_BYTES"], "8388608", "Largest request body, in bytes."),
    setting("server.max_frame_bytes", &["ISH_MAX_FRAME_BYTES"], "1048576", "Largest WebSocket frame, in bytes."),
    setting(
        "server.max_connections",
        &["ISH_MAX_CONNECTIONS"],
        "10000",
        "WebSocket connections at once; a further one is refused with 503.",
    ),
    setting(
        "server.max_connections_per_key",
        &["ISH_MAX_CONNECTIONS_PER_KEY"],
        "1000",
        "Of these, with one key; a further one is closed with 4429. Local mode has no keys.",
    ),
    setting(
        "server.max_connections_per_address",
        &["ISH_MAX_CONNECTIONS_PER_ADDRESS"],
        "1000",
        "Of these, from one client address (an IPv6 one by its /64); a further one is refused with 429. Not in local mode.",
    ),
    setting(
        "server.max_frames_per_second",
        &["ISH_MAX_FRAMES_PER_SECOND"],
        "1000",
        "Frames of any kind that a WebSocket client may send in a second, and twice as many at once; else it is closed with 4429.",
    ),
    setting(
        "server.heartbeat",
        &["ISH_HEARTBEAT"],
        "20",
        "Seconds between two pings on a WebSocket; a peer that answers none of two, or reads nothing for one and a half, is closed.",
    ),
    setting(
        "server.drain_timeout",
        &["ISH_DRAIN_TIMEOUT"],
        "20",
        "Seconds that a drain may take before what is left is cut.",
    ),
    setting(
        "server.instance_id",
        &["ISH_INSTANCE_ID", "INSTANCE_ID"],
        "",
        "This instance's name, of its own among those that share a database; empty: its host's name and port.",
    ),
    setting("server.metrics", &["ISH_METRICS", "ENABLE_PROMETHEUS"], "true", "Serve /metrics."),
    secret(
        "server.metrics_token",
        &["ISH_METRICS_TOKEN"],
        "Token that opens /metrics, and nothing else, to a scraper elsewhere. Better in server.metrics_token_file or the environment.",
    ),
    setting("server.metrics_token_file", &["ISH_METRICS_TOKEN_FILE"], "", "File that holds the token."),
    setting("logins.idle", &["ISH_LOGIN_IDLE"], "43200", "Seconds without use after which a browser is logged out."),
    setting(
        "logins.lifetime",
        &["ISH_LOGIN_LIFETIME"],
        "2592000",
        "Seconds after which a browser is logged out in any case; with its key at the latest.",
    ),
    secret(
        "database.url",
        &["ISH_DATABASE_URL", "DATABASE_URL"],
        "A Postgres (postgres://USER:PASSWORD@HOST/NAME) in place of the files of server.data_dir; it may be a PgBouncer in transaction mode.",
    ),
    secret(
        "database.direct_url",
        &["ISH_DATABASE_DIRECT_URL", "DATABASE_DIRECT_URL"],
        "The same Postgres for bringing its schema up to date, without a pooler and as the owner of its tables; empty: database.url.",
    ),
    secret(
        "database.replica_url",
        &["ISH_DATABASE_REPLICA_URL", "DATABASE_REPLICA_URL"],
        "A Postgres that follows it, for lists, search and exports, which may be a moment behind then; empty: none.",
    ),
    setting(
        "database.max_connections",
        &["ISH_DB_MAX_CONNECTIONS", "DB_MAX_CONNECTIONS"],
        "50",
        "Connections to it at once.",
    ),
    setting(
        "database.min_connections",
        &["ISH_DATABASE_MIN_CONNECTIONS"],
        "5",
        "Of these, how many are opened at the start and stay open.",
    ),
    setting(
        "database.idle_timeout",
        &["ISH_DATABASE_IDLE_TIMEOUT"],
        "300",
        "Seconds without use after which any other one is closed.",
    ),
    setting(
        "database.max_lifetime",
        &["ISH_DATABASE_MAX_LIFETIME"],
        "3600",
        "Seconds after which a connection is replaced.",
    ),
    setting(
        "database.acquire_timeout",
        &["ISH_DATABASE_ACQUIRE_TIMEOUT"],
        "1.5",
        "Seconds that a request waits for a connection before it is answered with 503.",
    ),
    setting(
        "database.statement_timeout",
        &["ISH_DATABASE_STATEMENT_TIMEOUT"],
        "10",
        "Seconds that one statement may take.",
    ),
    setting(
        "database.start_timeout",
        &["ISH_DATABASE_START_TIMEOUT"],
        "30",
        "Seconds that a start waits for a server that is away, or has only begun to run; then it ends.",
    ),
    setting(
        "database.vector_index",
        &["ISH_VECTOR_INDEX"],
        "hnsw",
        "How vectors are indexed there, where it has pgvector 0.8: hnsw, ivfflat (less memory, finds less) or off (not stored).",
    ),
    setting("database.ef_search", &["ISH_EF_SEARCH"], "100", "Candidates that a search by hnsw keeps, up to 1000."),
    setting(
        "database.ivfflat_probes",
        &["ISH_IVFFLAT_PROBES"],
        "10",
        "Of 100 lists, how many a search by ivfflat reads.",
    ),
    secret(
        "redis.url",
        &["ISH_REDIS_URL", "REDIS_URL"],
        "A Redis that the instances of one Postgres share (redis://USER:PASSWORD@HOST:PORT/DB, redis+cluster://HOST:PORT,HOST:PORT, \
         redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB; rediss for TLS); nothing is lost with it.",
    ),
    setting(
        "redis.timeout",
        &["ISH_REDIS_TIMEOUT"],
        "0.05",
        "Seconds that one command may take before the work goes on without Redis.",
    ),
    setting(
        "redis.max_connections",
        &["ISH_REDIS_MAX_CONNECTIONS", "REDIS_MAX_CONNECTIONS"],
        "100",
        "Commands under way at once (they share one connection); more wait, for redis.timeout at most.",
    ),
    setting(
        "redis.prefix",
        &["ISH_REDIS_PREFIX"],
        "ish:",
        "What every name in Redis begins with; deployments that share a Redis need different ones.",
    ),
    setting(
        "instances.heartbeat",
        &["ISH_INSTANCES_HEARTBEAT"],
        "2",
        "Seconds between two signs of life of an instance that shares a Postgres with others.",
    ),
    setting(
        "instances.lease",
        &["ISH_INSTANCES_LEASE"],
        "8",
        "Seconds without one after which others take over its answers; more than two heartbeats.",
    ),
    setting(
        "log.filter",
        &["ISH_LOG", "RUST_LOG"],
        "info",
        "Log filter per module, for example info,ish::cache=debug.",
    ),
    setting("log.format", &["ISH_LOG_FORMAT"], "human", "human or json."),
    setting(
        "telemetry.otlp_endpoint",
        &["ISH_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        "",
        "Collector of traces (OTLP over HTTP, protobuf), for example http://127.0.0.1:4318; empty: nothing is traced.",
    ),
    secret(
        "telemetry.otlp_headers",
        &["ISH_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
        "Headers that it wants, as NAME=VALUE,NAME=VALUE; values may be percent-encoded.",
    ),
    setting(
        "telemetry.service_name",
        &["ISH_SERVICE_NAME", "OTEL_SERVICE_NAME"],
        "ish",
        "What this service is called there.",
    ),
    setting(
        "telemetry.sampler",
        &["ISH_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER"],
        "parentbased_always_on",
        "Which traces are sent: always_on, always_off, traceidratio, or one of them after parentbased_, which sends a trace that comes in if and only if its caller does.",
    ),
    setting(
        "telemetry.sampler_arg",
        &["ISH_TRACES_SAMPLER_ARG", "OTEL_TRACES_SAMPLER_ARG"],
        "1",
        "The share of traces that traceidratio sends, from 0 to 1.",
    ),
    setting("upstream.connect_timeout", &["ISH_CONNECT_TIMEOUT"], "5", "Seconds to connect to a provider."),
    setting(
        "upstream.first_token_timeout",
        &["ISH_FIRST_TOKEN_TIMEOUT"],
        "30",
        "Seconds to the first token of a stream.",
    ),
    setting("upstream.idle_timeout", &["ISH_IDLE_TIMEOUT"], "30", "Longest silence inside a stream, in seconds."),
    setting(
        "upstream.whole_timeout",
        &["ISH_WHOLE_TIMEOUT"],
        "120",
        "Seconds for a whole (not streamed) answer while its route has another target to ask; the last one has total_timeout.",
    ),
    setting("upstream.total_timeout", &["ISH_TOTAL_TIMEOUT"], "600", "Seconds for a whole call to a provider."),
    setting(
        "upstream.max_connections",
        &["ISH_HTTP_MAX_CONNECTIONS", "HTTP_MAX_CONNECTIONS"],
        "1024",
        "Connections to providers in use at once, streams for as long as they run; a further call waits.",
    ),
    setting(
        "upstream.acquire_timeout",
        &["ISH_HTTP_ACQUIRE_TIMEOUT"],
        "30",
        "Seconds that a call waits for one before it is answered with 503.",
    ),
    setting(
        "openai.base_url",
        &["OPENAI_BASE_URL"],
        "https://api.openai.com/v1",
        "Address of OpenAI or anything compatible; with this or a key set, the provider `openai` exists.",
    ),
    secret(
        "openai.api_key",
        &["OPENAI_API_KEY"],
        "Key sent to it. Better kept in openai.api_key_file or the environment.",
    ),
    setting("openai.api_key_file", &["OPENAI_API_KEY_FILE"], "", "File that holds the key."),
    setting(
        "openai.models",
        &["ISH_OPENAI_MODELS"],
        "",
        "Models to offer, separated by commas; empty: asked from the provider.",
    ),
    setting(
        "anthropic.base_url",
        &["ANTHROPIC_BASE_URL"],
        "https://api.anthropic.com",
        "Address of Anthropic or anything compatible; with this or a key set, the provider `anthropic` exists.",
    ),
    secret(
        "anthropic.api_key",
        &["ANTHROPIC_API_KEY"],
        "Key sent to it. Better kept in anthropic.api_key_file or the environment.",
    ),
    setting("anthropic.api_key_file", &["ANTHROPIC_API_KEY_FILE"], "", "File that holds the key."),
    setting(
        "anthropic.models",
        &["ISH_ANTHROPIC_MODELS"],
        "",
        "Models to offer, separated by commas; empty: asked from the provider.",
    ),
    setting(
        "gemini.base_url",
        &["GEMINI_BASE_URL", "GOOGLE_GEMINI_BASE_URL"],
        "https://generativelanguage.googleapis.com",
        "Address of Gemini or anything compatible; with this or a key set, the provider `gemini` exists.",
    ),
    secret(
        "gemini.api_key",
        &["GEMINI_API_KEY"],
        "Key sent to it. Better kept in gemini.api_key_file or the environment.",
    ),
    setting("gemini.api_key_file", &["GEMINI_API_KEY_FILE"], "", "File that holds the key."),
    setting(
        "gemini.models",
        &["ISH_GEMINI_MODELS"],
        "",
        "Models to offer, separated by commas; empty: asked from the provider.",
    ),
    setting(
        "ollama.base_url",
        &["OLLAMA_HOST"],
        "http://127.0.0.1:11434",
        "Address of Ollama, also written as a host or host:port; with this set, the provider `ollama` exists.",
    ),
    secret("ollama.api_key", &["OLLAMA_API_KEY"], "Key sent to it, where a proxy asks for one."),
    setting("ollama.api_key_file", &["OLLAMA_API_KEY_FILE"], "", "File that holds the key."),
    setting(
        "ollama.models",
        &["ISH_OLLAMA_MODELS"],
        "",
        "Models to offer, separated by commas; empty: asked from the provider.",
    ),
    setting(
        "routing.max_retries",
        &["ISH_MAX_RETRIES"],
        "2",
        "Calls that may repeat a failed one within one request, before its first token.",
    ),
    setting(
        "routing.backoff",
        &["ISH_RETRY_BACKOFF"],
        "0.25",
        "Seconds that the first retry waits at most; doubled for each further one, a random part of it is waited.",
    ),
    setting("routing.max_backoff", &["ISH_RETRY_MAX_BACKOFF"], "8", "Seconds that any retry waits at most."),
    setting(
        "routing.retry_budget",
        &["ISH_RETRY_BUDGET"],
        "0.2",
        "Share of a target's requests of the last ten seconds that may be retries; five are always granted.",
    ),
    setting(
        "routing.max_retry_after",
        &["ISH_MAX_RETRY_AFTER"],
        "10",
        "Longest Retry-After, in seconds, that is waited out; a longer one goes to the next target or to the client.",
    ),
    setting(
        "routing.breaker_failures",
        &["ISH_BREAKER_FAILURES"],
        "5",
        "Failures in a row after which a target is not asked for a while.",
    ),
    setting(
        "routing.breaker_open",
        &["ISH_BREAKER_OPEN"],
        "5",
        "Seconds until a probe finds out whether it is well again; doubled by each probe that fails.",
    ),
    setting("routing.breaker_max_open", &["ISH_BREAKER_MAX_OPEN"], "60", "The most that those seconds grow to."),
    setting(
        "routing.max_in_flight",
        &["ISH_TARGET_MAX_IN_FLIGHT"],
        "0",
        "Calls to one target at a time, where the target says nothing else; 0: no bound.",
    ),
    setting(
        "routing.queue_timeout",
        &["ISH_QUEUE_TIMEOUT"],
        "2",
        "Seconds that a request waits for a place when all targets are full.",
    ),
    setting("routing.max_queue", &["ISH_MAX_QUEUE"], "256", "Requests that may wait so at one target."),
    setting(
        "chat.default_model",
        &["ISH_DEFAULT_MODEL"],
        "",
        "Model of a request that names none; empty: the first one named in a provider's `models`, else demo.",
    ),
    setting("chat.history_window", &["ISH_HISTORY_WINDOW"], "20", "Messages of history sent with a question."),
    setting(
        "chat.summary_after",
        &["ISH_SUMMARY_AFTER"],
        "20",
        "Messages beyond the history window after which a model puts what was said before it in short, one call for each so many; 0: what is older is forgotten.",
    ),
    setting(
        "chat.summary_model",
        &["ISH_SUMMARY_MODEL"],
        "",
        "Model that makes these summaries; empty: the conversation's own.",
    ),
    setting(
        "chat.detach_limit",
        &["ISH_DETACH_LIMIT"],
        "600",
        "Seconds that a stored answer goes on while nobody listens.",
    ),
    setting(
        "chat.replay_bytes",
        &["ISH_REPLAY_BYTES"],
        "67108864",
        "Bytes of ended answers kept in memory for those who come back, or have no credit on a WebSocket.",
    ),
    setting(
        "chat.prices_file",
        &["ISH_PRICES_FILE"],
        "",
        "TOML file of prices, each a table [\"provider/model\"]; [prices] in this file wins over it.",
    ),
    setting("cache.enabled", &["ISH_CACHE"], "true", "The answer cache, one switch."),
    setting("cache.semantic", &["ISH_CACHE_SEMANTIC"], "true", "Match questions by meaning, not only by their text."),
    setting(
        "cache.preset",
        &["ISH_CACHE_PRESET"],
        "balanced",
        "How careful matching by meaning is: strict, balanced or loose.",
    ),
    setting("cache.memory_bytes", &["ISH_CACHE_MEMORY_BYTES"], "536870912", "Bytes that the in-process tier may hold."),
    setting(
        "cache.ttl",
        &["ISH_CACHE_TTL", "CACHE_TTL"],
        "86400",
        "Seconds that an answer may be reused, counted from its making.",
    ),
    setting("cache.short_ttl", &["ISH_CACHE_SHORT_TTL"], "300", "The same for questions whose answer ages quickly."),
    setting("cache.neighbours", &["ISH_CACHE_NEIGHBOURS"], "8", "Nearest entries that the verifier looks at."),
    setting(
        "cache.index_max_entries",
        &["ISH_CACHE_INDEX_MAX_ENTRIES"],
        "1000000",
        "Vectors in the in-process index, about 0.9 KB each; those beyond are searched in a Postgres with pgvector, else matched by their text only.",
    ),
    setting(
        "cache.write_queue",
        &["ISH_CACHE_WRITE_QUEUE"],
        "1024",
        "Entries waiting for the store before further ones are dropped (and counted).",
    ),
    setting(
        "cache.first_touch",
        &["ISH_CACHE_FIRST_TOUCH"],
        "quiet",
        "What the first reply from another person's entry shows (persons: keys without the admin role, each with the request's `user`): open, quiet (it reads as a miss), paced (it also takes as long as the answer did).",
    ),
    setting(
        "embedding.workers",
        &["ISH_EMBEDDING_WORKERS", "MAX_PARALLEL_EMBEDDINGS"],
        "1",
        "Threads of the local embedding model.",
    ),
    setting("embedding.queue", &["ISH_EMBEDDING_QUEUE"], "256", "Texts that may wait for the model."),
    setting(
        "embedding.batch_size",
        &["ISH_EMBEDDING_BATCH_SIZE", "EMBEDDING_BATCH_SIZE"],
        "32",
        "Texts in one run of the model.",
    ),
    setting(
        "embedding.cache_size",
        &["ISH_EMBEDDING_CACHE_SIZE", "EMBEDDING_CACHE_SIZE"],
        "5000",
        "Embeddings kept in memory.",
    ),
    setting(
        "embedding.cache_ttl",
        &["ISH_EMBEDDING_CACHE_TTL", "EMBEDDING_CACHE_TTL"],
        "7200",
        "Seconds that they are kept.",
    ),
    setting(
        "embedding.wait",
        &["ISH_EMBEDDING_WAIT"],
        "0.02",
        "Seconds that a look-up waits for its turn; beyond it the look-up is a miss.",
    ),
    setting(
        "embedding.remote_url",
        &["ISH_EMBEDDING_URL"],
        "",
        "Address of an OpenAI-compatible embedder (384 dimensions) in place of the local model.",
    ),
    setting("embedding.remote_model", &["ISH_EMBEDDING_MODEL"], "", "Its model."),
    secret("embedding.remote_api_key", &["ISH_EMBEDDING_API_KEY"], "Its key."),
    setting(
        "memo.general_size",
        &["ISH_GENERAL_CACHE_SIZE"],
        "2000",
        "Values of service code kept in memory, each of 4 KiB; a larger one counts as several.",
    ),
    setting(
        "memo.general_ttl",
        &["ISH_GENERAL_CACHE_TTL"],
        "3600",
        "Seconds that they are kept where the code that keeps them does not say.",
    ),
    setting(
        "memo.queries_size",
        &["ISH_QUERY_CACHE_SIZE", "QUERY_CACHE_SIZE"],
        "500",
        "Results of queries kept in memory, counted in the same way.",
    ),
    setting(
        "memo.queries_ttl",
        &["ISH_QUERY_CACHE_TTL", "QUERY_CACHE_TTL"],
        "1800",
        "Seconds that they are kept where the code that keeps them does not say.",
    ),
    setting(
        "limits.requests_per_minute",
        &["ISH_REQUESTS_PER_MINUTE"],
        "0",
        "Requests in a minute of a key that has no rate of its own; 0: no limit.",
    ),
    setting(
        "limits.request_burst",
        &["ISH_REQUEST_BURST"],
        "0",
        "Of these, how many may come at once; 0: a minute's worth.",
    ),
    setting(
        "limits.tokens_per_minute",
        &["ISH_TOKENS_PER_MINUTE"],
        "0",
        "Tokens (input and output) in a minute of a key that has no rate of its own; 0: no limit.",
    ),
    setting("limits.token_burst", &["ISH_TOKEN_BURST"], "0", "Of these, how many at once; 0: a minute's worth."),
    setting(
        "limits.address_requests_per_minute",
        &["ISH_ADDRESS_REQUESTS_PER_MINUTE"],
        "0",
        "Requests in a minute of a client address (an IPv6 one by its /64), with or without a key; 0: no limit.",
    ),
    setting("limits.address_burst", &["ISH_ADDRESS_BURST"], "0", "Of these, how many at once; 0: a minute's worth."),
    setting(
        "limits.address_tokens_per_minute",
        &["ISH_ADDRESS_TOKENS_PER_MINUTE"],
        "0",
        "Tokens (input and output) in a minute of a client address, whatever keys are used there; 0: no limit.",
    ),
    setting(
        "limits.address_token_burst",
        &["ISH_ADDRESS_TOKEN_BURST"],
        "0",
        "Of these, how many at once; 0: a minute's worth.",
    ),
    setting(
        "limits.max_tokens_default",
        &["ISH_MAX_TOKENS_DEFAULT"],
        "1024",
        "Tokens of output that a key with a budget reserves for a request that names no max_tokens, and each time the answer outgrows it.",
    ),
    setting(
        "limits.max_in_flight",
        &["ISH_MAX_IN_FLIGHT"],
        "4096",
        "Requests and questions in work at once; 0: no bound. What comes beyond waits, or is refused with 503.",
    ),
    setting("limits.max_waiting", &["ISH_MAX_WAITING"], "1024", "Requests that may wait for a place in work."),
    setting("limits.max_wait", &["ISH_MAX_WAIT"], "2", "Seconds that they wait at most."),
    setting(
        "tasks.workers",
        &["ISH_TASK_WORKERS"],
        "true",
        "Run tasks in this process; one without workers enqueues all the same (serve --no-workers).",
    ),
    setting(
        "tasks.listen",
        &["ISH_WORKER_LISTEN"],
        "",
        "Address at which `ish worker` answers /livez, /readyz and /metrics; none: nowhere. Any but a loopback address needs keys.",
    ),
    setting(
        "tasks.min_workers",
        &["ISH_TASK_MIN_WORKERS"],
        "4",
        "Tasks that this process runs at once while nothing waits for long.",
    ),
    setting(
        "tasks.max_workers",
        &["ISH_TASK_MAX_WORKERS", "MAX_ASYNC_WORKERS"],
        "100",
        "Tasks that it runs at once at most.",
    ),
    setting(
        "tasks.scale_after",
        &["ISH_TASK_SCALE_AFTER"],
        "1",
        "Seconds that a task has waited when more are run at once.",
    ),
    setting("tasks.claim", &["ISH_TASK_CLAIM"], "16", "Tasks that are claimed in one step, where so many may begin."),
    setting(
        "tasks.lease",
        &["ISH_TASK_LEASE"],
        "30",
        "Seconds without a sign of life after which others take over a process's tasks; three heartbeats or more.",
    ),
    setting(
        "tasks.heartbeat",
        &["ISH_TASK_HEARTBEAT"],
        "5",
        "Seconds between two signs of life of a process that runs tasks; by then it hears of a wish to cancel.",
    ),
    setting(
        "tasks.aging",
        &["ISH_TASK_AGING"],
        "300",
        "Seconds of waiting that make up for a level of a task's priority (critical, high, normal, low).",
    ),
    setting(
        "tasks.idempotency",
        &["ISH_TASK_IDEMPOTENCY"],
        "86400",
        "Seconds that the idempotency key of a task is remembered.",
    ),
    setting(
        "tasks.retention",
        &["ISH_TASK_RETENTION"],
        "86400",
        "Seconds that tasks are kept which were completed or cancelled.",
    ),
    setting(
        "tasks.dead_retention",
        &["ISH_TASK_DEAD_RETENTION"],
        "2592000",
        "Seconds that dead letters are kept: tasks that failed for good.",
    ),
    setting(
        "tasks.benchmarks",
        &["ISH_BENCHMARKS", "ENABLE_BENCHMARKING"],
        "false",
        "Measure the parts of this process by themselves now and then, where there is no other work.",
    ),
    setting(
        "tasks.benchmark_interval",
        &["ISH_BENCHMARK_INTERVAL", "AUTO_BENCHMARK_INTERVAL"],
        "3600",
        "Seconds between two such measurements.",
    ),
    setting(
        "tasks.tenant_max_running",
        &["ISH_TASK_TENANT_MAX_RUNNING"],
        "0",
        "Tasks of one tenant that run at once, over all processes; 0: no bound. The deployment's own have none.",
    ),
    setting(
        "tasks.tenant_per_minute",
        &["ISH_TASK_TENANT_PER_MINUTE"],
        "0",
        "Tasks of one tenant that begin in a minute, over all processes; 0: no bound.",
    ),
    setting(
        "monitoring.enabled",
        &["ISH_MONITORING"],
        "true",
        "Watch the process from inside: samples for the profiler, trends, a summary in the log, alerts.",
    ),
    setting(
        "monitoring.interval",
        &["ISH_MONITORING_INTERVAL", "MONITORING_INTERVAL"],
        "60",
        "Seconds between two looks of the process at itself: each leaves a summary in the log, and finds alerts.",
    ),
    setting("alerts.enabled", &["ISH_ALERTS"], "true", "Find alerts inside the process, beside those of a Prometheus."),
    setting(
        "alerts.response_time_ms",
        &["ISH_RESPONSE_TIME_THRESHOLD", "RESPONSE_TIME_THRESHOLD"],
        "500",
        "Milliseconds above which one of twenty requests that ask no provider, or ish's own part of one of twenty questions, is too slow.",
    ),
    setting(
        "alerts.error_rate_percent",
        &["ISH_ERROR_RATE_THRESHOLD", "ERROR_RATE_THRESHOLD"],
        "1",
        "Percentage of requests above which too many fail.",
    ),
    setting(
        "alerts.memory_percent",
        &["ISH_MEMORY_THRESHOLD", "MEMORY_THRESHOLD"],
        "80",
        "Percentage of the memory that the process may use above which it holds too much.",
    ),
    setting(
        "alerts.cpu_percent",
        &["ISH_CPU_THRESHOLD", "CPU_THRESHOLD"],
        "70",
        "Percentage of the processors that it may use above which it is time for one instance more.",
    ),
    setting(
        "alerts.disk_percent",
        &["ISH_DISK_THRESHOLD", "DISK_THRESHOLD"],
        "85",
        "Percentage of the data folder's disk above which it is too full.",
    ),
    setting(
        "alerts.embedding_hit_rate_percent",
        &["ISH_EMBEDDING_HIT_RATE_THRESHOLD"],
        "70",
        "Percentage of embeddings below which too few are remembered.",
    ),
    setting(
        "alerts.query_hit_rate_percent",
        &["ISH_QUERY_HIT_RATE_THRESHOLD"],
        "50",
        "Percentage of query results below which too few are found in their cache.",
    ),
    secret(
        "alerts.webhook_url",
        &["ISH_ALERTS_WEBHOOK_URL"],
        "Address that is told of alerts and of their ends, in the form of Alertmanager's webhooks; empty: nobody is.",
    ),
    secret(
        "alerts.webhook_token",
        &["ISH_ALERTS_WEBHOOK_TOKEN"],
        "Token sent to it as Authorization: Bearer. Better in alerts.webhook_token_file or the environment.",
    ),
    setting("alerts.webhook_token_file", &["ISH_ALERTS_WEBHOOK_TOKEN_FILE"], "", "File that holds the token."),
];

/// Names that operators know, of parts that this version does not have: set, they are reported once.
pub(super) const KNOWN_WITHOUT_PART: &[&str] =
    &["INGESTION_BATCH_SIZE", "BACKUP_DIR", "BACKUP_RETENTION_COUNT", "AUTO_BACKUP_ENABLED"];

/// The commented file that `ish config init` prints: every setting at its default, commented out.
pub fn template() -> String {
    let mut out = String::from(
        "# ish: every setting, at its default. Environment names are in brackets; the environment wins over this file.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        let (own, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if own != section {
            section = own;
            let _ = write!(out, "\n[{section}]\n");
        }
        let quoted = match setting.default {
            plain if plain.parse::<f64>().is_ok() || matches!(plain, "true" | "false") => plain.to_owned(),
            text => format!("{text:?}"),
        };
        let _ = write!(out, "# {} [{}]\n# {name} = {quoted}\n", setting.doc, setting.env.join(", "));
    }
    out.push_str(PROVIDER_EXAMPLE);
    out
}

const PROVIDER_EXAMPLE: &str = r#"
# A provider under a name of your own; ask for it as `groq/llama-3.3-70b`. `kind` is what it speaks: openai (the
# default), anthropic, gemini or ollama.
# [providers.groq]
# kind = "openai"
# base_url = "https://example.com/openai/v1"
# api_key_file = "/run/secrets/groq"
# models = ["llama-3.3-70b"]
# first_token_timeout = 90       # also connect_timeout, idle_timeout, whole_timeout, total_timeout: in place of upstream's

# A public model name of your own, and who answers it. strategy: ordered (the default), round_robin, weighted,
# least_in_flight or lowest_latency. The next target is asked where one fails before its first token.
# [routes."gpt-4o"]
# strategy = "ordered"
# targets = [
#   { provider = "openai", model = "gpt-4o", max_in_flight = 50, requests_per_minute = 500, tokens_per_minute = 200000 },
#   { provider = "groq", model = "llama-3.3-70b", weight = 3 },
# ]

# US dollars per million tokens, so that costs and savings can be shown in money; a model without a price shows none. The
# name is `provider/model`, or a model's own wherever it is asked. Figures are yours: none are built in.
# [prices."groq/llama-3.3-70b"]
# input = 1.5
# output = 2.5
# cached_input = 0.75
# cache_write = 1.875

# An alert of your own, or, under the name of one that is there, what is to be different about that (docs/alerts.md).
# comparison: above (the default), at_least, below or at_most. severity: critical, warning (the default) or info.
# [alerts.rules.SlowAnswers]
# metric = "p95(ish_provider_time_to_first_token_seconds{provider=\"groq\"})"
# threshold = 3
# for = 300                      # seconds that it has to be so; also window, keep_for, least_events, runbook
# [alerts.rules.IshCpu]
# enabled = false
"#;
