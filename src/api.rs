//! The HTTP face: the route table and the order of what stands before every handler. Handlers extract only the parts
//! they need; errors become statuses in `error.rs` alone.

mod acting;
mod address;
mod admin;
mod alerts;
mod anthropic;
mod auth;
mod benchmarks;
mod body;
mod cache;
mod caches;
mod caller;
mod conversations;
mod cookie;
mod document;
mod door;
mod embeddings;
pub mod error;
mod fields;
mod headers;
mod health;
mod inbound;
mod log;
mod login;
mod node;
mod observe;
mod ollama;
mod openai;
mod openai_replay;
mod openai_stream;
mod pages;
mod params;
mod peer;
mod pieces;
mod prepared;
mod profile;
mod rate_limit;
mod reply;
mod responses;
mod services;
mod simple;
mod streamed;
mod tasks;
mod times;
mod tokens;
mod whole;
mod wire;
mod workflows;
mod ws;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, Request};
use axum::http::{StatusCode, Uri};
use axum::routing::{RouterIntoService, delete, get, patch, post};
use tokio_util::task::TaskTracker;
use tower::util::MapRequest;

pub use auth::Access;
pub use caller::{Caller, Callers};
pub use door::Door;
pub use prepared::PreparedRequests;
pub use tokens::TokenTable;
pub use wire::{Peer, Wires};
pub use ws::{Heartbeat, SeatLimits, Seats, socket_settings};

use crate::alerts::Alerts;
use crate::chat::ChatService;
use crate::clock::Clock;
use crate::conversations::{Conversations, Window};
use crate::gauges::Gauges;
use crate::keys::Keys;
use crate::limits::Limits;
use crate::logins::Logins;
use crate::memo::Memo;
use crate::metrics::Metrics;
use crate::pool::Pools;
use crate::profiler::Profiler;
use crate::redis::Redis;
use crate::services::Services;
use crate::streams::Streams;
use crate::tasks::{Queue, Registry};
use crate::users::Users;
use crate::workflows::Workflows;

/// What handlers are made of.
pub struct ApiParts {
    /// Answers questions.
    pub chat: ChatService,
    /// Answers stored questions.
    pub streams: Streams,
    /// Stored conversations.
    pub conversations: Conversations,
    /// API keys.
    pub keys: Keys,
    /// Logins of browsers with them.
    pub logins: Logins,
    /// Whom they are for.
    pub users: Users,
    /// What callers may use.
    pub limits: Limits,
    /// What is no answer and worth keeping.
    pub memo: Memo,
    /// Work in the background.
    pub queue: Queue,
    /// What can be asked of it by name.
    pub jobs: Arc<Registry>,
    /// Work of several steps.
    pub workflows: Workflows,
    /// What instances share.
    pub redis: Option<Redis>,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Pools of connections.
    pub pools: Pools,
    /// What is brought up to date before metrics are read.
    pub gauges: Gauges,
    /// What the process finds wrong with itself.
    pub alerts: Alerts,
    /// Parts that come up when they are needed, and checks of what is elsewhere.
    pub services: Services,
    /// One of them.
    pub tokens: TokenTable,
    /// Where its time goes.
    pub profiler: Profiler,
    /// Who may ask.
    pub access: Access,
    /// Where socket tasks run.
    pub tasks: TaskTracker,
    /// What sockets there may be.
    pub seats: Seats,
    /// Facts and limits.
    pub facts: ServerFacts,
    /// Requests that were read before.
    pub prepared: PreparedRequests,
}

/// What handlers know about the server.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// The model of a request that names none.
    pub default_model: String,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Largest WebSocket frame, in bytes.
    pub max_frame_bytes: usize,
    /// Frames that a socket's peer may send in a second.
    pub max_frames_per_second: NonZeroU32,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// How a socket's peer shows that it is there.
    pub heartbeat: Heartbeat,
    /// Messages of history sent with a question.
    pub window: Window,
    /// This instance's name.
    pub instance_id: String,
    /// Whether `/metrics` is served.
    pub serve_metrics: bool,
    /// When the server began, for `/api/status`.
    pub started_ms: u64,
    /// Its time.
    pub clock: Clock,
}

/// The shared state of all handlers.
#[derive(Clone)]
pub struct Api(Arc<ApiParts>);

macro_rules! part {
    ($($field:ident: $part:ty),* $(,)?) => {
        $(impl FromRef<Api> for $part {
            fn from_ref(api: &Api) -> Self {
                api.0.$field.clone()
            }
        })*
    };
}

part!(chat: ChatService, streams: Streams, conversations: Conversations, keys: Keys, metrics: Arc<Metrics>);

/// The whole service: paths are mended, then each request is observed, authorised and routed.
pub type ApiService = MapRequest<RouterIntoService<Body>, fn(Request) -> Request>;

impl Api {
    /// Where those who may ask are found.
    fn registers(&self) -> auth::Registers<'_> {
        auth::Registers { keys: &self.0.keys, logins: &self.0.logins, users: &self.0.users }
    }
}

/// Makes it.
pub fn service(parts: ApiParts) -> ApiService {
    let api = Api(Arc::new(parts));
    let observed = axum::middleware::from_fn_with_state(api.clone(), observe::observe);
    let routes = routes().layer(observed).with_state(api).into_service();
    // The path must be mended before the router reads it, so the mending wraps the router.
    MapRequest::new(routes, mend_path as fn(Request) -> Request)
}

