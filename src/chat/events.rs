//! One answer as a sequence of events, wherever it comes from: a cached entry, a flight, or an upstream call of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::{Source, Veiled};
use crate::cache::flight::{self, Ending, Listener};
use crate::cache::{Hit, Replay};
use crate::message::{Assembler, Choice, Completion, Delta, FinishReason, Usage};
use crate::providers::{self, DeltaStream, Reply};
use crate::upstream::{Failure, FailureKind};

/// Between two words of a paced replay.
const PACE: Duration = Duration::from_millis(15);

/// What happens next.
#[derive(Debug, Clone)]
pub enum Event {
    /// A piece of the answer.
    Delta(Arc<Delta>),
    /// All of it has come; nothing follows.
    End {
        /// Why the model stopped.
        finish_reason: Option<FinishReason>,
        /// Tokens, where counted.
        usage: Option<Usage>,
        /// Whether it was put into the cache.
        stored: bool,
    },
    /// It failed; nothing follows.
    Failed(Failure),
}

/// The sequence. Dropping it is leaving the answer.
pub struct Events {
    state: State,
}

enum State {
    Ready(VecDeque<Event>),
    Paced { words: VecDeque<Event>, gap: Duration, due: Instant },
    Flight(Listener),
    Stream { deltas: DeltaStream, finish_reason: Option<FinishReason>, usage: Option<Usage> },
    Over,
}

impl Source {
    /// The answer's events; `replay` says how a cached one is given.
    pub fn into_events(self, replay: Replay) -> Events {
        let state = match self {
            Self::Cached(hit) => cached(&hit, replay),
            Self::Veiled(Veiled { hit, takes, stored }) => veiled(&hit.entry.completion, takes, stored),
            Self::Flight(listener) => State::Flight(listener),
            Self::Direct(Reply::Stream(deltas)) => State::of(deltas),
            Self::Direct(Reply::Verbatim(events)) => State::of(providers::deltas(events)),
            Self::Direct(Reply::Completed(completion)) => State::Ready(whole(&Arc::new(*completion))),
            Self::Direct(Reply::Whole(bytes)) => State::Ready(match Completion::from_openai(&bytes) {
                Ok(completion) => whole(&Arc::new(completion)),
                Err(_) => [Event::Failed(Failure::new(
                    FailureKind::Garbage,
                    "the provider's answer is not the JSON that it should be",
                ))]
                .into(),
            }),
        };
        Events { state }
    }
}

/// A whole answer.
pub enum Whole {
    /// An OpenAI-shaped JSON object, as the provider sent it.
    Raw(Bytes),
    /// An answer of another form.
    Completion(Arc<Completion>),
    /// A cached one.
    Cached(Hit),
}

impl Source {
    /// Waits for the whole answer.
    ///
    /// # Errors
    /// The provider's [`Failure`].
    pub async fn into_whole(self) -> Result<Whole, Failure> {
        match self {
            Self::Cached(hit) => Ok(Whole::Cached(hit)),
            Self::Veiled(veiled) => {
                tokio::time::sleep(veiled.takes).await;
                Ok(Whole::Completion(Arc::clone(&veiled.hit.entry.completion)))
            }
            Self::Direct(Reply::Whole(bytes)) => Ok(Whole::Raw(bytes)),
            Self::Direct(Reply::Completed(completion)) => Ok(Whole::Completion(Arc::new(*completion))),
            Self::Direct(Reply::Stream(deltas)) => assembled(deltas).await,
            Self::Direct(Reply::Verbatim(events)) => assembled(providers::deltas(events)).await,
            Self::Flight(mut listener) => loop {
                match listener.next().await {
                    flight::Event::Delta(_) => {}
                    flight::Event::End(Ending::Failed(failure)) => return Err(failure),
                    flight::Event::End(Ending::Complete { raw: Some(raw), .. }) => return Ok(Whole::Raw(raw)),
                    flight::Event::End(Ending::Complete { completion, .. }) => {
                        return Ok(Whole::Completion(completion));
                    }
                }
            },
        }
    }
}

async fn assembled(mut deltas: DeltaStream) -> Result<Whole, Failure> {
    let mut assembler = Assembler::new("");
    while let Some(delta) = deltas.next().await {
        assembler.push(&delta?);
    }
    Ok(Whole::Completion(Arc::new(assembler.finish())))
}

impl State {
    fn of(deltas: DeltaStream) -> Self {
        Self::Stream { deltas, finish_reason: None, usage: None }
    }
}

