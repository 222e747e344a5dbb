//! What goes wrong meanwhile: answers that fail at the provider, callers that leave in the middle, sockets that cancel.

use std::time::Duration;

use loadtest::generator::{self, Expected, Plan, Prompts, Report, unique};
use tokio::time::{Instant, interval, timeout};

use crate::cancel::client::{self, Chat};
use crate::party::Party;

/// Each a way to fail, after what docs say of the provider's directives; a hang costs the caller the server's patience.
const FAULTS: [&str; 9] = [
    "fault=500",
    "fault=503",
    "fault=reset",
    "fault=close",
    "fault=cut after=3",
    "fault=early_end after=2",
    "fault=error_event after=3",
    "fault=garbage",
    "fault=hang after=2",
];
/// Failing requests per second.
const RATE: f64 = 4.0;
/// Between two callers that leave, and between two cancels.
const EVERY: Duration = Duration::from_millis(500);
/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of it.
#[derive(Default)]
pub(super) struct Trouble {
    pub failing: Option<Report>,
    pub left: u64,
    pub cancelled: u64,
}

impl Trouble {
    /// Makes it for so long.
    pub(super) async fn make(party: &Party, lasts: Duration, salt: u64) -> anyhow::Result<Self> {
        let until = Instant::now() + lasts;
        let (failing, left, cancelled) = tokio::join!(
            failing(party, lasts, salt + 2),
            leave(party, until, salt + 3),
            cancel(party, until, salt + 4)
        );
        Ok(Self { failing: Some(failing?), left, cancelled })
    }
}

/// Any reply will do, and none.
async fn failing(party: &Party, lasts: Duration, salt: u64) -> anyhow::Result<Report> {
    let prompts = Prompts::Directed { salt, directives: FAULTS.map(str::to_owned).into() };
    let expected = Expected { member: None, ..Expected::default() };
    let plan = Plan::new(party.target().clone(), prompts, lasts);
    let headers = vec![("x-ish-cache".into(), "off".to_owned())];
    generator::run(Plan { expected, headers, connections: 64, rate: Some(RATE), ..plan }).await
}

/// Opens streams and closes their connections after the first words; how many.
async fn leave(party: &Party, until: Instant, salt: u64) -> u64 {
    let (mut ticks, mut left) = (interval(EVERY), 0);
    while Instant::now() < until {
        ticks.tick().await;
        let prompt = slow(salt, left);
        // A server that refuses is counted where its answers are due.
        if let Ok(Ok(reply)) = timeout(PATIENCE, client::stream(party.address(), &prompt)).await {
            drop(reply);
            left += 1;
        }
    }
    left
}

/// Asks on a socket, a new one each tenth time, and cancels after the first words; how many.
async fn cancel(party: &Party, until: Instant, salt: u64) -> u64 {
    let (mut ticks, mut cancelled, mut chat) = (interval(EVERY), 0, None);
    while Instant::now() < until {
        ticks.tick().await;
        // Where that fails, the next one is asked on a new socket.
        if let Ok(Ok(socket)) = timeout(PATIENCE, cancel_one(party, chat.take(), &slow(salt, cancelled))).await {
            cancelled += 1;
            chat = (cancelled % 10 != 0).then_some(socket);
        }
    }
    cancelled
}

async fn cancel_one(party: &Party, chat: Option<Chat>, prompt: &str) -> anyhow::Result<Chat> {
    let mut chat = match chat {
        Some(chat) => chat,
        None => Chat::open(party.address()).await?,
    };
    let stream = chat.ask(prompt).await?;
    chat.cancel(&stream).await?;
    Ok(chat)
}

/// A question whose answer takes a while.
fn slow(salt: u64, number: u64) -> String {
    format!("{} [[tokens=200 each=20ms]]", unique(salt, number))
}
