//! Nothing is ever served across a scope. For a hundred thousand cases: an answer goes in through the public cache, the
//! *same* prompt is looked up with exactly one field of its scope changed, on every path that could find it (exact,
//! normalized, semantic, in flight, and the first three again after a restart), and nothing is found; with nothing
//! changed it always is.
//!
//! Taking any field out of `Scope::digest` makes this fail.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ish::cache::flight::Seat;
use ish::cache::key::Keys;
use ish::cache::language::Language;
use ish::cache::scope::{Scope, Visibility};
use ish::cache::{CacheControl, CacheParts, Flights, How, Lookup, Made, Person, Plan, Query, SemanticCache, Tier};
use ish::clock::Clock;
use ish::config::{CacheConfig, Config, Environment};
use ish::db::{Db, Durability, MigrationSet};
use ish::embedding::{
    DIM, EmbedFuture, Embedded, Embedder, EmbedderId, Embedding, EmbeddingService, EmbeddingSettings, WordVectors,
};
use ish::message::{ChatRequest, Completion, Served};
use ish::metrics::Metrics;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::harness::{soon, until};

/// Bases that are tried; each makes about eighty cases.
const BASES: usize = 1_310;

/// What the property must have covered in the end.
const CASES: usize = 100_000;

/// An embedder of the tests: the same vector for texts with the same words of content. It stands in for the model and
/// not for a store: the property is about what is found *around* the vectors, where a hundred thousand runs of the
/// model would only cost an hour.
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
    let mut sum = [0.0_f32; DIM];
    let mut vectors = WordVectors::default();
    for word in &words {
        let vector = direction(word);
        let weight = if word.len() > 3 { 1.0 } else { 0.1 };
        sum.iter_mut().zip(&vector).for_each(|(sum, value)| *sum += weight * value);
        vectors.push(word, &vector);
    }
    let tokens = u32::try_from(words.len()).unwrap();
    Embedded { embedding: Embedding::new(&sum).unwrap(), words: vectors, truncated: false, tokens }
}

/// A direction of a word's own.
fn direction(word: &str) -> [f32; DIM] {
    let mut bytes = [0; DIM];
    blake3::Hasher::new().update(word.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes.map(|byte| f32::from(byte) - 127.5)
}

/// The fields of [`Scope`], one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Tenant,
    Visibility,
    Namespace,
    Model,
    System,
    Tools,
    ResponseFormat,
    Sampling,
    Other,
    Language,
    Embedder,
}

impl Field {
    const ALL: [Self; 11] = [
        Self::Tenant,
        Self::Visibility,
        Self::Namespace,
        Self::Model,
        Self::System,
        Self::Tools,
        Self::ResponseFormat,
        Self::Sampling,
        Self::Other,
        Self::Language,
        Self::Embedder,
    ];
}

/// The fields in which two scopes differ. It names every field: a new one does not compile until it stands here, and
/// in [`Field`].
fn differing(a: &Scope, b: &Scope) -> Vec<Field> {
    let Scope {
        tenant,
        visibility,
        namespace,
        model,
        system,
        tools,
        response_format,
        sampling,
        other,
        language,
        embedder,
    } = a;
    let differs = [
        (Field::Tenant, *tenant != b.tenant),
        (Field::Visibility, *visibility != b.visibility),
        (Field::Namespace, *namespace != b.namespace),
        (Field::Model, *model != b.model),
        (Field::System, *system != b.system),
        (Field::Tools, *tools != b.tools),
        (Field::ResponseFormat, *response_format != b.response_format),
        (Field::Sampling, *sampling != b.sampling),
        (Field::Other, *other != b.other),
        (Field::Language, *language != b.language),
        (Field::Embedder, *embedder != b.embedder),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
}

/// A question with everything that its scope is made of.
#[derive(Debug, Clone)]
struct Asked {
    tenant: String,
    user: Option<String>,
    namespace: String,
    model: String,
    system: Option<String>,
    members: Map<String, Value>,
    /// What is asked; [`Wording`] varies it.
    topic: String,
    /// A question about the asker: visible to one user only.
    personal: bool,
}

/// The same question in other characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wording {
    /// As it was asked first.
    Same,
    /// Equal once normalized.
    Spaced,
    /// Equal in meaning.
    Other,
}

