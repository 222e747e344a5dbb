//! all-MiniLM-L6-v2 inside the process, on threads of its own.
//!
//! Owns the queue in front of the model and the batches that are made from it. Leaves tokens to
//! [`super::wordpiece`], the arithmetic to [`Encoder`], and caching to [`super::service`]. The model is embedded in
//! the binary, see `models/README.md`.

mod encoder;

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

pub use self::encoder::{EncodeError, Encoder, VOCABULARY};
use super::{EmbedError, EmbedFuture, Embedded, Embedder, EmbedderId};
use crate::services::Part;

/// Model name and the first 12 hex digits of the file's SHA-256; a test holds it.
pub const MODEL_ID: &str = "minilm-l6-v2-int8@465057fb38e4";

/// The embedder that is built in. Cloning is not needed: share it behind an `Arc`. Dropping it ends its threads
/// once the queue is empty.
#[derive(Debug)]
pub struct MiniLm {
    id: EmbedderId,
    queue: SyncSender<Job>,
    batch: NonZeroUsize,
    part: Part,
}

/// The texts of one call, at most a batch, and who waits for them.
#[derive(Debug)]
struct Job {
    texts: Vec<String>,
    begun: oneshot::Sender<()>,
    done: oneshot::Sender<Result<Vec<Embedded>, EmbedError>>,
}

/// The model that all threads share.
type Loaded = Result<Encoder, rten::LoadError>;

impl MiniLm {
    /// Starts `workers` threads that share one model and a queue of at most `queue` waiting calls; one turn of a worker
    /// takes at most `batch` texts. Returns at once; the model is loaded by the first worker.
    ///
    /// # Errors
    /// [`EmbedError::Failed`] if the system refuses a thread.
    pub fn start(workers: NonZeroUsize, queue: usize, batch: NonZeroUsize) -> Result<Self, EmbedError> {
        let (minilm, receiver) = Self::with_queue(queue, batch);
        let receiver = Arc::new(Mutex::new(receiver));
        let encoder = Arc::new(OnceLock::new());
        for worker in 0..workers.get() {
            let (receiver, encoder, part) = (Arc::clone(&receiver), Arc::clone(&encoder), minilm.part());
            thread::Builder::new()
                .name(format!("embedder-{worker}"))
                .spawn(move || work(&receiver, (&*encoder, &part), batch))
                .map_err(|error| EmbedError::Failed(error.into()))?;
        }
        Ok(minilm)
    }

    fn with_queue(queue: usize, batch: NonZeroUsize) -> (Self, Receiver<Job>) {
        let (sender, receiver) = sync_channel(queue);
        (Self { id: EmbedderId::new(MODEL_ID), queue: sender, batch, part: Part::new("embedder") }, receiver)
    }

    /// Whether the model is loaded, for a registry.
    pub fn part(&self) -> Part {
        self.part.clone()
    }

    async fn embed_batch(&self, texts: Vec<String>, patience: Option<Duration>) -> Result<Vec<Embedded>, EmbedError> {
        let (begun, begin) = oneshot::channel();
        let (done, result) = oneshot::channel();
        self.queue.try_send(Job { texts, begun, done }).map_err(|error| match error {
            TrySendError::Full(_) => EmbedError::Busy,
            TrySendError::Disconnected(_) => EmbedError::Stopped,
        })?;
        if let Some(patience) = patience {
            // On a timeout `result` is dropped, by which the worker sees that nobody waits any more.
            let Ok(begin) = tokio::time::timeout(patience, begin).await else {
                return Err(EmbedError::Busy);
            };
            begin.map_err(|_| EmbedError::Stopped)?;
        }
        result.await.map_err(|_| EmbedError::Stopped)?
    }
}

impl Embedder for MiniLm {
    fn id(&self) -> &EmbedderId {
        &self.id
    }

    fn embed(&self, mut texts: Vec<String>, patience: Option<Duration>) -> EmbedFuture<'_> {
        Box::pin(async move {
            let mut embedded = Vec::with_capacity(texts.len());
            // A long list goes in one piece after the other, so that others' texts get their turn in between.
            while !texts.is_empty() {
                let rest = texts.split_off(texts.len().min(self.batch.get()));
                embedded.extend(self.embed_batch(texts, patience).await?);
                texts = rest;
            }
            Ok(embedded)
        })
    }
}

/// Serves the queue until every sender is gone.
fn work(queue: &Mutex<Receiver<Job>>, (encoder, part): (&OnceLock<Loaded>, &Part), batch: NonZeroUsize) {
    let Ok(encoder) = encoder.get_or_init(|| loaded(part)) else {
        // The other side sees `Stopped`: the receiver goes away with the last worker.
        tracing::error!("the embedded model cannot be loaded; semantic matching is off");
        return;
    };
    while let Some(jobs) = next_jobs(queue, batch) {
        run(encoder, jobs);
    }
}

