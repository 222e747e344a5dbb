//! What a look-up costs by the tier that answers it, on a Redis and a Postgres with pgvector, and how often matching by
//! meaning finds the entry that it should: exact in L1, L2 and L3, by meaning by the in-process index and by pgvector.
//!
//! The embedder is a stand-in (the words of a text), so that the figures are those of tiers and not of a model. Needs
//! `make services`. `cargo bench --bench tiers -- ENTRIES`, 100,000 where nothing is said.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ish::cache::{Asker, CacheControl, CacheParts, Hit, Lookup, Made, Person, Plan, Query, SemanticCache};
use ish::clock::Clock;
use ish::config::{Config, Environment};
use ish::db::Db;
use ish::embedding::{
    DIM, EmbedFuture, Embedded, Embedder, EmbedderId, Embedding, EmbeddingService, EmbeddingSettings, WordVectors,
};
use ish::message::{ChatRequest, Completion, Role};
use ish::metrics::Metrics;
use ish::pool::Pools;
use ish::redis::{Redis, RedisParts};
use serde_json::Map;
use sqlx::{AssertSqlSafe, ConnectOptions, postgres::PgConnectOptions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Look-ups of each kind.
const LOOK_UPS: usize = 1_000;

/// Entries between two waits for the store, fewer than its queue takes.
const GROUP: usize = 1_000;

const VERBS: [&str; 20] = [
    "clean",
    "paint",
    "repair",
    "polish",
    "store",
    "carry",
    "measure",
    "sell",
    "wash",
    "draw",
    "build",
    "cover",
    "move",
    "photograph",
    "decorate",
    "wrap",
    "lift",
    "restore",
    "insulate",
    "sharpen",
];
const STATES: [&str; 20] = [
    "wooden", "broken", "heavy", "antique", "folding", "plastic", "narrow", "rusty", "leather", "square", "hollow",
    "curved", "woven", "ceramic", "portable", "stained", "striped", "marble", "dusty", "copper",
];
const THINGS: [&str; 25] = [
    "chair", "lamp", "violin", "bicycle", "mirror", "kettle", "carpet", "ladder", "statue", "drawer", "bucket",
    "clock", "window", "basket", "bench", "piano", "saddle", "canoe", "curtain", "fence", "trunk", "vase", "shelf",
    "barrel", "tent",
];
const PLACES: [&str; 12] = [
    "garage", "kitchen", "garden", "cellar", "studio", "attic", "library", "harbour", "bakery", "museum", "hallway",
    "orchard",
];

/// Topic `number`, each another one as long as there are.
fn topic(number: usize) -> String {
    let (verb, rest) = (VERBS[number % 20], number / 20);
    let (state, rest) = (STATES[rest % 20], rest / 20);
    let (thing, place) = (THINGS[rest % 25], PLACES[rest / 25 % 12]);
    format!("{verb} a {state} {thing} in the {place}")
}

/// Texts with the same words of content are the same to it.
struct BagOfWords(EmbedderId);

impl Embedder for BagOfWords {
    fn id(&self) -> &EmbedderId {
        &self.0
    }

    fn embed(&self, texts: Vec<String>, _patience: Option<Duration>) -> EmbedFuture<'_> {
        Box::pin(async move { Ok(texts.iter().map(|text| embedded(text)).collect()) })
    }
}

fn embedded(text: &str) -> Embedded {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let (mut sum, mut vectors) = ([0.0_f32; DIM], WordVectors::default());
    for word in &words {
        let mut bytes = [0; DIM];
        blake3::Hasher::new().update(word.as_bytes()).finalize_xof().fill(&mut bytes);
        let direction = bytes.map(|byte| f32::from(byte) - 127.5);
        let weight = if word.len() > 3 { 1.0 } else { 0.1 };
        sum.iter_mut().zip(&direction).for_each(|(sum, value)| *sum += weight * value);
        vectors.push(word, &direction);
    }
    let embedding = Embedding::new(&sum).expect("a text with words");
    Embedded { embedding, words: vectors, truncated: false, tokens: words.len() as u32 }
}

/// One instance's cache on the database.
struct Instance {
    cache: SemanticCache,
    db: Db,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Instance {
    /// One that remembers nothing yet, with an index for so many entries; `redis` says whether it has an L2.
    async fn start(config: &Config, index_max_entries: usize, redis: bool) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (metrics, pools) = (Arc::new(Metrics::new()), Pools::default());
        let database = config.database.as_ref().expect("a Postgres is configured");
        let db = Db::connect(database, &pools).await.expect("the database is there");
        let redis = match config.redis.as_ref().filter(|_| redis) {
            Some(config) => {
                let metrics = Arc::clone(&metrics);
                let parts = RedisParts { config, metrics, pools: &pools, tasks: &tasks, stop: &stop };
                Some(Redis::start(parts).await.expect("the address is one"))
            }
            None => None,
        };
        let settings = EmbeddingSettings { cache_size: 500_000, ..EmbeddingSettings::default() };
        let mut cache = config.cache.clone();
        cache.index_max_entries = index_max_entries.try_into().expect("more than none");
        cache.memory_bytes = 8 << 30;
        let parts = CacheParts {
            config: cache,
            db: db.clone(),
            embeddings: EmbeddingService::new(Arc::new(BagOfWords(EmbedderId::new("bag-of-words"))), settings),
            redis,
            metrics,
            clock: Clock::system(),
        };
        let cache = SemanticCache::start(parts, &tasks, &stop);
        while !cache.index_loaded() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { cache, db, tasks, stop }
    }