impl Wording {
    /// How an unchanged scope finds the answer.
    fn how(self) -> How {
        match self {
            Self::Same => How::Exact,
            Self::Spaced => How::Normalized,
            Self::Other => How::Semantic,
        }
    }
}

impl Asked {
    fn text(&self, wording: Wording) -> String {
        let topic = &self.topic;
        match (self.personal, wording) {
            (false, Wording::Same) => format!("How do I {topic}?"),
            (false, Wording::Spaced) => format!("  how do I  {topic}"),
            (false, Wording::Other) => format!("How can I {topic}?"),
            (true, Wording::Spaced) => format!("when is my  turn to {topic}"),
            (true, _) => format!("When is my turn to {topic}?"),
        }
    }

    fn wordings(&self) -> &'static [Wording] {
        if self.members.contains_key("tools") || self.personal {
            return &[Wording::Same, Wording::Spaced];
        }
        &[Wording::Same, Wording::Spaced, Wording::Other]
    }

    fn request(&self, wording: Wording) -> ChatRequest {
        let text = self.text(wording);
        let mut messages = vec![json!({"role": "user", "content": text})];
        if let Some(system) = &self.system {
            messages.insert(0, json!({"role": "system", "content": system}));
        }
        let mut body = self.members.clone();
        body.insert("model".to_owned(), self.model.as_str().into());
        body.insert("messages".to_owned(), messages.into());
        if let Some(user) = &self.user {
            body.insert("user".to_owned(), user.as_str().into());
        }
        ChatRequest::parse(Value::Object(body).to_string().into()).unwrap()
    }

    fn query(&self, cache: &SemanticCache, wording: Wording) -> Box<Query> {
        let control = CacheControl { namespace: self.namespace.clone(), ..CacheControl::default() };
        match cache.plan(&self.request(wording), &self.tenant, control) {
            Plan::Use(query) => query,
            Plan::Bypass { reason, .. } => panic!("{reason}: {self:?}"),
        }
    }

    /// The same question with one field of its scope changed to something like `value`.
    fn changed(&self, cache: &SemanticCache, field: Field, value: &str, wording: Wording) -> Box<Query> {
        let mut asked = self.clone();
        let other = |text: &str| if text == value { format!("{value}'") } else { value.to_owned() };
        match field {
            Field::Tenant => asked.tenant = other(&self.tenant),
            Field::Namespace => asked.namespace = other(&self.namespace),
            Field::Model => asked.model = format!("m{}", other(&self.model)),
            Field::System => asked.system = Some(other(self.system.as_deref().unwrap_or_default())),
            Field::Tools => drop(asked.members.insert(
                "tools".to_owned(),
                json!([{"type": "function", "function": {"name": value, "strict": true}}]),
            )),
            Field::ResponseFormat => drop(asked.members.insert("response_format".to_owned(), json!({"type": value}))),
            Field::Sampling => drop(asked.members.insert("presence_penalty".to_owned(), value.len().into())),
            Field::Other => drop(asked.members.insert(format!("x{value}"), value.into())),
            Field::Visibility if self.personal => asked.user = Some(other(self.user.as_deref().unwrap_or_default())),
            // No request differs from another in these alone: the scope itself is changed.
            Field::Visibility => {
                return self.rescoped(cache, wording, |scope| scope.visibility = Visibility::User(value.to_owned()));
            }
            Field::Language => return self.rescoped(cache, wording, |scope| scope.language = Language::Other),
            Field::Embedder => {
                return self.rescoped(cache, wording, |scope| scope.embedder = format!("{}@{value}", scope.embedder));
            }
        }
        asked.query(cache, wording)
    }

    fn rescoped(&self, cache: &SemanticCache, wording: Wording, change: impl FnOnce(&mut Scope)) -> Box<Query> {
        let mut query = self.query(cache, wording);
        change(&mut query.scope);
        query.keys = Keys::of(&self.request(wording), &query.scope).unwrap();
        query
    }
}

