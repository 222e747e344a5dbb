//! A local provider that misbehaves on request, in four dialects.
//!
//! It answers `POST /v1/chat/completions` (JSON and SSE), `POST /v1/embeddings` and
//! `GET /v1/models` as OpenAI does, `POST /v1/messages` as Anthropic, `POST /api/chat` and `GET /api/tags`
//! as Ollama, `:generateContent` and `:streamGenerateContent` below `/v1beta/models` as Gemini, and writes down everything that reached it, so that a
//! test can prove "one upstream call" or "cancelled after three tokens". For checkers outside the
//! process `GET /_log` and `GET /_counts` give the same as JSON, `POST /_next` with directives as
//! its body plans the next chat request, so that a client's second attempt meets another reply, and
//! `POST /_release` with a number as its body waits until that many replies are held and lets them go on.
//!
//! What a reply looks like is a [`Behaviour`]. It comes from three places, the later one winning:
//! the provider's own default ([`RunningProvider::set_behaviour`]), the queue of
//! [`RunningProvider::next_requests`], and *directives* in the last user message, such as
//! `[[tokens=5 each=10ms]]` or `[[fault=cut after=3]]`; [`behaviour`] lists them all. An unknown
//! directive is answered with 400, so that a misspelt test cannot pass.
//!
//! It never checks keys and never judges a request beyond what it needs to answer: what a server
//! should refuse is that server's business.

pub mod answer;
pub mod behaviour;
mod body;
mod dialect;
pub mod embeddings;
mod gate;
pub mod log;
mod refusal;
mod request;
pub mod sample;
mod script;
mod server;
mod strict;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use self::behaviour::{BadDirective, Behaviour, Fault, Quirk};
pub use self::log::{Counts, Entry, Outcome, Route};

use self::gate::Gate;
use self::log::RequestLog;

/// How a provider starts.
#[derive(Clone, Debug)]
pub struct ProviderOptions {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// What every reply does unless the request or the test asks for something else.
    pub behaviour: Behaviour,
    /// The ids that `GET /v1/models` lists. Any model name is answered, listed or not.
    pub models: Vec<String>,
    /// How many requests the log keeps; the oldest go first. Counts are never dropped.
    pub log_capacity: usize,
}

impl Default for ProviderOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            behaviour: Behaviour::default(),
            models: ["mock", "mock-alt", "mock-embedding"].map(String::from).to_vec(),
            log_capacity: 10_000,
        }
    }
}

/// The entry point: [`Provider::start`].
#[derive(Debug)]
pub struct Provider;

impl Provider {
    /// Binds and serves on the current tokio runtime until the handle is dropped or stopped.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(options: ProviderOptions) -> std::io::Result<RunningProvider> {
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            models: options.models,
            log: RequestLog::new(options.log_capacity),
            gate: Gate::new(),
            plan: Mutex::new(Plan { default: options.behaviour, next: VecDeque::new() }),
        });
        let serving = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Ok(RunningProvider { address, shared, serving })
    }
}

/// A provider that is listening. Dropping it closes the listener and every open connection.
#[derive(Debug)]
pub struct RunningProvider {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl RunningProvider {
    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address without a path, as clients of the other dialects take it.
    pub fn root_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The base URL as `OpenAI` clients take it, `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Replaces what replies do by default; requests already being answered are not touched.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.plan().default = behaviour;
    }

    /// Changes single points of the default behaviour.
    pub fn change_behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.plan().default);
    }

    /// Makes the next `count` chat requests behave this way instead of by default.
    /// Calls add up: `next_requests(2, a)` then `next_requests(1, b)` plans three requests.
    pub fn next_requests(&self, count: usize, behaviour: &Behaviour) {
        self.shared.plan().next.extend(std::iter::repeat_n(behaviour.clone(), count));
    }

    /// Gives the next `count` chat requests this fault, with the default behaviour otherwise.
    pub fn fail_next(&self, count: usize, fault: Fault) {
        let behaviour = Behaviour { fault: Some(fault), ..self.shared.plan().default.clone() };
        self.next_requests(count, &behaviour);
    }

    /// From now on every reply pauses after `tokens` content tokens (a JSON reply: before its
    /// headers) until [`RunningProvider::release`].
    pub fn hold_after(&self, tokens: usize) {
        self.shared.plan().default.hold_after = Some(tokens);
    }

    /// Lets all held replies go on, those of directives too, and stops holding new ones.
    pub fn release(&self) {
        self.shared.release();
    }

    /// Waits until at least `count` replies are held.
    ///
    /// # Panics
    /// After 30 seconds, naming how many were held.
    pub async fn wait_until_held(&self, count: usize) {
        let held = self.shared.gate.wait_until_held(count).await;
        held.unwrap_or_else(|error| panic!("{error}"));
    }

    /// All requests still in the log, oldest first.
    pub fn log(&self) -> Vec<Entry> {
        self.shared.log.entries()
    }

    /// Totals since the start.
    pub fn counts(&self) -> Counts {
        self.shared.log.counts()
    }

    /// Waits until the log satisfies `predicate` and returns it.
    ///
    /// # Panics
    /// After 30 seconds, with `what` and the log's summary in the message.
    pub async fn wait_for(&self, what: &str, predicate: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
        self.shared.log.wait_for(what, predicate).await
    }

    /// Waits until `count` chat requests have arrived.
    ///
    /// # Panics
    /// As [`RunningProvider::wait_for`].
    pub async fn wait_for_chats(&self, count: usize) -> Vec<Entry> {
        let chats = |log: &[Entry]| log.iter().filter(|entry| entry.route == Route::Chat).count();
        self.wait_for(&format!("{count} chat requests"), |log| chats(log) >= count).await
    }

    /// Waits until no request is being answered any more.
    ///
    /// # Panics
    /// As [`RunningProvider::wait_for`].
    pub async fn wait_until_idle(&self) -> Vec<Entry> {
        self.wait_for("all requests ended", |log| log.iter().all(|entry| entry.ended.is_some())).await
    }

    /// Stops listening and closes every connection; later connections are refused. A provider
    /// started again with `listen` set to [`RunningProvider::address`] takes its place.
    pub async fn stop(mut self) {
        self.serving.abort();
        // The join error is the cancellation just asked for.
        let _ = (&mut self.serving).await;
    }

    /// Serves until the process ends; what the standalone binary waits on.
    ///
    /// # Errors
    /// The accept loop panicked.
    pub async fn serve_forever(mut self) -> Result<(), tokio::task::JoinError> {
        (&mut self.serving).await
    }
}

impl Drop for RunningProvider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What the connections share.
#[derive(Debug)]
struct Shared {
    models: Vec<String>,
    log: RequestLog,
    gate: Gate,
    plan: Mutex<Plan>,
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        // A panicking test thread must not hide the plan from the teardown of the others.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets all held replies go on and stops holding new ones by default.
    fn release(&self) {
        self.plan().default.hold_after = None;
        self.gate.release();
    }

    /// Queues the default with the directives in `text` for the next chat request.
    fn plan_next(&self, text: &str) -> Result<(), BadDirective> {
        let mut plan = self.plan();
        let mut behaviour = plan.default.clone();
        behaviour.apply(text)?;
        plan.next.push_back(behaviour);
        Ok(())
    }

    /// The behaviour of the chat request that arrives now.
    fn next_behaviour(&self) -> Behaviour {
        let mut plan = self.plan();
        plan.next.pop_front().unwrap_or_else(|| plan.default.clone())
    }
}

/// The default and the queue of exceptions to it.
#[derive(Debug)]
struct Plan {
    default: Behaviour,
    next: VecDeque<Behaviour>,
}
