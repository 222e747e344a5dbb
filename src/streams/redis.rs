//! What instances tell each other of an unfinished answer in Redis: its owner what it says, as long as somebody listens
//! elsewhere; listeners elsewhere that they do, and that they want no more. All of it is a faster way to what the store
//! says anyhow: whatever is lost here is read there.

use std::time::Duration;

use ::redis::streams::StreamReadReply;
use ::redis::{cmd, pipe};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::redis::{Redis, RedisError};

/// How long what was said is kept after the last word.
const KEPT: Duration = Duration::from_mins(1);

/// How long one who listens counts after the last look.
const HEARING: Duration = Duration::from_secs(2);

/// Pieces read at a time.
const AT_ONCE: usize = 64;

/// The answers of this deployment in its Redis. Cloning is cheap.
#[derive(Clone)]
pub struct Tails {
    redis: Redis,
}

/// A piece of an answer's text, by its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    pub epoch: u32,
    /// The last number in it.
    pub seq: u64,
    /// Bytes of the text before it.
    pub text_at: usize,
    /// Bytes of the reasoning text before it.
    pub reasoning_at: usize,
    pub text: String,
    pub reasoning: String,
    /// Nothing follows: the store has the end.
    pub is_end: bool,
}

/// What others ask of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    /// Somebody listens.
    pub is_heard: bool,
    /// Somebody wants no more.
    pub is_cancelled: bool,
}

impl Tails {
    /// Over this Redis.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    /// Braces: in a cluster the names of one answer lie together.
    fn key(&self, stream: Uuid, what: &str) -> String {
        self.redis.key(format_args!("answer:{{{stream}}}:{what}"))
    }

    /// What others ask of each, in one command (which a cluster's client splits).
    pub(super) async fn asked(&self, streams: &[Uuid]) -> Result<Vec<Asked>, RedisError> {
        let mut command = cmd("MGET");
        for stream in streams {
            command.arg(self.key(*stream, "heard")).arg(self.key(*stream, "cancel"));
        }
        let marks: Vec<Option<u8>> = self.redis.query("tail", &command).await?;
        let asked = |marks: &[Option<u8>]| Asked { is_heard: marks[0].is_some(), is_cancelled: marks[1].is_some() };
        Ok(marks.chunks_exact(2).map(asked).collect())
    }

    pub(super) async fn say(&self, stream: Uuid, said: &Said) -> Result<(), RedisError> {
        let key = self.key(stream, "said");
        // Texts and numbers can always be written.
        let text = serde_json::to_vec(said).unwrap_or_default();
        let mut commands = pipe();
        commands.cmd("XADD").arg(&key).arg("*").arg("w").arg(text).ignore();
        commands.cmd("PEXPIRE").arg(&key).arg(millis(KEPT)).ignore();
        self.redis.pipeline("tail", &commands).await
    }

    /// What came behind `last`, which moves on; the owner learns that somebody listens.
    pub(super) async fn listen(&self, stream: Uuid, last: &mut String) -> Result<Vec<Said>, RedisError> {
        let mut commands = pipe();
        commands.cmd("SET").arg(self.key(stream, "heard")).arg(1).arg("PX").arg(millis(HEARING)).ignore();
        let read = commands.cmd("XREAD").arg("COUNT").arg(AT_ONCE);
        read.arg("STREAMS").arg(self.key(stream, "said")).arg(last.as_str());
        let (reply,): (Option<StreamReadReply>,) = self.redis.pipeline("tail", &commands).await?;
        let mut pieces = Vec::new();
        for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids) {
            // What cannot be read is a hole, which the store fills.
            pieces.extend(entry.get::<Vec<u8>>("w").and_then(|text| serde_json::from_slice::<Said>(&text).ok()));
            *last = entry.id;
        }
        Ok(pieces)
    }

    /// Tells the owner at once what the store tells it later.
    pub(super) async fn want_cancel(&self, stream: Uuid) {
        let mut wanting = cmd("SET");
        wanting.arg(self.key(stream, "cancel")).arg(1).arg("PX").arg(millis(KEPT));
        if let Err(error) = self.redis.query::<()>("tail", &wanting).await {
            tracing::debug!(%error, "the owner of an answer learns from the store that it is cancelled");
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