/// Texts that like to run into one another: empty, alike, with separators of all kinds.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{0,3}",
        "[a-z0-9=\n:,\"\u{0}\u{e9}\u{430} ]{1,8}",
        Just("tenant".to_owned()),
        Just("\u{212a}".to_owned())
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let topic = (
        prop::sample::select(vec!["polish", "repair", "clean", "store", "paint", "measure", "photograph"]),
        prop::sample::select(vec!["tarnished", "wooden", "broken", "antique", "rusty", "painted", "heavy"]),
        prop::sample::select(vec!["kettle", "violin", "lantern", "wardrobe", "telescope", "saddle", "compass"]),
        "[bdfgklmnprstvz][aeiou][bdfgklmnprstvz][aeiou][bdfgklmnprstvz]{2}",
    );
    let topic = topic.prop_map(|(verb, state, thing, place)| format!("{verb} a {state} {thing} without {place} wax"));
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let members = prop::collection::vec(
        prop_oneof![
            4 => Just(("temperature".to_owned(), json!(0.2))),
            2 => Just(("top_p".to_owned(), json!(0.9))),
            2 => word().prop_map(|word| ("response_format".to_owned(), json!({"type": "json_object", "name": word}))),
            2 => word().prop_map(|word| ("stop".to_owned(), json!(word))),
            1 => Just(("tools".to_owned(), tools)),
        ],
        0..3,
    );
    let model = prop::sample::select(vec!["mock", "mock-alt", "a/b"]);
    (word(), word(), word(), model, prop::option::of(word()), members, topic, prop::bool::weighted(0.2)).prop_map(
        |(tenant, user, namespace, model, system, members, topic, personal)| Asked {
            tenant,
            user: personal.then_some(user),
            namespace,
            model: model.to_owned(),
            system,
            members: members.into_iter().collect(),
            topic,
            personal,
        },
    )
}

/// A question, and the value that each field is changed to.
struct Base {
    asked: Asked,
    values: Vec<String>,
}

fn bases() -> Vec<Base> {
    let mut runner = TestRunner::deterministic();
    let strategy = (asked(), prop::collection::vec(word(), Field::ALL.len()));
    let made = (0..BASES).map(|number| {
        let (mut asked, values) = strategy.new_tree(&mut runner).unwrap().current();
        // Bases must be strangers to each other, or one would be another's changed twin.
        asked.topic = format!("{} in room r{number}x", asked.topic);
        Base { asked, values }
    });
    made.collect()
}