    fn query(&self, text: &str) -> Query {
        let request = ChatRequest::build("mock", &[(Role::User, text)], &Map::new()).expect("a request");
        match self.cache.plan(&request, Asker { tenant: "bench", user: None }, CacheControl::default()) {
            Plan::Use(query) => *query,
            Plan::Bypass { reason, .. } => panic!("{text}: {reason}"),
        }
    }

    async fn fill(&self, entries: usize) {
        for number in 0..entries {
            let text = format!("How do I {}?", topic(number));
            let made = Made {
                completion: Arc::new(Completion::of_text("mock", &topic(number), None)),
                provider: "bench".to_owned(),
                elapsed: Duration::ZERO,
                made_by: Person::of(Uuid::nil(), None),
            };
            self.cache.insert(&self.query(&text), Some(&embedded(&text)), made).expect("it is storable");
            if number % GROUP == GROUP - 1 {
                self.cache.flush().await;
            }
        }
        self.cache.flush().await;
    }

    /// Looks up evenly chosen topics in the words of `wording`, and prints what that costs and how often it is right.
    async fn measure(&self, what: &str, entries: usize, wording: impl Fn(&str) -> String) {
        let (mut times, mut right) = (Vec::new(), 0);
        let step = (entries / LOOK_UPS).max(1);
        let mut how = String::new();
        for number in (0..entries).step_by(step).take(LOOK_UPS) {
            let topic = topic(number);
            let text = wording(&topic);
            // Its embedding is known: what is measured is the search.
            let _ = self.cache.embeddings().embed(&text).await;
            let query = self.query(&text);
            let begun = Instant::now();
            let found = self.cache.lookup(&query, None).await;
            times.push(begun.elapsed());
            if let Lookup::Hit(Hit { entry, how: by, tier, .. }) = found {
                right += usize::from(entry.completion.text() == topic);
                how = format!("{} {}", by.as_str(), tier.as_str());
            }
        }
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        let (p50, p99, all) = (at(50), at(99), times.len());
        println!("{what:<24} {how:<12} p50 {p50:>7.3} ms  p99 {p99:>7.3} ms  right {right}/{all}");
    }

    async fn close(self) {
        self.cache.close().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.db.close().await;
    }
}

#[tokio::main]
async fn main() {
    let entries = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(100_000);
    assert!(entries <= 120_000, "there are 120,000 topics");
    let database = format!("bench_{}", Uuid::now_v7().simple());
    administer(&format!("CREATE DATABASE {database}")).await;
    let (url, direct_url) = (at(&database, "ISH_TEST_DATABASE_URL"), at(&database, "ISH_TEST_DATABASE_DIRECT_URL"));
    let (redis_url, prefix) = (left("ISH_TEST_REDIS_URL"), format!("{database}:"));
    let environment = Environment::from([
        ("DATABASE_URL", url.as_str()),
        ("DATABASE_DIRECT_URL", direct_url.as_str()),
        ("ISH_DATABASE_STATEMENT_TIMEOUT", "600"),
        ("REDIS_URL", redis_url.as_str()),
        ("ISH_REDIS_PREFIX", prefix.as_str()),
    ]);
    let config = Config::read(&environment, None).expect("the configuration can be read");

    let begun = Instant::now();
    let first = Instance::start(&config, 1_000_000, false).await;
    first.fill(entries).await;
    println!("{entries} entries stored with their vectors in {:.0} s", begun.elapsed().as_secs_f64());
    first.measure("exact, L1", entries, |topic| format!("How do I {topic}?")).await;
    first.measure("by meaning, the index", entries, |topic| format!("How can I {topic}?")).await;
    first.close().await;

    // Another process remembers nothing, and holds next to nothing of the index. One with a Redis leaves there what it found.
    for (what, redis) in [("exact, the store", false), ("the same after Redis", true), ("exact, Redis", true)] {
        let other = Instance::start(&config, 1, redis).await;
        other.measure(what, entries, |topic| format!("How do I {topic}?")).await;
        other.close().await;
    }
    let last = Instance::start(&config, 1, false).await;
    last.measure("by meaning, pgvector", entries, |topic| format!("How can I {topic}?")).await;
    last.close().await;
    administer(&format!("DROP DATABASE {database} WITH (FORCE)")).await;
}

async fn administer(statement: &str) {
    let options: PgConnectOptions = at("postgres", "ISH_TEST_DATABASE_DIRECT_URL").parse().expect("an address");
    let mut connection = options.connect().await.expect("the server is there: `make services` starts it");
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// A database of the test server.
fn at(database: &str, name: &str) -> String {
    let mut url: url::Url = left(name).parse().expect("an address");
    url.set_path(database);
    url.to_string()
}

/// The address of a server that `make services` left.
fn left(name: &str) -> String {
    let left = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.services/env"));
    let left = left.expect("`make services` starts what this needs");
    let address = left.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    address.expect("it is named").to_owned()
}
