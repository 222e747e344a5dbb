//! What sends the spans of traces to a collector, by OTLP over HTTP (protobuf): in batches, one at a time. A collector that is
//! away, slow or full costs spans, which are counted, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::TracesConfig;
use crate::metrics::Metrics;
use crate::traces::{Batch, Gathered, encoded};
use crate::upstream::{Credentials, Upstream};

/// Spans in one batch at most.
const BATCH: usize = 512;

/// How long a batch waits for more spans.
const GATHERING: Duration = Duration::from_secs(1);

/// How long the collector may take for one batch.
const LIMIT: Duration = Duration::from_secs(10);

/// How long the last spans may take at the end of the process.
const LAST: Duration = Duration::from_secs(3);

/// A task that sends, until it is told to finish.
#[derive(Debug)]
pub struct Collector {
    stop: CancellationToken,
    sending: JoinHandle<()>,
}

impl Collector {
    /// Sends what the process gathers, where it does.
    pub fn start(config: &TracesConfig, upstream: &Upstream, metrics: &Arc<Metrics>) -> Option<Self> {
        let gathered = Gathered::of_process()?;
        let credentials = config
            .headers
            .iter()
            .fold(Credentials::default(), |all, (name, value)| all.with_secret(name.clone(), Some(value)));
        let sender = Sender {
            gathered,
            url: config.url.clone(),
            credentials,
            upstream: upstream.clone(),
            metrics: Arc::clone(metrics),
            is_failing: false,
        };
        let stop = CancellationToken::new();
        Some(Self { sending: tokio::spawn(sender.run(stop.clone())), stop })
    }

    /// Sends what is left, for as long as that may take.
    pub async fn finish(self) {
        self.stop.cancel();
        let mut sending = self.sending;
        if timeout(LAST, &mut sending).await.is_err() {
            sending.abort();
            let _ = sending.await;
        }
    }
}

struct Sender {
    gathered: Gathered,
    url: Url,
    credentials: Credentials,
    upstream: Upstream,
    metrics: Arc<Metrics>,
    /// Whether the last batch was lost: said once.
    is_failing: bool,
}

impl Sender {
    async fn run(mut self, stop: CancellationToken) {
        let mut batch = Batch::with_capacity(BATCH);
        while let Some(true) = stop.run_until_cancelled(self.gathered.next(&mut batch, BATCH)).await {
            let due = Instant::now() + GATHERING;
            while batch.len() < BATCH && !stop.is_cancelled() {
                let room = BATCH - batch.len();
                let more = stop.run_until_cancelled(timeout_at(due, self.gathered.next(&mut batch, room)));
                if !matches!(more.await, Some(Ok(true))) {
                    break;
                }
            }
            self.send(&mut batch).await;
        }
        self.gathered.take_ready(&mut batch, BATCH);
        while !batch.is_empty() {
            self.send(&mut batch).await;
            self.gathered.take_ready(&mut batch, BATCH);
        }
        self.count("dropped", self.gathered.dropped());
    }

    async fn send(&mut self, batch: &mut Batch) {
        let spans = batch.len() as u64;
        let body = encoded(std::mem::replace(batch, Batch::with_capacity(BATCH)), &self.gathered.resource);
        let (url, kind) = (self.url.clone(), "application/x-protobuf");
        let sent = self.upstream.deliver(url, &self.credentials, kind, body.into(), LIMIT).await;
        match &sent {
            Ok(()) if self.is_failing => tracing::info!("traces reach their collector again"),
            Err(failure) if !self.is_failing => {
                tracing::warn!(
                    kind = failure.kind.as_str(),
                    status = failure.status,
                    "traces do not reach their collector"
                );
            }
            _ => {}
        }
        self.is_failing = sent.is_err();
        self.count(if sent.is_ok() { "sent" } else { "lost" }, spans);
        self.count("dropped", self.gathered.dropped());
    }

    fn count(&self, outcome: &str, spans: u64) {
        self.metrics.trace_spans.with_label_values(&[outcome]).inc_by(spans);
    }
}
