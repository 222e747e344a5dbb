//! OpenAI's stream: its events read as deltas, or only glanced at while their bytes pass untouched.

mod choices;
mod pattern;

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use memchr::memchr;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use self::choices::Choices;
use self::pattern::Pattern;
use super::sse::SseReader;
use super::{DeltaStream, VerbatimStream};
use crate::message::{Delta, FinishReason, Served, Usage, write_event};
use crate::upstream::{Failure, FailureKind};

const DONE: &[u8] = b"[DONE]";
const DONE_EVENT: &[u8] = b"data: [DONE]\n\n";

/// Turns the bytes of an OpenAI stream into deltas; a stream that ends without its end is a failure.
pub fn deltas(bytes: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static) -> DeltaStream {
    struct State<S> {
        bytes: Pin<Box<S>>,
        reader: SseReader,
        choices: Choices,
        done: bool,
    }
    let state =
        State { bytes: Box::pin(bytes), reader: SseReader::default(), choices: Choices::default(), done: false };
    let groups = futures_util::stream::unfold(state, |mut state| async move {
        if state.done {
            return None;
        }
        let mut group = Vec::new();
        let outcome = match state.bytes.next().await {
            Some(Ok(piece)) => {
                let (choices, done) = (&mut state.choices, &mut state.done);
                state.reader.feed(piece, |data| {
                    if *done {
                        return Ok(());
                    }
                    if data.as_ref() == b"[DONE]" {
                        *done = true;
                        return Ok(());
                    }
                    group.push(Ok(delta(data, choices)?));
                    Ok(())
                })
            }
            Some(Err(failure)) => Err(failure),
            None => {
                state.done = true;
                Ok(())
            }
        };
        if let Err(failure) = outcome {
            state.done = true;
            group.push(Err(failure));
        } else if state.done && !state.choices.are_finished() {
            group.push(Err(cut()));
        }
        Some((futures_util::stream::iter(group), state))
    });
    groups.flatten().boxed()
}

/// Passes the bytes of an OpenAI stream on, whole events at a time, each looked at for the end, an error and garbage.
/// What is already `data:` lines goes on as it came; any other lawful spelling is written anew.
/// The count goes to `served` on the side.
pub fn verbatim(bytes: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static, served: Served) -> VerbatimStream {
    let watch = Watch { served, ..Watch::default() };
    Box::pin(Verbatim { bytes: Box::pin(bytes), reader: SseReader::default(), watch, failed: None, over: false })
}

struct Verbatim<S> {
    bytes: Pin<Box<S>>,
    reader: SseReader,
    watch: Watch,
    /// What is said after the bytes before it have gone out.
    failed: Option<Failure>,
    over: bool,
}

impl<S: Stream<Item = Result<Bytes, Failure>>> Stream for Verbatim<S> {
    type Item = Result<Bytes, Failure>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(failure) = this.failed.take() {
                this.over = true;
                return Poll::Ready(Some(Err(failure)));
            }
            if this.over {
                return Poll::Ready(None);
            }
            let (passed, outcome) = match ready!(this.bytes.as_mut().poll_next(context)) {
                Some(Ok(piece)) => this.watch.pass(&mut this.reader, piece),
                Some(Err(failure)) => (Bytes::new(), Err(failure)),
                None if this.watch.is_finished() => {
                    this.watch.is_done = true;
                    (Bytes::from_static(DONE_EVENT), Ok(()))
                }
                None => (Bytes::new(), Err(cut())),
            };
            match outcome {
                Ok(()) if this.watch.is_done && this.watch.is_finished() => this.over = true,
                Ok(()) if this.watch.is_done => this.failed = Some(cut()),
                Ok(()) => {}
                Err(failure) => this.failed = Some(failure),
            }
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(passed)));
            }
        }
    }
}

fn cut() -> Failure {
    Failure::new(FailureKind::Cut, "the provider's stream ended before its answer did")
}

/// What has been seen of a stream that passes.
#[derive(Debug, Default)]
struct Watch {
    choices: Choices,
    /// The stream said that it is over.
    is_done: bool,
    /// The last event that was read.
    pattern: Option<Pattern>,
    /// Where the count goes.
    served: Served,
}

