//! A market's service on the library: cached handlers, work in the background, questions to a model, and how long it all takes,
//! each said by an attribute ([docs/macros.md](../docs/macros.md)). The chat server itself is not served here; its parts are used.
//!
//! `cargo run --example service`, with `OPENAI_API_KEY` for the pitches; `tests/it/service.rs` runs it as a test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, Json, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ish::ai::{Ai, AiError};
use ish::api::Callers;
use ish::app::App;
use ish::clock::Clock;
use ish::config::{Config, Environment};
use ish::keys::Principal;
use ish::memo::{HasMemo, Memo};
use ish::tasks::{JobContext, JobError, Queue, Registry, Schedules, WorkerParts, Workers};
use ish::{CacheKey, Caller, ai_optimized, async_job, fast_endpoint, profiled};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What is sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    id: u32,
    /// The tenant whose it is.
    seller: String,
    name: String,
    cents: u32,
}

/// What is looked for.
#[derive(Debug, Deserialize, CacheKey)]
struct Search {
    name: String,
    #[serde(default)]
    most_cents: Option<u32>,
}

/// A new price.
#[derive(Debug, Deserialize)]
struct Price {
    cents: u32,
}

/// What a model says to sell a product.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Pitch {
    headline: String,
    reasons: Vec<String>,
}

/// The market's own store, which is slow to ask.
#[derive(Debug)]
pub struct Shelf {
    products: Mutex<Vec<Product>>,
    /// How often it was asked.
    pub asked: AtomicU32,
    /// How many watchers were told of prices.
    pub told: AtomicU32,
}

impl Shelf {
    fn stocked() -> Self {
        let product = |id, name: &str, cents| Product { id, seller: "acme".to_owned(), name: name.to_owned(), cents };
        let products = vec![product(1, "kettle", 4_900), product(2, "teapot", 3_500), product(3, "tea cosy", 1_200)];
        Self { products: Mutex::new(products), asked: AtomicU32::new(0), told: AtomicU32::new(0) }
    }