fn loaded(part: &Part) -> Loaded {
    let start = part.start();
    let loaded = Encoder::load();
    match &loaded {
        Ok(_) => start.ready(),
        Err(error) => start.failed(error),
    }
    loaded
}

/// Waits for one job, then takes what stands behind it, up to a full batch. It never waits for company.
fn next_jobs(queue: &Mutex<Receiver<Job>>, batch: NonZeroUsize) -> Option<Vec<Job>> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let mut jobs = vec![queue.recv().ok()?];
    let mut texts = jobs[0].texts.len();
    while texts < batch.get() {
        let Ok(job) = queue.try_recv() else { break };
        texts += job.texts.len();
        jobs.push(job);
    }
    Some(jobs)
}

fn run(encoder: &Encoder, jobs: Vec<Job>) {
    let mut waiting = Vec::with_capacity(jobs.len());
    let mut texts = Vec::new();
    for job in jobs.into_iter().filter(|job| !job.done.is_closed()) {
        // Whoever has no patience limit has dropped the other end already.
        let _ = job.begun.send(());
        waiting.push((job.texts.len(), job.done));
        texts.extend(job.texts);
    }
    match encoder.embed(&texts) {
        Ok(embedded) => {
            let mut embedded = embedded.into_iter();
            for (count, done) in waiting {
                let _ = done.send(Ok(embedded.by_ref().take(count).collect()));
            }
        }
        Err(error) => {
            let message = error.to_string();
            for (_, done) in waiting {
                let _ = done.send(Err(EmbedError::Failed(message.clone().into())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    const BATCH: NonZeroUsize = NonZeroUsize::new(32).unwrap();
    use crate::embedding::{EmbeddingService, EmbeddingSettings};

    fn texts(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("What is {i} times {}?", "seven ".repeat(i % 5))).collect()
    }

    #[test]
    fn the_id_names_the_weights() {
        let digest = Sha256::digest(include_bytes!("../../models/minilm-l6-v2-int8.onnx"));
        let hex = format!("{digest:x}");
        assert_eq!(MODEL_ID, format!("minilm-l6-v2-int8@{}", &hex[..12]));
    }

    #[tokio::test]
    async fn concurrent_calls_get_their_own_vectors_whatever_the_batch() {
        let minilm = MiniLm::start(NonZeroUsize::new(2).unwrap(), 64, BATCH).unwrap();
        let encoder = Encoder::load().unwrap();
        let texts = texts(45);
        let calls = texts.iter().map(|text| minilm.embed(vec![text.clone()], None));
        let (one_by_one, at_once) =
            tokio::join!(futures_util::future::join_all(calls), minilm.embed(texts.clone(), None));
        let at_once = at_once.unwrap();
        assert_eq!(at_once.len(), texts.len());
        for ((text, single), in_list) in texts.iter().zip(one_by_one).zip(at_once) {
            let alone = encoder.embed(std::slice::from_ref(text)).unwrap().remove(0);
            assert!(single.unwrap()[0].embedding.cosine(&alone.embedding).get() > 0.999_99, "{text}");
            assert!(in_list.embedding.cosine(&alone.embedding).get() > 0.999_99, "{text}");
        }
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_at_once() {
        let (minilm, _receiver) = MiniLm::with_queue(1, BATCH);
        let mut waiting = minilm.embed(texts(1), None);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert!(matches!(minilm.embed(texts(1), None).await, Err(EmbedError::Busy)));
    }

    #[tokio::test]
    async fn whoever_has_no_patience_left_goes_on_and_is_skipped() {
        let (minilm, receiver) = MiniLm::with_queue(1, BATCH);
        let service = EmbeddingService::new(
            Arc::new(minilm),
            EmbeddingSettings { patience: Duration::ZERO, ..EmbeddingSettings::default() },
        );
        assert!(matches!(service.embed("hello").await, Err(EmbedError::Busy)));
        assert_eq!((service.counts().busy, service.counts().misses), (1, 1));
        assert!(receiver.recv().unwrap().done.is_closed());
    }

    #[tokio::test]
    async fn an_embedder_without_workers_has_stopped() {
        let (minilm, receiver) = MiniLm::with_queue(1, BATCH);
        drop(receiver);
        assert!(matches!(minilm.embed(texts(1), None).await, Err(EmbedError::Stopped)));
    }

    #[tokio::test]
    async fn the_service_computes_a_text_once() {
        let minilm = MiniLm::start(NonZeroUsize::MIN, 4, BATCH).unwrap();
        let patience = Duration::from_mins(1);
        let service =
            EmbeddingService::new(Arc::new(minilm), EmbeddingSettings { patience, ..EmbeddingSettings::default() });
        let first = service.embed("hello").await.unwrap();
        let again = service.embed_all(vec!["hello".into(), "bye".into()]).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again[0]));
        assert_eq!((service.counts().hits, service.counts().misses), (1, 2));
    }
}