impl Watch {
    fn is_finished(&self) -> bool {
        self.choices.are_finished()
    }

    /// The bytes of `piece` that may go on, and what was wrong after them.
    fn pass(&mut self, reader: &mut SseReader, piece: Bytes) -> (Bytes, Result<(), Failure>) {
        if reader.is_between_events() && events(&piece).all(|event| event.is_some()) {
            let mut end = 0;
            for data in events(&piece).flatten() {
                match self.look(&piece.slice_ref(data)) {
                    // An end without its reason is a failure, and so not passed on as an end.
                    Ok(()) if self.is_done && !self.is_finished() => return (piece.slice(..end), Ok(())),
                    Ok(()) => end += EVENT_START.len() + data.len() + EVENT_END.len(),
                    Err(failure) => return (piece.slice(..end), Err(failure)),
                }
                if self.is_done {
                    return (piece.slice(..end), Ok(()));
                }
            }
            return (piece, Ok(()));
        }
        let mut out = BytesMut::new();
        let outcome = reader.feed(piece, |data| {
            if self.is_done {
                return Ok(());
            }
            self.look(&data)?;
            if !self.is_done || self.is_finished() {
                write_event(&mut out, &data);
            }
            Ok(())
        });
        (out.freeze(), outcome)
    }

    fn look(&mut self, data: &Bytes) -> Result<(), Failure> {
        if self.pattern.as_ref().is_some_and(|pattern| pattern.fits(data)) {
            return Ok(());
        }
        if data.as_ref() == DONE {
            self.is_done = true;
            return Ok(());
        }
        let glance: Glance<'_> = read(data)?;
        if let Some(error) = glance.error.filter(|error| error.get() != "null") {
            return Err(reported(error));
        }
        if let Some(usage) = counted(glance.usage) {
            self.served.count(usage);
        }
        glance.choices.iter().for_each(|choice| self.choices.see(choice.index, choice.finish_reason.is_some()));
        let goes_on = glance.choices.iter().all(|choice| choice.finish_reason.is_none());
        let texts = glance.choices.iter().filter_map(|choice| choice.delta.as_ref()).flat_map(GlancedDelta::texts);
        let texts = texts.chain(glance.obfuscation).map(RawValue::get).filter(|text| text.starts_with('"'));
        self.pattern = goes_on.then(|| Pattern::of(data.clone(), texts)).flatten();
        Ok(())
    }
}

const EVENT_START: &[u8] = b"data: ";
const EVENT_END: &[u8] = b"\n\n";

/// The data of each event of `piece`, as long as they are single `data: ` lines; `None` for what is anything else.
fn events(mut piece: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if piece.is_empty() {
            return None;
        }
        let event = piece.strip_prefix(EVENT_START).and_then(|rest| {
            let line = &rest[..memchr(b'\n', rest)?];
            let next = rest[line.len()..].strip_prefix(EVENT_END)?;
            // A lone carriage return ends a line too.
            memchr(b'\r', line).is_none().then_some((line, next))
        });
        piece = event.map_or(&[], |(_, next)| next);
        Some(event.map(|(line, _)| line))
    })
}

/// As little of an event as tells whether the stream goes on, and where its texts are.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow, default)]
    choices: Vec<GlancedChoice<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    /// Padding of varying length that OpenAI adds.
    #[serde(borrow)]
    obfuscation: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct GlancedChoice<'a> {
    #[serde(default)]
    index: u32,
    finish_reason: Option<IgnoredAny>,
    #[serde(borrow)]
    delta: Option<GlancedDelta<'a>>,
}

#[derive(Deserialize)]
struct GlancedDelta<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
}

impl<'a> GlancedDelta<'a> {
    fn texts(&self) -> impl Iterator<Item = &'a RawValue> + use<'a> {
        [self.content, self.reasoning_content, self.reasoning].into_iter().flatten()
    }
}

