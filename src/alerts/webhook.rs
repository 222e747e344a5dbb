//! Telling a webhook: message after message, each until it is taken, refused for good, or has been tried for minutes. Looking for
//! alerts waits for none of this.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use url::Url;

use super::message::Message;
use crate::clock::jitter;
use crate::config::WebhookConfig;
use crate::metrics::Metrics;
use crate::upstream::{Credentials, Upstream};

/// Messages that may wait; one that finds no room is dropped, and counted.
pub(super) const QUEUE: usize = 64;

/// How often a message is sent, about six minutes in all.
const ATTEMPTS: u32 = 12;

/// The most that is waited after the first attempt; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The most that is waited after any.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How long a receiver may take for one.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who is told.
pub(super) struct Webhook {
    url: Url,
    credentials: Credentials,
    upstream: Upstream,
    metrics: Arc<Metrics>,
}

/// Why a message was not taken.
enum Refusal {
    /// It may be taken another time.
    Later(String),
    /// It will not.
    Never(String),
}

impl Webhook {
    pub fn new(config: &WebhookConfig, upstream: Upstream, metrics: Arc<Metrics>) -> Self {
        Self { url: config.url.clone(), credentials: Credentials::bearer(config.token.as_ref()), upstream, metrics }
    }

    /// Tells each message as it comes, in order.
    pub async fn tell(self, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.recv().await {
            let outcome = match self.deliver(&message).await {
                Ok(()) => "sent",
                Err(why) => {
                    tracing::error!(alerts = message.count(), why, "alerts.webhook_url could not be told of alerts");
                    "failed"
                }
            };
            self.metrics.alert_messages.with_label_values(&[outcome]).inc();
        }
    }

    async fn deliver(&self, message: &Message) -> Result<(), String> {
        let body = Bytes::from(serde_json::to_vec(message).map_err(|error| error.to_string())?);
        let mut attempt = 1;
        loop {
            match self.post(body.clone()).await {
                Ok(()) => return Ok(()),
                Err(Refusal::Later(why)) if attempt < ATTEMPTS => {
                    tracing::warn!(attempt, why, "alerts.webhook_url has not taken a message; it is sent again");
                }
                Err(Refusal::Later(why) | Refusal::Never(why)) => return Err(why),
            }
            tokio::time::sleep(wait(attempt, jitter())).await;
            attempt += 1;
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), Refusal> {
        match self.upstream.tell(self.url.clone(), &self.credentials, body, PATIENCE).await {
            Ok(200..=299) => Ok(()),
            // A redirect is not followed: it could lead to where nobody meant to send anything.
            Ok(status @ (408 | 429 | 500..)) => Err(Refusal::Later(format!("status {status}"))),
            Ok(status) => Err(Refusal::Never(format!("status {status}"))),
            Err(failure) => Err(Refusal::Later(format!("no reply: {}", failure.kind.as_str()))),
        }
    }
}

/// At least half of the time that is due, a random part of the rest.
fn wait(attempt: u32, jitter: f64) -> Duration {
    let due = FIRST_WAIT.saturating_mul(1 << (attempt - 1).min(16)).min(LONGEST_WAIT);
    due.mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute() {
        assert_eq!(wait(1, 1.0), Duration::from_millis(500));
        assert_eq!(wait(4, 0.0), Duration::from_secs(2));
        assert_eq!(wait(40, 1.0), LONGEST_WAIT);
        let all: Duration = (1..ATTEMPTS).map(|attempt| wait(attempt, 1.0)).sum();
        assert!((Duration::from_mins(4)..Duration::from_mins(7)).contains(&all), "{all:?}");
    }
}
