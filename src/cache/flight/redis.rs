//! Flights over instances. Of equal requests on several instances one gets a lease in Redis and asks the provider; the
//! others read along in a Redis stream. It writes there only while somebody reads, and the whole answer at its end. The
//! lease is given up once the cache's stores have the answer; a mark stays, for those who looked there just before: whoever
//! gets a lease and finds one looks again.
//!
//! A lease that is not renewed ends, and the next who asks gets it; whoever read along and has had nothing yet is such a
//! one. Without Redis each instance asks for itself.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::redis::streams::StreamReadReply;
use ::redis::{Script, cmd, pipe};
use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::telling::{Telling, Trouble};
use super::wire::{Whole, Word};
use super::{Ending, Flight};
use crate::cache::scope::Digest;
use crate::message::{Completion, Delta};
use crate::redis::{Redis, RedisError};
use crate::upstream::Failure;

/// How long a lease lasts that nobody renews.
const LEASE: Duration = Duration::from_secs(4);

/// How often it is renewed, and how long one who begins to read along may wait until he is noticed.
const TICK: Duration = Duration::from_millis(250);

/// How long the mark of a stored answer stays: longer than from a look-up to the lease.
const MARKED: Duration = Duration::from_secs(10);

/// How long nothing that is written here is kept when everybody who knows of it has died.
const KEPT: Duration = Duration::from_mins(1);

/// How long one who reads along counts after he has looked.
const HEARING: Duration = Duration::from_secs(2);

/// Between two looks of one who reads along: at first, and when nothing comes.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// Bytes of one answer that are written at most; beyond, those who read along lose it.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Takes the lease, or says whose it is; and whether the answer was stored a moment ago.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local holder = redis.call('GET', KEYS[1])
         if holder then return {holder, 0} end
         redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
         return {'', redis.call('EXISTS', KEYS[2])}",
    )
});

/// Renews one's own lease, or ends it where the time is 0; 0 when it is one's own no longer.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
         if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
         return 1",
    )
});

/// Who of several instances makes a call.
#[derive(Clone)]
pub struct Leases {
    redis: Redis,
}

/// Whose turn it is to ask the provider.
pub enum Turn {
    /// This caller's, who tells the others.
    Lead(Lead),
    /// Another's.
    Follow(Follow),
    /// Everybody's own: Redis is away.
    Alone,
}

impl Leases {
    /// Over this Redis.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    /// Takes the lease of equal requests, or finds who has it.
    pub async fn take(&self, key: Digest) -> Turn {
        // Braces: in a cluster the names of one flight lie together.
        let lease = self.redis.key(format_args!("flight:{{{key}}}"));
        let mine = Uuid::now_v7().simple().to_string();
        let mut taking = TAKE.prepare_invoke();
        taking.key(&lease).key(mark_of(&lease)).arg(&mine).arg(millis(LEASE));
        match self.redis.script::<(String, bool)>("lease", &taking).await {
            Ok((holder, look_again)) if holder.is_empty() => {
                let place = Place::new(&self.redis, lease, mine);
                Turn::Lead(Lead { place, look_again, gone: CancellationToken::new() })
            }
            Ok((holder, _)) => Turn::Follow(Follow::new(Place::new(&self.redis, lease, holder))),
            Err(error) => {
                tracing::debug!(%error, "without a lease this instance asks for itself");
                Turn::Alone
            }
        }
    }
}

/// The names of one flight under one holder.
#[derive(Clone)]
struct Place {
    redis: Redis,
    lease: String,
    holder: String,
    words: String,
    heard: String,
}

impl Place {
    fn new(redis: &Redis, lease: String, holder: String) -> Self {
        let (words, heard) = (format!("{lease}:{holder}"), format!("{lease}:{holder}:heard"));
        Self { redis: redis.clone(), lease, holder, words, heard }
    }

    /// Whether the lease is still the holder's. No time ends it.
    async fn renew(&self, time: Duration) -> Result<bool, RedisError> {
        let mut renewing = RENEW.prepare_invoke();
        renewing.key(&self.lease).arg(&self.holder).arg(millis(time));
        self.redis.script("lease", &renewing).await
    }

    /// For those who looked into the cache before the answer was there.
    async fn mark(&self) {
        let mut marking = cmd("SET");
        marking.arg(mark_of(&self.lease)).arg(1).arg("PX").arg(millis(MARKED));
        // Without it somebody asks a second time.
        let _ = self.redis.query::<()>("lease", &marking).await;
    }

    async fn is_heard(&self) -> Result<bool, RedisError> {
        self.redis.query("follow", cmd("EXISTS").arg(&self.heard)).await
    }

    /// Says something, maybe for the second time: by its number it is told from what follows it.
    async fn say(&self, number: u64, text: &[u8]) -> Result<(), RedisError> {
        let mut commands = pipe();
        commands.cmd("XADD").arg(&self.words).arg("*").arg("n").arg(number).arg("w").arg(text).ignore();
        commands.cmd("PEXPIRE").arg(&self.words).arg(millis(KEPT)).ignore();
        self.redis.pipeline("follow", &commands).await
    }
}

/// The lease, held.
#[derive(Clone)]
pub struct Lead {
    place: Place,
    /// Whether the answer was stored just before.
    pub look_again: bool,
    gone: CancellationToken,
}