fn read<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Result<T, Failure> {
    let text = std::str::from_utf8(data)
        .map_err(|_| Failure::new(FailureKind::Garbage, "the provider's stream is not valid UTF-8"))?;
    serde_json::from_str(text).map_err(|_| {
        Failure::new(FailureKind::Garbage, "an event of the provider's stream is not the JSON that it should be")
    })
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<ChunkChoice<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ChunkChoice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    delta: Option<ChunkDelta<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Default)]
struct ChunkDelta<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, alias = "reasoning")]
    reasoning_content: Option<Cow<'a, str>>,
}

/// Reads one event of the stream on the side of its bytes; the text is the first choice's.
fn delta(data: Bytes, choices: &mut Choices) -> Result<Delta, Failure> {
    let chunk: Chunk<'_> = read(&data)?;
    if let Some(error) = chunk.error.filter(|error| error.get() != "null") {
        return Err(reported(error));
    }
    let usage = counted(chunk.usage);
    let mut delta = Delta { usage, usage_only: chunk.choices.is_empty() && usage.is_some(), ..Delta::default() };
    chunk.choices.iter().for_each(|choice| choices.see(choice.index, choice.finish_reason.is_some()));
    for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
        let piece = choice.delta.unwrap_or_default();
        delta.text = piece.content.map_or_else(String::new, Cow::into_owned);
        delta.reasoning = piece.reasoning_content.map_or_else(String::new, Cow::into_owned);
        delta.finish_reason = choice.finish_reason.map(|word| FinishReason::parse(&word));
    }
    delta.raw = Some(data);
    Ok(delta)
}

fn counted(usage: Option<&RawValue>) -> Option<Usage> {
    usage.and_then(|raw| serde_json::from_str(raw.get()).ok()).as_ref().and_then(Usage::from_openai)
}

/// Whether nothing of these events would be seen: what a stream begins with, the role and the like.
pub(super) fn are_blank(piece: &[u8]) -> bool {
    events(piece).all(|event| event.is_some_and(is_blank))
}

/// Whether nothing of one event would be seen. Read only until something is.
pub(super) fn is_blank(event: &[u8]) -> bool {
    let Ok(chunk) = serde_json::from_slice::<serde_json::Value>(event) else { return false };
    let says_nothing = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::Null => true,
        serde_json::Value::String(text) => text.is_empty() || name == "role",
        serde_json::Value::Array(items) => items.is_empty(),
        _ => false,
    };
    let choices = chunk.get("choices").and_then(serde_json::Value::as_array);
    choices.into_iter().flatten().all(|choice| {
        let delta = choice.get("delta").and_then(serde_json::Value::as_object);
        choice.get("finish_reason").is_none_or(serde_json::Value::is_null)
            && delta.into_iter().flatten().all(says_nothing)
    })
}

