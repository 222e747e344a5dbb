//! What is asked in a window, and what proves that it was.

use std::time::Duration;

use anyhow::{Context, ensure};
use loadtest::generator::{Expected, Plan, Prompts, Target, unique};
use serde::Serialize;

use crate::probe::Probe;

/// Prompts that the instances remember.
const REMEMBERED: u64 = 20;

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cell {
    /// Answered from what the instance itself remembers.
    ExactHit,
    /// Past the cache to the provider, nothing stored.
    PassThrough,
    /// The same as a message of a new conversation: question and answer are stored.
    StoredMessage,
}

/// How each request of a run is made.
#[derive(Clone)]
pub(super) struct Asking {
    pub key: String,
    /// Tells this run's prompts from those of others.
    pub salt: u64,
    pub duration: Duration,
    pub warm_up: Duration,
}

impl Cell {
    pub(super) const ALL: [Self; 3] = [Self::ExactHit, Self::PassThrough, Self::StoredMessage];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ExactHit => "exact hit, L1",
            Self::PassThrough => "pass-through",
            Self::StoredMessage => "stored message",
        }
    }

    /// Whether each request reaches the provider, or none may.
    pub(super) fn asks_provider(self) -> bool {
        self != Self::ExactHit
    }

    /// The load on one instance. No two windows share a `number`, nor a prompt but those that are remembered.
    pub(super) fn plan(
        self,
        asking: &Asking,
        base: &str,
        pid: Option<u32>,
        connections: usize,
        number: u64,
    ) -> anyhow::Result<Plan> {
        let (path, cache, member) = match self {
            Self::ExactHit => ("/v1/chat/completions", Some("HIT"), Expected::default().member),
            Self::PassThrough => ("/v1/chat/completions", Some("BYPASS"), Expected::default().member),
            // Its reply tells of the cache in its body, as of an answer read again later.
            Self::StoredMessage => ("/api/chat", None, Some("\"session\"")),
        };
        let mut headers = vec![("authorization".into(), format!("Bearer {}", asking.key))];
        if self.asks_provider() {
            headers.push(("x-ish-cache".into(), "off".to_owned()));
        }
        let salt = asking.salt + number;
        let target = Target::parse(&format!("{base}{path}"))?;
        let prompts = match self {
            Self::ExactHit => Prompts::InTurn(remembered(asking.salt).collect()),
            Self::PassThrough => Prompts::Unique { salt },
            Self::StoredMessage => Prompts::Stored { salt },
        };
        Ok(Plan {
            headers,
            expected: Expected { member, header: cache.map(|cache| ("x-ish-cache", cache)), ..Expected::default() },
            connections,
            warm_up: asking.warm_up,
            pid,
            ..Plan::new(target, prompts, asking.duration)
        })
    }
}

/// Has an instance remember the prompts of exact hits.
pub(super) async fn warm(asking: &Asking, probe: &Probe, base: &str) -> anyhow::Result<()> {
    for prompt in remembered(asking.salt) {
        probe.ask(base, &asking.key, &prompt).await.with_context(|| base.to_owned())?;
        let again = probe.ask(base, &asking.key, &prompt).await?;
        ensure!(again == "HIT", "{base} said {again} to what it has just answered");
    }
    Ok(())
}

fn remembered(salt: u64) -> impl Iterator<Item = String> {
    (0..REMEMBERED).map(move |number| unique(salt, number))
}