impl Events {
    /// The next event; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        let event = match &mut self.state {
            State::Over => return None,
            State::Ready(events) => events.pop_front()?,
            State::Paced { words, gap, due } => {
                // The time stands in the state: a caller who gives up and asks again waits for the rest only.
                tokio::time::sleep_until(*due).await;
                *due += *gap;
                words.pop_front()?
            }
            State::Flight(listener) => match listener.next().await {
                flight::Event::Delta(delta) => Event::Delta(delta),
                flight::Event::End(Ending::Failed(failure)) => Event::Failed(failure),
                flight::Event::End(Ending::Complete { completion, stored, .. }) => {
                    Event::End { finish_reason: completion.finish_reason().cloned(), usage: completion.usage, stored }
                }
            },
            State::Stream { deltas, finish_reason, usage } => match deltas.next().await {
                Some(Ok(delta)) => {
                    *usage = delta.usage.or(*usage);
                    if delta.finish_reason.is_some() {
                        finish_reason.clone_from(&delta.finish_reason);
                    }
                    Event::Delta(Arc::new(delta))
                }
                Some(Err(failure)) => Event::Failed(failure),
                None => Event::End { finish_reason: finish_reason.take(), usage: *usage, stored: false },
            },
        };
        if !matches!(event, Event::Delta(_)) {
            self.state = State::Over;
        }
        Some(event)
    }

    /// The next event if it is there already, so that what is ready together goes out together.
    pub fn take_ready(&mut self) -> Option<Event> {
        if matches!(self.state, State::Paced { .. }) {
            return None;
        }
        self.next().now_or_never().flatten()
    }
}

fn cached(hit: &Hit, replay: Replay) -> State {
    let completion = &hit.entry.completion;
    // A hit costs nothing: what it saved stands beside it.
    let end =
        Event::End { finish_reason: completion.finish_reason().cloned(), usage: Some(Usage::default()), stored: false };
    if replay == Replay::Paced && is_wordy(completion) {
        return State::Paced { words: words(completion, end), gap: PACE, due: Instant::now() };
    }
    State::Ready([Event::Delta(Arc::new(completion.as_delta())), end].into())
}

/// As a new answer comes: its tokens counted, its words spread over the time that it `takes`.
fn veiled(completion: &Arc<Completion>, takes: Duration, stored: bool) -> State {
    let end = Event::End { finish_reason: completion.finish_reason().cloned(), usage: completion.usage, stored };
    if takes.is_zero() {
        return State::Ready([Event::Delta(Arc::new(completion.as_delta())), end].into());
    }
    let words = if is_wordy(completion) {
        words(completion, end)
    } else {
        [Event::Delta(Arc::new(completion.as_delta())), end].into()
    };
    let gap = takes / u32::try_from(words.len()).unwrap_or(u32::MAX);
    State::Paced { words, gap, due: Instant::now() + gap }
}

/// Only plain text can be replayed word by word.
fn is_wordy(completion: &Completion) -> bool {
    let is_plain = |choice: &Choice| {
        choice.message.keys().all(|name| matches!(name.as_str(), "role" | "content" | "reasoning_content"))
    };
    completion.choices.len() == 1 && completion.choices.iter().all(is_plain) && !completion.text().is_empty()
}

fn words(completion: &Completion, end: Event) -> VecDeque<Event> {
    let mut words: VecDeque<Event> = completion
        .text()
        .split_inclusive(' ')
        .map(|word| Event::Delta(Arc::new(Delta { text: word.to_owned(), ..Delta::default() })))
        .collect();
    let last = Delta {
        reasoning: completion.reasoning().to_owned(),
        finish_reason: completion.finish_reason().cloned(),
        ..Delta::default()
    };
    words.push_back(Event::Delta(Arc::new(last)));
    words.push_back(end);
    words
}

fn whole(completion: &Arc<Completion>) -> VecDeque<Event> {
    let end = Event::End { finish_reason: completion.finish_reason().cloned(), usage: completion.usage, stored: false };
    [Event::Delta(Arc::new(completion.as_delta())), end].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_paced_answer_ends_however_often_its_reader_looks_elsewhere() {
        let completion = Arc::new(Completion::of_text("m", "Paris.", None));
        let begun = Instant::now();
        let mut events = Events { state: veiled(&completion, Duration::from_millis(300), true) };
        let (mut deltas, mut ended) = (0, false);
        while !ended {
            match tokio::time::timeout(Duration::from_millis(10), events.next()).await {
                Ok(Some(Event::Delta(_))) => deltas += 1,
                Ok(event) => ended = matches!(event, Some(Event::End { .. })),
                Err(_) => assert!(begun.elapsed() < Duration::from_mins(1), "it never ends"),
            }
        }
        assert_eq!(deltas, 2);
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
}