/// An error event inside a stream.
fn reported(error: &RawValue) -> Failure {
    let value: serde_json::Value = serde_json::from_str(error.get()).unwrap_or_default();
    let said = value.get("message").and_then(serde_json::Value::as_str).or(value.as_str());
    let message = said.unwrap_or("the provider reported an error in the middle of its answer").to_owned();
    Failure { error: Some(value), ..Failure::new(FailureKind::Reported, message) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn passed(pieces: Vec<Bytes>) -> (String, Option<FailureKind>) {
        let mut stream = verbatim(futures_util::stream::iter(pieces.into_iter().map(Ok)), Served::default());
        let (mut text, mut failure) = (Vec::new(), None);
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(bytes) => text.extend_from_slice(&bytes),
                Err(found) => failure = Some(found.kind),
            }
        }
        (String::from_utf8(text).unwrap(), failure)
    }

    fn chunk(text: &str, finish_reason: &str) -> String {
        format!(r#"{{"choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":{finish_reason}}}]}}"#)
    }

    fn event(json: &str) -> String {
        format!("data: {json}\n\n")
    }

    #[tokio::test]
    async fn data_lines_pass_without_a_copy() {
        let whole = Bytes::from(
            [chunk("\"a\"", "null"), chunk("\"b\"", "null"), chunk("\"\"", "\"stop\""), "[DONE]".to_owned()]
                .map(|json| event(&json))
                .concat(),
        );
        let mut stream = verbatim(futures_util::stream::iter([Ok(whole.clone())]), Served::default());
        let first = stream.next().await.unwrap().unwrap();
        assert_eq!((first.as_ptr(), first.len()), (whole.as_ptr(), whole.len()));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn an_end_is_added_where_only_the_word_is_missing() {
        let whole = [chunk("\"a\"", "null"), chunk("\"\"", "\"stop\"")].map(|json| event(&json)).concat();
        assert_eq!(passed(vec![Bytes::from(whole.clone())]).await, (format!("{whole}data: [DONE]\n\n"), None));
    }

    #[tokio::test]
    async fn what_came_before_a_fault_is_passed_on() {
        let good = event(&chunk("\"a\"", "null"));
        for (bad, kind) in [
            (event("{\"error\":{\"message\":\"boom\"}}"), FailureKind::Reported),
            (event("{\"choices\":"), FailureKind::Garbage),
            (event(&chunk("\"a", "null")), FailureKind::Garbage),
            (event("[DONE]"), FailureKind::Cut),
            (String::new(), FailureKind::Cut),
        ] {
            let whole = Bytes::from(format!("{good}{good}{bad}"));
            assert_eq!(passed(vec![whole]).await, (format!("{good}{good}"), Some(kind)), "{bad}");
        }
    }

    /// Of several choices each must say why it ended.
    #[tokio::test]
    async fn one_choice_of_several_that_is_cut_is_a_cut_answer() {
        let piece = |index: u32, finish_reason: &str| {
            event(&format!(
                r#"{{"choices":[{{"index":{index},"delta":{{"content":"a"}},"finish_reason":{finish_reason}}}]}}"#
            ))
        };
        let begun = [piece(0, "null"), piece(1, "null"), piece(0, "\"stop\"")].concat();
        for end in [String::new(), event("[DONE]")] {
            let cut = Bytes::from(format!("{begun}{end}"));
            assert_eq!(passed(vec![cut.clone()]).await, (begun.clone(), Some(FailureKind::Cut)), "{end:?}");
            let read: Vec<_> = deltas(futures_util::stream::iter([Ok(cut)])).collect().await;
            assert_eq!(read.last().unwrap().as_ref().unwrap_err().kind, FailureKind::Cut, "{end:?}");
            let whole = Bytes::from(format!("{begun}{}{end}", piece(1, "\"length\"")));
            assert_eq!(passed(vec![whole.clone()]).await.1, None, "{end:?}");
            assert!(deltas(futures_util::stream::iter([Ok(whole)])).all(async |read| read.is_ok()).await, "{end:?}");
        }
    }

    proptest! {
        /// However the bytes are cut and spelt, the same events go out.
        #[test]
        fn the_cut_does_not_matter(
            texts in proptest::collection::vec(".{0,8}", 0..6),
            cuts in proptest::collection::vec(0usize..400, 0..6),
            line_end in prop_oneof![Just("\n"), Just("\r\n")],
        ) {
            let mut events: Vec<String> =
                texts.iter().map(|text| chunk(&serde_json::Value::from(text.as_str()).to_string(), "null")).collect();
            events.extend([chunk("\"\"", "\"stop\""), "[DONE]".to_owned()]);
            let sent: Vec<String> = events.iter().map(|json| format!("data: {json}{line_end}{line_end}")).collect();
            let sent = sent.concat();
            let wanted = events.iter().map(|json| event(json)).collect::<Vec<_>>().concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % sent.len()).collect();
            cuts.extend([0, sent.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|ends| Bytes::copy_from_slice(&sent.as_bytes()[ends[0]..ends[1]])).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(passed(pieces)), (wanted, None));
        }

        #[test]
        fn never_panics_on_arbitrary_bytes(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
            let _ = runtime.block_on(async {
                verbatim(futures_util::stream::iter(pieces.into_iter().map(Ok)), Served::default()).collect::<Vec<_>>().await
            });
        }
    }

    #[test]
    fn an_error_event_is_a_failure_with_the_providers_words() {
        let event = Bytes::from_static(br#"{"error":{"message":"boom","code":"x"}}"#);
        let failure = delta(event, &mut Choices::default()).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Reported, "boom"));
    }
}