/// The cache alone: no server around it.
struct Alone {
    cache: SemanticCache,
    db: Db,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Alone {
    async fn open(folder: &Path) -> Self {
        let db = Db::open(&folder.join("cache.db"), Durability::Normal, MigrationSet::CACHE).await.unwrap();
        let embedder = Arc::new(BagOfWords(EmbedderId::new("bag-of-words@1")));
        let settings = EmbeddingSettings { cache_size: 50_000, ..EmbeddingSettings::default() };
        let parts = CacheParts {
            config: cache_config(),
            db: db.clone(),
            embeddings: EmbeddingService::new(embedder, settings),
            redis: None,
            metrics: Arc::new(Metrics::new()),
            clock: Clock::system(),
        };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let cache = SemanticCache::start(parts, &tasks, &stop);
        until("the index's load", || cache.index_loaded().then_some(())).await;
        Self { cache, db, tasks, stop }
    }

    async fn close(self) {
        self.cache.close().await;
        self.stop.cancel();
        self.tasks.close();
        soon("the cache's tasks", self.tasks.wait()).await;
        self.db.close().await;
    }
}

fn cache_config() -> CacheConfig {
    Config::read(&Environment::from([("ISH_LISTEN", "127.0.0.1:0")]), None).unwrap().cache
}

/// Looks up, and says how it was found, if it was.
async fn found(cache: &SemanticCache, query: &Query) -> Option<(How, Tier)> {
    match cache.lookup(query, None).await {
        Lookup::Hit(hit) => Some((hit.how, hit.tier)),
        Lookup::Miss(_) => None,
    }
}

/// Tries every field on every wording; returns the number of cases. The control comes last: it puts entries into L1.
async fn try_lookups(cache: &SemanticCache, base: &Base) -> usize {
    let asked = &base.asked;
    let mut cases = 0;
    for &wording in asked.wordings() {
        let unchanged = asked.query(cache, wording);
        for (field, value) in Field::ALL.into_iter().zip(&base.values) {
            let changed = asked.changed(cache, field, value, wording);
            assert_eq!(differing(&unchanged.scope, &changed.scope), [field], "{asked:?} with {value:?}");
            let found = found(cache, &changed).await;
            assert_eq!(found, None, "{field:?} changed to {value:?}, {wording:?}, of {asked:?}");
            cases += 1;
        }
        let control = found(cache, &unchanged).await.map(|(how, _)| how);
        assert_eq!(control, Some(wording.how()), "nothing changed, {wording:?}, of {asked:?}");
        cases += 1;
    }
    cases
}

/// An equal request joins; one of another scope opens a flight of its own.
fn try_flights(cache: &SemanticCache, base: &Base) -> usize {
    let (asked, flights) = (&base.asked, Flights::default());
    let key = asked.query(cache, Wording::Same).keys.exact;
    let _flying = flights.join_or_open(key, Served::default());
    for (field, value) in Field::ALL.into_iter().zip(&base.values) {
        let changed = asked.changed(cache, field, value, Wording::Same).keys.exact;
        assert!(
            matches!(flights.join_or_open(changed, Served::default()), Seat::Opened(..)),
            "{field:?} to {value:?} of {asked:?}"
        );
    }
    assert!(matches!(flights.join_or_open(key, Served::default()), Seat::Joined(_)), "nothing changed, of {asked:?}");
    Field::ALL.len() + 1
}

fn insert(cache: &SemanticCache, base: &Base) {
    let query = base.asked.query(cache, Wording::Same);
    let embedded = embedded(&query.prompt);
    let completion = Arc::new(Completion::of_text(&base.asked.model, &base.asked.topic, None));
    let made = Made {
        completion,
        provider: "test".to_owned(),
        elapsed: Duration::ZERO,
        made_by: Person::of(Uuid::nil(), None),
    };
    cache.insert(&query, Some(&embedded), made).unwrap();
}

/// Runs `work` on every base, on as many tasks as there are workers.
async fn on_all<F>(
    cache: &SemanticCache,
    bases: &Arc<Vec<Base>>,
    work: impl Fn(SemanticCache, Arc<Vec<Base>>, usize) -> F,
) -> usize
where
    F: Future<Output = usize> + Send + 'static,
{
    let running: Vec<_> = (0..4).map(|part| tokio::spawn(work(cache.clone(), Arc::clone(bases), part))).collect();
    let mut cases = 0;
    for part in running {
        cases += part.await.unwrap();
    }
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_served_across_a_scope() {
    let folder = tempfile::tempdir().unwrap();
    let bases = Arc::new(bases());
    let alone = Alone::open(folder.path()).await;
    for group in bases.chunks(256) {
        for base in group {
            insert(&alone.cache, base);
        }
        // The write queue drops what does not fit, which is lawful and no part of this property.
        alone.cache.flush().await;
    }
    let before = on_all(&alone.cache, &bases, async |cache: SemanticCache, bases: Arc<Vec<Base>>, part| {
        let mut cases = 0;
        for base in bases.iter().skip(part).step_by(4) {
            cases += try_lookups(&cache, base).await + try_flights(&cache, base);
        }
        cases
    });
    let before = before.await;
    alone.close().await;
    let alone = Alone::open(folder.path()).await;
    let after = on_all(&alone.cache, &bases, async |cache: SemanticCache, bases: Arc<Vec<Base>>, part| {
        let mut cases = 0;
        for base in bases.iter().skip(part).step_by(4) {
            cases += try_lookups(&cache, base).await;
        }
        cases
    })
    .await;
    alone.close().await;
    println!("{before} cases before a restart, {after} after");
    assert!(before + after >= CASES, "{before} + {after}");
}

/// An entry of other weights is not even loaded: the whole cache reopened with another embedder finds nothing.
#[tokio::test]
async fn another_embedder_finds_nothing_in_the_same_store() {
    let folder = tempfile::tempdir().unwrap();
    let base = bases().swap_remove(0);
    let alone = Alone::open(folder.path()).await;
    insert(&alone.cache, &base);
    let db = alone.db.clone();
    alone.cache.flush().await;
    let parts = CacheParts {
        config: cache_config(),
        db,
        embeddings: EmbeddingService::new(
            Arc::new(BagOfWords(EmbedderId::new("bag-of-words@2"))),
            EmbeddingSettings::default(),
        ),
        redis: None,
        metrics: Arc::new(Metrics::new()),
        clock: Clock::system(),
    };
    let other = SemanticCache::start(parts, &alone.tasks, &alone.stop);
    until("the index's load", || other.index_loaded().then_some(())).await;
    for &wording in base.asked.wordings() {
        assert_eq!(found(&other, &base.asked.query(&other, wording)).await, None, "{wording:?}");
        assert!(found(&alone.cache, &base.asked.query(&alone.cache, wording)).await.is_some(), "{wording:?}");
    }
    other.close().await;
    alone.close().await;
}

/// Every parameter that is not on the short list of neutral ones is part of the scope, known to us or not.
#[tokio::test]
async fn every_member_of_a_request_but_the_neutral_ones_counts() {
    let folder = tempfile::tempdir().unwrap();
    let alone = Alone::open(folder.path()).await;
    let plain = Asked {
        tenant: "t".to_owned(),
        user: None,
        namespace: String::new(),
        model: "mock".to_owned(),
        system: None,
        members: Map::new(),
        topic: "polish a wooden violin without wax".to_owned(),
        personal: false,
    };
    let base = Base { asked: plain.clone(), values: Vec::new() };
    insert(&alone.cache, &base);
    let counts = [
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "n",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "response_format",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "reasoning_effort",
        "verbosity",
        "modalities",
        "web_search_options",
        "service_tier",
        "prediction",
        "audio",
        "unheard_of",
    ];
    let neutral = ["stream_options", "metadata", "store", "safety_identifier", "prompt_cache_key"];
    let mut seen = BTreeSet::new();
    for name in counts.iter().chain(&neutral) {
        let mut asked = plain.clone();
        asked.members.insert((*name).to_owned(), json!({}));
        for &wording in plain.wordings() {
            let hit = found(&alone.cache, &asked.query(&alone.cache, wording)).await.is_some();
            assert_eq!(hit, neutral.contains(name), "{name}, {wording:?}");
        }
        seen.insert(asked.query(&alone.cache, Wording::Same).keys.exact);
        asked.members.insert((*name).to_owned(), Value::Null);
        assert!(
            found(&alone.cache, &asked.query(&alone.cache, Wording::Same)).await.is_some(),
            "null is absent: {name}"
        );
    }
    assert_eq!(seen.len(), counts.len() + 1, "each is a scope of its own");
    alone.close().await;
}