impl Lead {
    /// Renews the lease while the flight lasts, tells those who read along what comes, and gives the lease up: after
    /// `written`, where the answer goes into the cache's stores.
    pub async fn publish(self, flight: Arc<Flight>, written: impl Future<Output = ()> + Send) {
        let told = tokio::select! {
            biased;
            () = self.gone.cancelled() => Ok(false),
            told = self.tell(&flight) => told,
        };
        match told {
            Ok(true) => {
                written.await;
                self.place.mark().await;
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "a flight is not told any further"),
        }
        // The lease ends by itself where this fails.
        let _ = self.place.renew(Duration::ZERO).await;
    }

    /// Whether it ended with an answer that is stored.
    async fn tell(&self, flight: &Flight) -> Result<bool, RedisError> {
        let mut told = Telling::default();
        let mut grown = flight.grown.subscribe();
        let mut heard = false;
        let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
        loop {
            grown.mark_unchanged();
            // Until somebody reads along, only the end is of interest.
            let (fresh, ending) = flight.locked(|log| {
                let fresh = if heard || log.ending.is_some() { log.deltas[told.deltas..].to_vec() } else { Vec::new() };
                (fresh, log.ending.clone())
            });
            told.word(flight, &fresh, ending.as_ref());
            self.say_all(&mut told).await?;
            if let Some(ending) = ending.filter(|_| told.unsaid.is_empty()) {
                return Ok(matches!(ending, Ending::Complete { stored: true, .. }));
            }
            if told.bytes > MOST_BYTES {
                return Ok(false);
            }
            tokio::select! {
                _ = grown.changed() => {}
                _ = tick.tick() => {
                    if told.bear(self.place.renew(LEASE).await)? == Some(false) {
                        return Ok(false);
                    }
                    heard = heard || told.bear(self.place.is_heard().await)? == Some(true);
                }
            }
        }
    }

    /// Says what is unsaid, as far as Redis takes it.
    async fn say_all(&self, told: &mut Telling) -> Result<(), RedisError> {
        while let Some((number, text)) = told.unsaid.front() {
            let said = self.place.say(*number, text).await;
            if told.bear(said)?.is_none() {
                return Ok(());
            }
            told.unsaid.pop_front();
        }
        Ok(())
    }

    /// Ends when nobody on another instance reads along.
    pub async fn unheard(&self) {
        let mut trouble = Trouble::default();
        loop {
            match self.place.is_heard().await {
                Ok(true) => trouble.is_over(),
                Err(_) if trouble.is_bearable() => {}
                _ => return,
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// The flight comes to nothing here: whoever reads along goes on by himself.
    pub fn let_go(&self) {
        self.gone.cancel();
    }
}

/// A flight of another instance, read along.
pub struct Follow {
    place: Place,
    last: String,
    /// The number of the last text.
    number: u64,
    words: VecDeque<Word>,
    pause: Duration,
}

/// What one who reads along hears next.
pub enum Heard {
    /// Who answers: a provider, and its name for the model.
    By(String, String),
    /// A piece.
    Delta(Box<Delta>),
    /// All has been said; nothing follows.
    End {
        /// The answer, with the provider's bytes where it came so, if its pieces were not said.
        whole: Option<(Box<Completion>, Option<Bytes>)>,
        /// Whether it was put into the cache.
        stored: bool,
    },
    /// The provider failed; nothing follows.
    Failed(Failure),
    /// Nothing more will come: the instance died, let go, or Redis did.
    Lost,
}

impl Follow {
    fn new(place: Place) -> Self {
        Self { place, last: "0-0".to_owned(), number: 0, words: VecDeque::new(), pause: PAUSE.0 }
    }

    /// The next thing.
    pub async fn next(&mut self) -> Heard {
        let mut trouble = Trouble::default();
        loop {
            if let Some(word) = self.words.pop_front() {
                return Heard::of(word);
            }
            match self.look().await {
                Ok(true) => trouble.is_over(),
                Err(_) if trouble.is_bearable() => {}
                _ => return Heard::Lost,
            }
            if self.words.is_empty() {
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(PAUSE.1);
            } else {
                self.pause = PAUSE.0;
            }
        }
    }

    /// Takes what has come; false where nothing has and nothing will.
    async fn look(&mut self) -> Result<bool, RedisError> {
        let Place { redis, lease, holder, words, heard } = &self.place;
        let mut commands = pipe();
        commands.cmd("SET").arg(heard).arg(1).arg("PX").arg(millis(HEARING)).ignore();
        commands.cmd("GET").arg(lease);
        commands.cmd("XREAD").arg("COUNT").arg(64).arg("STREAMS").arg(words).arg(&self.last);
        let (holds, read): (Option<String>, Option<StreamReadReply>) = redis.pipeline("follow", &commands).await?;
        let entries = read.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
        let before = self.last.clone();
        for entry in entries {
            let said: Option<Vec<Word>> = entry.get::<Vec<u8>>("w").and_then(|text| serde_json::from_slice(&text).ok());
            let Some(said) = said else { return Ok(false) };
            let number = entry.get("n").unwrap_or(self.number + 1);
            if number > self.number {
                self.words.extend(said);
                self.number = number;
            }
            self.last = entry.id;
        }
        Ok(before != self.last || holds.as_deref() == Some(holder))
    }
}

impl Heard {
    fn of(word: Word) -> Self {
        match word {
            Word::By(provider, model) => Self::By(provider, model),
            Word::Piece(piece) => Self::Delta(Box::new(piece.into_delta())),
            Word::Failed(failure) => Self::Failed(failure),
            Word::End { whole: None, stored } => Self::End { whole: None, stored },
            Word::End { whole: Some(whole), stored } => match Whole::read(whole) {
                Some(whole) => Self::End { whole: Some(whole), stored },
                None => Self::Lost,
            },
        }
    }
}

fn mark_of(lease: &str) -> String {
    format!("{lease}:stored")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