    /// Those that `wanted` holds for.
    #[profiled("shelf", "select")]
    async fn select(&self, wanted: impl Fn(&Product) -> bool) -> Vec<Product> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let products = self.products.lock().unwrap_or_else(PoisonError::into_inner);
        products.iter().filter(|product| wanted(product)).cloned().collect()
    }

    fn set_price(&self, seller: &str, id: u32, cents: u32) -> Result<(), MarketError> {
        let mut products = self.products.lock().unwrap_or_else(PoisonError::into_inner);
        let product = products.iter_mut().find(|product| product.seller == seller && product.id == id);
        let product = product.ok_or(MarketError::NoSuchProduct)?;
        product.cents = cents;
        Ok(())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum MarketError {
    #[error("there is no such product")]
    NoSuchProduct,
    #[error(transparent)]
    Ai(#[from] AiError),
    #[error(transparent)]
    Task(#[from] ish::tasks::TaskError),
    #[error(transparent)]
    Cache(#[from] ish::db::DbError),
}

impl IntoResponse for MarketError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoSuchProduct => StatusCode::NOT_FOUND,
            Self::Ai(_) => StatusCode::BAD_GATEWAY,
            Self::Task(_) | Self::Cache(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, self.to_string()).into_response()
    }
}

/// What handlers work with.
#[derive(Clone)]
struct Market {
    memo: Memo,
    queue: Queue,
    ai: Ai,
    callers: Callers,
    shelf: Arc<Shelf>,
}

impl HasMemo for Market {
    fn memo(&self) -> &Memo {
        &self.memo
    }
}

impl FromRef<Market> for Callers {
    fn from_ref(market: &Market) -> Self {
        market.callers.clone()
    }
}

/// One of the seller's own products.
#[fast_endpoint(cache_ttl = 300)]
async fn product(
    State(market): State<Market>,
    seller: Caller,
    Path(id): Path<u32>,
) -> Result<Json<Product>, MarketError> {
    let mut own = market.shelf.select(|product| product.seller == seller.tenant && product.id == id).await;
    own.pop().map(Json).ok_or(MarketError::NoSuchProduct)
}

/// What is on sale is the same for everybody, and may be a minute old.
#[fast_endpoint(cache_ttl = "1m", stale_if_error = "1h", public)]
async fn search(State(market): State<Market>, Query(search): Query<Search>) -> Json<Vec<Product>> {
    let is_cheap = |product: &Product| search.most_cents.is_none_or(|most| product.cents <= most);
    Json(market.shelf.select(|product| product.name.contains(&search.name) && is_cheap(product)).await)
}

/// The price changes, the seller's cached product goes, and watchers are told in the background: once, however often it changes
/// until then.
async fn reprice(
    State(market): State<Market>,
    seller: Caller,
    Path(id): Path<u32>,
    Json(price): Json<Price>,
) -> Result<String, MarketError> {
    market.shelf.set_price(&seller.tenant, id, price.cents)?;
    product::invalidate(&market, &seller, &id).await?;
    let task = tell_watchers::job(id, price.cents).tenant(seller.tenant.clone());
    Ok(market.queue.enqueue(task).await?.id.to_string())
}

#[async_job(priority = "high", retries = 5, backoff = "1s..5m", timeout = "1m", unique_by(product), queue = "mail")]
async fn tell_watchers(shelf: &Shelf, context: &JobContext, product: u32, cents: u32) -> Result<String, JobError> {
    let Some(product) = shelf.select(|on_sale| on_sale.id == product).await.pop() else {
        return Err(JobError::fatal("the product is gone"));
    };
    context.progress(&"found");
    shelf.told.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{} now costs {cents}", product.name))
}

#[ai_optimized(provider = "openai", model = "gpt-4", cache_ttl = 3600, temperature = 0)]
async fn pitch_of(ai: &Ai, product: &Product) -> Result<Pitch, MarketError> {
    if product.name.is_empty() {
        return Err(MarketError::NoSuchProduct);
    }
    format!("Sell a {} as an object with a headline and reasons.", product.name)
}

async fn pitch(State(market): State<Market>, seller: Caller, path: Path<u32>) -> Result<Json<Pitch>, MarketError> {
    let ai = market.ai.acting_for(&seller);
    let Json(product) = product(State(market), seller, path).await?;
    pitch_of(&ai, &product).await.map(Json)
}

/// The service while it runs.
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    /// The market's own store.
    pub shelf: Arc<Shelf>,
    /// Its background work.
    pub queue: Queue,
    /// The parts that it uses.
    pub app: App,
    workers: Workers,
    tasks: TaskTracker,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Service {
    /// Starts it on a free port of this machine, with `config` for the parts that it uses.
    ///
    /// # Errors
    /// When a part cannot be made, or there is no port.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let task_config = config.tasks.clone();
        let app = App::build(config).await?;
        let (shelf, queue, tasks) = (Arc::new(Shelf::stocked()), app.queue.clone(), TaskTracker::new());
        let workers = Workers::start(WorkerParts {
            queue: queue.clone(),
            registry: Registry::new().register::<tell_watchers>(Arc::clone(&shelf)).into(),
            schedules: Schedules::default(),
            config: task_config,
            metrics: Arc::clone(&app.metrics),
            clock: Clock::system(),
            tasks: tasks.clone(),
        });
        let market = Market {
            memo: app.memo.clone(),
            queue: queue.clone(),
            ai: Ai::new(app.chat.clone(), Principal::keyless("market")),
            callers: app.callers.clone(),
            shelf: Arc::clone(&shelf),
        };
        let routes = Router::new()
            .route("/products", get(search))
            .route("/products/{id}", get(product).put(reprice))
            .route("/products/{id}/pitch", get(pitch))
            .with_state(market);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let serving = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
        let serving = tokio::spawn(serving.into_future());
        Ok(Self { address, shelf, queue, app, workers, tasks, stop, serving })
    }

    /// Ends it: requests are answered, tasks are done or handed back.
    ///
    /// # Errors
    /// When the listener had failed.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.serving.await??;
        self.workers.drained(Instant::now() + Duration::from_secs(5)).await;
        self.tasks.close();
        self.tasks.wait().await;
        self.app.close().await;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let service = Service::start(Config::read(&Environment::of_process(), None)?).await?;
    println!("the market is open: http://{}/products?name=tea", service.address);
    tokio::signal::ctrl_c().await?;
    service.stop().await
}
