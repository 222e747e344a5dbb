//! The background writer: puts answers into L2, embeds what was not embedded at its look-up, puts it into the index and
//! stores it, in groups.
//! Its queue is bounded; a full one drops the write, which costs a later miss and nothing else.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::entry::Entry;
use super::{Inner, postgres, sqlite};
use crate::db::query;

/// Most entries in one group.
const GROUP: usize = 64;

pub(super) enum Job {
    Store {
        entry: Arc<Entry>,
        embed: bool,
    },
    /// Into L2 alone: the store has it.
    Share {
        entry: Arc<Entry>,
        generation: u64,
    },
    Flush(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

#[derive(Debug, Clone)]
pub(super) struct Writes {
    jobs: mpsc::Sender<Job>,
}

impl Writes {
    pub(super) fn new(queue: usize) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, receiver) = mpsc::channel(queue);
        (Self { jobs }, receiver)
    }

    /// False when the queue is full.
    pub(super) fn push(&self, entry: Arc<Entry>, embed: bool) -> bool {
        self.jobs.try_send(Job::Store { entry, embed }).is_ok()
    }

    /// A full queue drops it: the next one who finds it in the store tries again.
    pub(super) fn share(&self, entry: Arc<Entry>, generation: u64) {
        let _ = self.jobs.try_send(Job::Share { entry, generation });
    }

    pub(super) async fn flush(&self) {
        self.wait(Job::Flush).await;
    }

    pub(super) async fn close(&self) {
        self.wait(Job::Close).await;
    }

    async fn wait(&self, job: impl FnOnce(oneshot::Sender<()>) -> Job) {
        let (sender, receiver) = oneshot::channel();
        if self.jobs.send(job(sender)).await.is_ok() {
            // An answer that does not come means that the writer has ended: nothing is queued then.
            let _ = receiver.await;
        }
    }
}

pub(super) async fn run(inner: Arc<Inner>, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut jobs, GROUP).await > 0 {
        let (mut entries, mut shared, mut waiting, mut closing) = (Vec::new(), Vec::new(), Vec::new(), false);
        for job in jobs.drain(..) {
            match job {
                Job::Store { entry, embed } => {
                    shared.extend(entry.generation.map(|generation| (Arc::clone(&entry), generation)));
                    entries.push((entry, embed));
                }
                Job::Share { entry, generation } => shared.push((entry, generation)),
                Job::Flush(sender) => waiting.push(sender),
                Job::Close(sender) => {
                    closing = true;
                    waiting.push(sender);
                }
            }
        }
        share(&inner, &shared).await;
        store(&inner, entries).await;
        for sender in waiting {
            let _ = sender.send(());
        }
        if closing {
            queue.close();
        }
    }
}

async fn share(inner: &Inner, entries: &[(Arc<Entry>, u64)]) {
    let Some(shared) = &inner.shared else { return };
    if let Err(error) = shared.insert(entries, inner.clock.now_ms()).await {
        inner.metrics.cache_errors.with_label_values(&["l2"]).inc();
        tracing::debug!(%error, "entries could not be put into Redis");
    }
}

async fn store(inner: &Inner, entries: Vec<(Arc<Entry>, bool)>) {
    let unembedded = |(entry, embed): &&(Arc<Entry>, bool)| *embed && entry.matching.get().is_none();
    let waiting: Vec<&Arc<Entry>> = entries.iter().filter(unembedded).map(|(entry, _)| entry).collect();
    let texts: Vec<String> = waiting.iter().map(|entry| entry.prompt.clone()).collect();
    if !texts.is_empty() {
        match inner.embeddings.embed_all(texts).await {
            Ok(embedded) => {
                waiting.iter().zip(embedded).for_each(|(entry, embedded)| inner.embed_entry(entry, &embedded));
            }
            Err(error) => tracing::warn!(%error, "entries are stored without vectors: they match by their text only"),
        }
    }
    let entries: Vec<_> = entries.into_iter().map(|(entry, _)| entry).collect();
    if entries.is_empty() {
        return;
    }
    let begun = Instant::now();
    let stored = query!(&inner.db, insert(&inner.known, entries));
    inner.metrics.stages.store_entries.record(begun.elapsed());
    if let Err(error) = stored {
        inner.metrics.cache_errors.with_label_values(&["l3"]).inc();
        tracing::warn!(%error, "entries could not be stored: they live in memory only");
    }
}