/// Of the service what those ask who watch a process, and nothing else.
pub fn probes(service: &ApiService) -> Router {
    let watched = ["/livez", "/readyz", "/metrics"];
    let router = watched.into_iter().fold(Router::new(), |router, path| router.route_service(path, service.clone()));
    router.fallback(unwatched)
}

async fn unwatched() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "this process runs tasks: ask for /livez, /readyz or /metrics\n")
}

fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/chat/completions", post(openai::chat_completions))
        .route("/v1/messages", post(anthropic::messages))
        .route("/v1/messages/count_tokens", post(anthropic::count_tokens))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*model}", get(openai::model))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/api/chat", post(ollama::chat))
        .route("/api/tags", get(ollama::tags))
        .route("/api/show", post(ollama::show))
        .route("/api/version", get(ollama::version))
        .route("/ws", get(ws::upgrade))
        .route("/api/sessions", get(conversations::list).post(conversations::create))
        .route(
            "/api/sessions/{id}",
            get(conversations::read).patch(conversations::change).delete(conversations::delete),
        )
        .route("/api/sessions/{id}/export", get(conversations::export))
        .route("/api/sessions/{id}/messages", get(conversations::messages).post(conversations::send))
        .route("/api/sessions/{id}/messages/{message}/why", get(conversations::why))
        .route("/api/session", get(login::read).post(login::begin).delete(login::end))
        .route("/api/cache/stats", get(cache::stats))
        .route("/api/cache/explain", post(cache::explain))
        .route("/api/cache/feedback", post(cache::feedback))
        .route("/api/cache/entries", get(cache::entries).delete(cache::evict))
        .route("/api/cache/entries/{key}", get(cache::entry).delete(cache::evict_one))
        .route("/api/admin/keys", get(admin::list_keys).post(admin::create_key))
        .route("/api/admin/users", get(admin::users))
        .route("/api/admin/keys/{id}", patch(admin::change_key).delete(admin::revoke_key))
        .route("/api/admin/sessions", get(login::list))
        .route("/api/admin/sessions/{id}", delete(login::end_any))
        .route("/api/admin/cache/stats", get(caches::stats))
        .route("/api/admin/cache/clear/{cache}", post(caches::clear))
        .route("/api/admin/services/stats", get(services::stats))
        .route("/api/admin/profile", get(profile::report))
        .route("/api/admin/profile/flamegraph", get(profile::flame))
        .route("/api/admin/log", get(log::read).put(log::change))
        .route("/api/admin/services/health", get(services::health))
        .route("/api/admin/benchmarks", get(benchmarks::list).post(benchmarks::run))
        .route("/api/tasks", get(tasks::list).post(tasks::enqueue).delete(tasks::purge))
        .route("/api/tasks/stats", get(tasks::stats))
        .route("/api/tasks/workers", get(tasks::workers))
        .route("/api/tasks/pauses", post(tasks::pause).delete(tasks::resume))
        .route("/api/tasks/{id}", get(tasks::read))
        .route("/api/tasks/{id}/cancel", post(tasks::cancel))
        .route("/api/tasks/{id}/retry", post(tasks::retry))
        .route("/api/workflows", get(workflows::list).post(workflows::start))
        .route("/api/workflows/definitions", get(workflows::definitions))
        .route("/api/workflows/{id}", get(workflows::read))
        .route("/api/workflows/{id}/cancel", post(workflows::cancel))
        .route("/api/workflows/{id}/retry", post(workflows::retry))
        .route("/api/alerts", get(alerts::list))
        .route("/api/alerts/{name}/silence", post(alerts::silence).delete(alerts::unsilence))
        .route("/api/status", get(health::status))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(document::document))
        .route("/", get(pages::index))
        .route("/ops", get(pages::to_operations))
        .route("/ops/tasks", get(pages::operations))
        .route("/ops/workflows", get(pages::operations))
        // Every path is a page's at most: what is no route is unknown, whatever the method, rather than refused.
        .route("/{*file}", get(pages::file).fallback(observe::no_route))
        .fallback(observe::no_route)
        .method_not_allowed_fallback(observe::no_method)
}

/// Routes whose `/v1` clients forget.
const UNVERSIONED: &[&str] =
    &["/chat/completions", "/embeddings", "/messages", "/messages/count_tokens", "/models", "/responses"];

/// Forgives what clients get wrong about paths: doubled slashes, a missing `/v1`, a slash at the end.
fn mend_path(mut request: Request) -> Request {
    let path = request.uri().path();
    let bare = |path: &str| UNVERSIONED.contains(&path) || path.starts_with("/models/");
    if !bare(path) && !path.contains("//") && (path.len() == 1 || !path.ends_with('/')) {
        return request;
    }
    let joined: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut mended = format!("/{}", joined.join("/"));
    if bare(&mended) {
        mended.insert_str(0, "/v1");
    }
    if let Some(query) = request.uri().query() {
        mended = format!("{mended}?{query}");
    }
    if let Ok(uri) = mended.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_forgiven() {
        for (given, mended) in [
            ("/v1//models", "/v1/models"),
            ("/models/openai/gpt", "/v1/models/openai/gpt"),
            ("//chat/completions?x=1", "/v1/chat/completions?x=1"),
            ("/v1/models/", "/v1/models"),
            ("/messages?beta=true", "/v1/messages?beta=true"),
            ("/", "/"),
            ("/api/sessions?cursor=a//b", "/api/sessions?cursor=a//b"),
        ] {
            let request = Request::builder().uri(given).body(Body::empty()).unwrap();
            assert_eq!(mend_path(request).uri().to_string(), mended);
        }
    }
}
