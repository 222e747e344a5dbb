//! Conversations through the whole cache: keys, index, embedder and verifier, as the server asks them.
//!
//! Owns the runs in which every turn of many conversations lies in the cache of one tenant, and the count of answers that
//! were given in another conversation. Texts are never printed: turns go by their names.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use ish::cache::{CacheControl, CacheParts, Hit, How, Lookup, Made, Person, Plan, Query, Selection, SemanticCache};
use ish::clock::Clock;
use ish::config::{Config, Environment};
use ish::db::{Db, Durability, MigrationSet};
use ish::embedding::{EmbeddingService, EmbeddingSettings, MiniLm};
use ish::message::{ChatRequest, Completion, Role};
use ish::metrics::Metrics;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::corpus::Turn;

const TENANT: &str = "evaluation";
const MODEL: &str = "recorded";

/// The turns of `cached` are answered and kept; then each of `asked` is looked up in these ways.
pub fn run(name: &str, cached: &[Turn], asked: &[Turn], ways: &[Asking]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let tenant = Tenant::open(folder.path()).await?;
        for turn in cached {
            tenant.answer(turn).await?;
        }
        println!("\n### {name} through the whole cache: {} turns kept, {} looked up\n", cached.len(), asked.len());
        println!(
            "| looked up | not looked up | hits | exact | normalized | semantic | answered in another conversation |"
        );
        println!("|---|---|---|---|---|---|---|");
        let mut foreign = Vec::new();
        for &way in ways {
            let outcomes = tenant.ask_all(way, asked).await?;
            println!("{}", outcomes.row(way));
            foreign.extend(outcomes.foreign);
        }
        println!();
        for line in foreign {
            println!("- {line}");
        }
        tenant.close().await;
        Ok(())
    })
}

/// How a turn is looked up.
#[derive(Clone, Copy)]
pub enum Asking {
    /// In its own conversation; its own answer is out of the cache meanwhile.
    InItsConversation,
    /// As the first message of a new conversation; its own answer is out of the cache meanwhile.
    AsFirstMessage,
    /// In its own conversation with its own answer in place, to see that what is kept can be found.
    Again,
}

impl Asking {
    fn name(self) -> &'static str {
        match self {
            Self::InItsConversation => "in its conversation",
            Self::AsFirstMessage => "as a first message",
            Self::Again => "in its conversation, its own answer kept",
        }
    }
}

/// What came of a run.
#[derive(Default)]
struct Outcomes {
    bypassed: usize,
    hits: [usize; 3],
    /// Hits from another conversation, in words.
    foreign: Vec<String>,
}

impl Outcomes {
    fn row(&self, how: Asking) -> String {
        let [exact, normalized, semantic] = self.hits;
        let (hits, foreign) = (exact + normalized + semantic, self.foreign.len());
        format!("| {} | {} | {hits} | {exact} | {normalized} | {semantic} | {foreign} |", how.name(), self.bypassed)
    }

    fn count(&mut self, turn: &Turn, asking: Asking, hit: &Hit) {
        let at = match hit.how {
            How::Exact => 0,
            How::Normalized => 1,
            How::Semantic => 2,
        };
        self.hits[at] += 1;
        let answered = hit.entry.completion.text();
        if answered.split('_').next() != turn.name.split('_').next() {
            let similarity = hit.similarity.map_or(String::new(), |similarity| format!(" {similarity}"));
            let how = hit.how.as_str();
            self.foreign.push(format!("{} {}: {how}{similarity}, the answer to {answered}", turn.name, asking.name()));
        }
    }
}

/// The cache of one tenant, with the embedder and the settings that are shipped.
struct Tenant {
    cache: SemanticCache,
    db: Db,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Tenant {
    async fn open(folder: &Path) -> Result<Self> {
        let db = Db::open(&folder.join("cache.db"), Durability::Normal, MigrationSet::CACHE).await?;
        let one = NonZeroUsize::MIN;
        let patient = EmbeddingSettings { patience: Duration::from_mins(1), ..EmbeddingSettings::default() };
        let parts = CacheParts {
            config: Config::read(&Environment::default(), None)?.cache,
            db: db.clone(),
            embeddings: EmbeddingService::new(Arc::new(MiniLm::start(one, 256, one)?), patient),
            redis: None,
            metrics: Arc::new(Metrics::new()),
            clock: Clock::system(),
        };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Ok(Self { cache: SemanticCache::start(parts, &tasks, &stop), db, tasks, stop })
    }

    async fn close(self) {
        self.cache.close().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.db.close().await;
    }

    /// What the cache may do for a turn; `None`: nothing.
    fn query(&self, turn: &Turn, asking: Asking) -> Result<Option<Box<Query>>> {
        let mut turns = Vec::new();
        if !matches!(asking, Asking::AsFirstMessage) {
            for (question, answer) in &turn.history {
                turns.extend([(Role::User, question.as_str()), (Role::Assistant, answer.as_str())]);
            }
        }
        turns.push((Role::User, &turn.text));
        let request = ChatRequest::build(MODEL, &turns, &serde_json::Map::new())?;
        Ok(match self.cache.plan(&request, TENANT, CacheControl::default()) {
            Plan::Use(query) => Some(query),
            Plan::Bypass { .. } => None,
        })
    }

    /// Keeps the turn's name as its answer.
    async fn answer(&self, turn: &Turn) -> Result<()> {
        let Some(query) = self.query(turn, Asking::InItsConversation)? else { return Ok(()) };
        let embedded = self.cache.embed_ahead(&query).await;
        let completion = Arc::new(Completion::of_text(MODEL, &turn.name, None));
        let made = Made {
            completion,
            provider: MODEL.to_owned(),
            elapsed: Duration::ZERO,
            made_by: Person::of(Uuid::nil(), None),
        };
        if let Err(reason) = self.cache.insert(&query, embedded.as_deref(), made) {
            bail!("{} was not kept: {reason:?}", turn.name);
        }
        Ok(())
    }

    async fn ask_all(&self, asking: Asking, asked: &[Turn]) -> Result<Outcomes> {
        let mut outcomes = Outcomes::default();
        for turn in asked {
            let Some(query) = self.query(turn, asking)? else {
                outcomes.bypassed += 1;
                continue;
            };
            // Its own answer may be one that is not kept at all.
            let own = self.query(turn, Asking::InItsConversation)?.filter(|_| !matches!(asking, Asking::Again));
            let taken_out = match own {
                Some(own) => self.cache.evict(TENANT, Selection::Key(own.keys.exact)).await?,
                None => 0,
            };
            if let Lookup::Hit(hit) = self.cache.lookup(&query, None).await {
                outcomes.count(turn, asking, &hit);
            }
            if taken_out > 0 {
                self.answer(turn).await?;
            }
        }
        Ok(outcomes)
    }
}
