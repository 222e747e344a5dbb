//! One answer's log: its text held once for all listeners, the place of each numbered delta in it, and its end. A
//! listener is a cursor; what it missed comes as one joined piece, so that a slow one costs nothing.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::afterlife::Share;
use super::ending::{Terminal, stored_terminal};
use super::redis::Said;
use super::subscription::Subscription;
use crate::conversations::{BegunTurn, Progress, StoredMessage};

/// Bytes of text in one piece that joins several deltas; a delta that is larger comes alone.
pub const PIECE_BYTES: usize = 32 * 1024;

/// What a listener gets next.
#[derive(Debug, Clone)]
pub enum Piece {
    /// Where the answer comes from; before its first delta.
    Origin(Value),
    /// The answer was begun again by another provider, under a new epoch: what came before is void.
    Restart(Value),
    /// The whole text up to number `seq`, under a new epoch: what came before is void.
    Snapshot {
        /// The last number in it.
        seq: u64,
        /// The text.
        text: String,
        /// The reasoning text.
        reasoning: String,
    },
    /// The deltas `from..=seq`, joined.
    Delta {
        /// The first number.
        from: u64,
        /// The last number.
        seq: u64,
        /// Their text.
        text: String,
        /// Their reasoning text.
        reasoning: String,
    },
    /// The end, after number `seq`; nothing follows.
    End {
        /// The last number given.
        seq: u64,
        /// How it ended.
        terminal: Terminal,
    },
}

/// What became of a piece that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The log has grown by it.
    New,
    /// It was here already, or is void.
    Old,
    /// There is a hole before it.
    Apart,
    /// It is of a later epoch.
    Ahead,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    /// How often the answer was begun again.
    pub(super) restarts: u32,
    text: String,
    reasoning: String,
    /// Where delta `n` ends in both texts, at `n - 1`.
    ends: Vec<(usize, usize)>,
    /// Numbers that came joined: where each of them ends is not known.
    joined: Vec<Range<u64>>,
    origin: Option<Value>,
    terminal: Option<Terminal>,
    /// It goes on elsewhere: nothing more comes here.
    pub(super) is_over: bool,
}

/// One answer in memory.
#[derive(Debug)]
pub struct LiveStream {
    /// Whose.
    pub tenant: String,
    /// Its conversation, messages and identifier.
    pub begun: BegunTurn,
    pub(super) cancel: CancellationToken,
    /// Cancelled when it was seen to be another instance's.
    pub(super) lost: CancellationToken,
    log: Mutex<Log>,
    pub(super) grown: watch::Sender<()>,
    /// What it takes among the ended ones, once it is one.
    pub(super) share: OnceLock<Share>,
}

impl LiveStream {
    pub(super) fn new(tenant: String, begun: BegunTurn) -> Arc<Self> {
        Self::with(tenant, begun, Log::default())
    }

    /// As far as it was saved.
    pub(super) fn stored(tenant: String, message: &StoredMessage) -> Arc<Self> {
        let begun = BegunTurn {
            conversation: message.conversation,
            message: message.parent.unwrap_or_default(),
            reply: message.id,
            stream: message.stream.unwrap_or_default(),
            duplicate: false,
        };
        Self::with(tenant, begun, Log::of(message))
    }

    fn with(tenant: String, begun: BegunTurn, log: Log) -> Arc<Self> {
        Arc::new(Self {
            tenant,
            begun,
            cancel: CancellationToken::new(),
            lost: CancellationToken::new(),
            log: Mutex::new(log),
            grown: watch::Sender::new(()),
            share: OnceLock::new(),
        })
    }

    pub(super) fn subscribe(self: &Arc<Self>, after: u64) -> Subscription {
        let (grown, restarts) = (self.grown.subscribe(), self.locked(|log| log.restarts));
        Subscription::new(Arc::clone(self), grown, restarts, after)
    }

    pub(super) fn set_origin(&self, origin: Value) {
        self.change(|log| log.origin = Some(origin));
    }

    /// Begins the answer again: what was said is void, and numbers start at 1 in the next epoch.
    pub(super) fn restart(&self, origin: Value) {
        self.change(|log| {
            *log = Log {
                restarts: log.restarts + 1,
                origin: Some(origin),
                terminal: log.terminal.take(),
                ..Log::default()
            };
        });
    }

    /// Grows by one when the answer is begun again.
    pub fn epoch(&self) -> u32 {
        self.locked(|log| log.restarts + 1)
    }

    /// Adds the next delta; one without text takes no number.
    pub(super) fn push(&self, text: &str, reasoning: &str) {
        if text.is_empty() && reasoning.is_empty() {
            return;
        }
        self.change(|log| {
            log.text.push_str(text);
            log.reasoning.push_str(reasoning);
            log.ends.push((log.text.len(), log.reasoning.len()));
        });
    }

    /// Brings it to what the store holds, which another instance wrote there. Whether it has grown by that.
    pub(super) fn agree(&self, message: &StoredMessage) -> bool {
        let grown = self.locked(|log| log.agree(message));
        self.grown.send_replace(());
        grown
    }

    /// Adds what its owner says elsewhere.
    pub(super) fn hear(&self, said: &Said) -> Heard {
        let heard = self.locked(|log| log.hear(said));
        if heard == Heard::New {
            self.grown.send_replace(());
        }
        heard
    }

    /// Whether a listener can go on from behind `number`.
    pub fn knows(&self, number: u64) -> bool {
        self.locked(|log| number <= log.ends.len() as u64 && !log.joined.iter().any(|joined| joined.contains(&number)))
    }

    /// Lets its listeners go without an end: it goes on elsewhere.
    pub(super) fn leave(&self) {
        self.change(|log| log.is_over = true);
    }

    /// The same where its end has not been said.
    pub(super) fn leave_unless_ended(&self) {
        self.change(|log| log.is_over |= log.terminal.is_none());
    }

    /// Whether nothing more is made here.
    pub(super) fn is_done(&self) -> bool {
        self.lost.is_cancelled() || self.locked(|log| log.terminal.is_some() || log.is_over)
    }

    /// Whether it has said its end.
    pub(super) fn has_ended(&self) -> bool {
        self.locked(|log| log.terminal.is_some())
    }

    /// Counts among the ended ones from now on.
    pub(super) fn enter(&self, share: Share) {
        // It ends once.
        let _ = self.share.set(share);
    }

    /// Bytes of memory that its text and numbers take.
    pub(super) fn held_bytes(&self) -> usize {
        self.locked(|log| log.text.len() + log.reasoning.len() + size_of_val(log.ends.as_slice()))
    }

    pub(super) fn end(&self, terminal: Terminal) {
        self.change(|log| {
            log.terminal.get_or_insert(terminal);
        });
    }

    /// How far it has come.
    pub(super) fn progress(&self) -> Progress {
        self.locked(|log| Progress {
            content: log.text.clone(),
            reasoning: log.reasoning.clone(),
            seq: log.ends.len() as u64,
            epoch: log.restarts + 1,
        })
    }

    /// The whole text and reasoning so far, and a listener from there on.
    pub fn snapshot(self: &Arc<Self>) -> (String, String, Subscription) {
        let grown = self.grown.subscribe();
        let (text, reasoning, restarts, seen) =
            self.locked(|log| (log.text.clone(), log.reasoning.clone(), log.restarts, log.ends.len() as u64));
        let listener = Subscription::new(Arc::clone(self), grown, restarts, seen);
        (text, reasoning, listener)
    }

    /// The last number given so far.
    pub fn seq(&self) -> u64 {
        self.locked(|log| log.ends.len() as u64)
    }

    /// Bytes of both texts so far.
    pub(super) fn len(&self) -> usize {
        self.locked(|log| log.text.len() + log.reasoning.len())
    }

    /// How many listen.
    pub(super) fn listeners(&self) -> usize {
        self.grown.receiver_count()
    }

    fn change(&self, change: impl FnOnce(&mut Log)) {
        self.locked(change);
        self.grown.send_replace(());
    }

    pub(super) fn locked<T>(&self, work: impl FnOnce(&mut Log) -> T) -> T {
        work(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Log {
    /// As far as it was saved.
    fn of(message: &StoredMessage) -> Self {
        let mut log = Self { restarts: message.epoch.saturating_sub(1), ..Self::default() };
        log.join(message.seq, &message.content, &message.reasoning);
        log
    }

    /// Adds the deltas up to `seq`, of which it is not known where each ends: the first of them has it all.
    fn join(&mut self, seq: u64, text: &str, reasoning: &str) {
        let first = self.ends.len() as u64 + 1;
        if seq < first {
            return;
        }
        self.text.push_str(text);
        self.reasoning.push_str(reasoning);
        self.ends.resize(seq as usize, (self.text.len(), self.reasoning.len()));
        if first < seq {
            self.joined.push(first..seq);
        }
    }

    /// Within an epoch a text only grows; a new one replaces it.
    fn agree(&mut self, message: &StoredMessage) -> bool {
        let restarts = message.epoch.saturating_sub(1);
        if restarts < self.restarts {
            return false;
        }
        let before = (self.restarts, self.ends.len());
        let known = (message.content.strip_prefix(&self.text), message.reasoning.strip_prefix(&self.reasoning));
        match known {
            (Some(text), Some(reasoning)) if restarts == self.restarts => self.join(message.seq, text, reasoning),
            _ if restarts > self.restarts => *self = Self::of(message),
            // What is here came faster than it was saved.
            _ => {}
        }
        if self.terminal.is_none() && self.ends.len() as u64 == message.seq {
            self.terminal = stored_terminal(message);
        }
        before != (self.restarts, self.ends.len())
    }

    /// Adds a piece, or the part of it that is not here yet.
    fn hear(&mut self, said: &Said) -> Heard {
        match said.epoch.saturating_sub(1).cmp(&self.restarts) {
            Ordering::Less => return Heard::Old,
            Ordering::Greater => return Heard::Ahead,
            Ordering::Equal if said.seq <= self.ends.len() as u64 => return Heard::Old,
            Ordering::Equal => {}
        }
        let rest = |here: usize, at: usize, text: &str| {
            here.checked_sub(at).and_then(|known| text.get(known..).map(str::to_owned))
        };
        let text = rest(self.text.len(), said.text_at, &said.text);
        let reasoning = rest(self.reasoning.len(), said.reasoning_at, &said.reasoning);
        let (Some(text), Some(reasoning)) = (text, reasoning) else { return Heard::Apart };
        self.join(said.seq, &text, &reasoning);
        Heard::New
    }

    /// Whether [`Log::next`] would give anything.
    pub(super) fn has_next(&self, restarts: u32, seen: u64, origin_seen: bool, credit: u64) -> bool {
        let has_deltas = seen < self.ends.len() as u64;
        let is_news = restarts != self.restarts || (self.origin.is_some() && !origin_seen);
        is_news || self.is_over || if has_deltas { credit > 0 } else { self.terminal.is_some() }
    }

    pub(super) fn next(&self, restarts: u32, seen: u64, origin_seen: bool, credit: u64) -> Option<Piece> {
        if self.is_over {
            return None;
        }
        if restarts != self.restarts {
            return Some(self.renewed());
        }
        self.piece(seen, origin_seen, credit)
    }

    /// A new epoch: by the one who makes it here with where it comes from, else with what it has come to.
    fn renewed(&self) -> Piece {
        if let Some(origin) = &self.origin {
            return Piece::Restart(origin.clone());
        }
        let (text, reasoning) = (self.text.clone(), self.reasoning.clone());
        Piece::Snapshot { seq: self.ends.len() as u64, text, reasoning }
    }

    fn piece(&self, seen: u64, origin_seen: bool, credit: u64) -> Option<Piece> {
        if let (Some(origin), false) = (&self.origin, origin_seen) {
            return Some(Piece::Origin(origin.clone()));
        }
        let last = self.ends.len() as u64;
        if seen < last {
            let seq = last.min(seen.saturating_add(credit));
            return (credit > 0).then(|| self.joined(seen, self.within_piece(seen, seq)));
        }
        self.terminal.clone().map(|terminal| Piece::End { seq: last, terminal })
    }

    /// Where the bytes of deltas `n` and before end in both texts.
    fn end_of(&self, number: u64) -> (usize, usize) {
        if number == 0 { (0, 0) } else { self.ends[number as usize - 1] }
    }

    /// The last number up to `seq` that a piece from behind `seen` has room for, and one at least.
    fn within_piece(&self, seen: u64, seq: u64) -> u64 {
        let (text, reasoning) = self.end_of(seen);
        let fits = |&(text_to, reasoning_to): &(usize, usize)| text_to + reasoning_to - text - reasoning <= PIECE_BYTES;
        let many = self.ends[seen as usize..seq as usize].partition_point(fits) as u64;
        seen + many.max(1)
    }

    fn joined(&self, seen: u64, seq: u64) -> Piece {
        let ((text_from, reasoning_from), (text_to, reasoning_to)) = (self.end_of(seen), self.end_of(seq));
        Piece::Delta {
            from: seen + 1,
            seq,
            text: self.text[text_from..text_to].to_owned(),
            reasoning: self.reasoning[reasoning_from..reasoning_to].to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::new_id;
    use crate::conversations::MessageState;

    fn live() -> Arc<LiveStream> {
        let begun = BegunTurn {
            conversation: new_id(),
            message: new_id(),
            reply: new_id(),
            stream: new_id(),
            duplicate: false,
        };
        LiveStream::new("t".to_owned(), begun)
    }

    fn cancelled() -> Terminal {
        Terminal::Cancelled { text_blake3: String::new() }
    }

    proptest! {
        /// Whatever the reading pace, credit and place of return: every number once, in order, the text whole.
        #[test]
        fn numbers_have_no_holes_and_no_doubles(texts in proptest::collection::vec("[a-zé]{1,3}", 1..30), credits in proptest::collection::vec(1u64..4, 40), after in 0usize..30) {
            let stream = live();
            let after = after.min(texts.len());
            let mut subscription = stream.subscribe(after as u64);
            let mut seen = String::new();
            let mut expected_from = after as u64 + 1;
            let mut credits = credits.into_iter().cycle();
            for text in &texts {
                stream.push(text, "");
                if let Some(Piece::Delta { from, seq, text, .. }) = subscription.take(credits.next().unwrap()) {
                    prop_assert_eq!(from, expected_from);
                    expected_from = seq + 1;
                    seen.push_str(&text);
                }
            }
            stream.end(cancelled());
            while let Some(Piece::Delta { from, seq, text, .. }) = subscription.take(u64::MAX) {
                prop_assert_eq!(from, expected_from);
                expected_from = seq + 1;
                seen.push_str(&text);
            }
            prop_assert_eq!(seen, texts[after..].concat());
            prop_assert_eq!(expected_from, texts.len() as u64 + 1);
            prop_assert!(subscription.take(u64::MAX).is_none());
        }
    }

    #[test]
    fn a_piece_is_bounded_and_holds_one_delta_at_least() {
        let stream = live();
        for bytes in [PIECE_BYTES / 2, PIECE_BYTES / 2, 1, 3 * PIECE_BYTES, 1] {
            stream.push(&"a".repeat(bytes - bytes / 4), &"b".repeat(bytes / 4));
        }
        let mut subscription = stream.subscribe(0);
        let ends = std::iter::from_fn(|| match subscription.take(u64::MAX) {
            Some(Piece::Delta { from, seq, text, reasoning }) => Some((from, seq, text.len() + reasoning.len())),
            _ => None,
        });
        let expected = [(1, 2, PIECE_BYTES), (3, 3, 1), (4, 4, 3 * PIECE_BYTES), (5, 5, 1)];
        assert_eq!(ends.collect::<Vec<_>>(), expected);
    }

    /// Wherever a listener is when an answer is begun again: it is told, and then has the new text whole, from number 1.
    #[tokio::test]
    async fn an_answer_begun_again_is_told_and_replaces_the_old_one() {
        for read_before in 0..3_u64 {
            let stream = live();
            let mut subscription = stream.subscribe(0);
            stream.push("old ", "");
            stream.push("text", "");
            if read_before > 0 {
                assert!(matches!(subscription.next(read_before).await, Some(Piece::Delta { .. })));
            }
            stream.restart(Value::Bool(true));
            stream.push("new", "");
            stream.end(cancelled());
            assert!(
                matches!(subscription.next(0).await, Some(Piece::Restart(Value::Bool(true)))),
                "without credit, too"
            );
            assert_eq!(subscription.epoch(), 2);
            let Some(Piece::Delta { from: 1, seq: 1, text, .. }) = subscription.next(9).await else {
                panic!("a delta")
            };
            assert_eq!((text.as_str(), subscription.taken()), ("new", read_before + 1));
            assert!(matches!(subscription.next(0).await, Some(Piece::End { seq: 1, .. })));
        }
    }

    fn said(epoch: u32, seq: u64, text_at: usize, text: &str) -> Said {
        Said { epoch, seq, text_at, reasoning_at: 0, text: text.to_owned(), reasoning: String::new(), is_end: false }
    }

    /// Whatever is said twice, too late or after a hole: the text grows by what is missing, and by nothing else.
    #[tokio::test]
    async fn what_is_heard_is_taken_once_and_in_order() {
        let stream = live();
        let mut subscription = stream.subscribe(0);
        assert_eq!(stream.hear(&said(1, 3, 0, "abc")), Heard::New);
        assert_eq!(stream.hear(&said(1, 2, 0, "ab")), Heard::Old);
        assert_eq!(stream.hear(&said(1, 9, 5, "fgh")), Heard::Apart);
        assert_eq!(stream.hear(&said(2, 1, 0, "x")), Heard::Ahead);
        assert_eq!(stream.hear(&said(1, 5, 1, "bcde")), Heard::New, "of an overlap the rest");
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6].map(|number| stream.knows(number)),
            [true, false, false, true, false, true, false]
        );
        let Some(Piece::Delta { from: 1, seq: 5, text, .. }) = subscription.next(9).await else { panic!("a delta") };
        assert_eq!(text, "abcde");
    }

    /// Credit for less than what came joined is held to all the same, and no text is lost.
    #[tokio::test]
    async fn joined_deltas_are_counted_one_by_one() {
        let stream = live();
        let mut subscription = stream.subscribe(0);
        stream.hear(&said(1, 3, 0, "abc"));
        let mut text = String::new();
        for number in 1..=3 {
            let Some(Piece::Delta { from, seq, text: part, .. }) = subscription.next(1).await else {
                panic!("a delta")
            };
            assert_eq!((from, seq), (number, number));
            text.push_str(&part);
        }
        assert_eq!(text, "abc");
    }

    #[tokio::test]
    async fn a_new_owners_epoch_begins_with_a_snapshot() {
        let stream = live();
        let mut subscription = stream.subscribe(0);
        stream.push("all that ", "");
        stream.push("was said", "");
        assert!(matches!(subscription.next(9).await, Some(Piece::Delta { seq: 2, .. })));
        let saved = |state, epoch, seq, content: &str| StoredMessage {
            id: stream.begun.reply,
            conversation: stream.begun.conversation,
            parent: None,
            role: String::new(),
            content: content.to_owned(),
            reasoning: String::new(),
            state,
            model: None,
            created_at: String::new(),
            finish_reason: None,
            usage: None,
            cache: None,
            error: None,
            stream: None,
            epoch,
            seq,
            elapsed_ms: None,
            siblings: None,
        };
        assert!(!stream.agree(&saved(MessageState::Streaming, 1, 1, "all that ")), "what is behind changes nothing");
        assert!(stream.agree(&saved(MessageState::Streaming, 2, 1, "all that ")));
        let Some(Piece::Snapshot { seq: 1, text, .. }) = subscription.next(0).await else { panic!("a snapshot") };
        assert_eq!((text.as_str(), subscription.epoch()), ("all that ", 2));
        assert!(stream.agree(&saved(MessageState::Interrupted, 2, 2, "all that is")));
        assert!(matches!(subscription.next(9).await, Some(Piece::Delta { from: 2, seq: 2, .. })));
        assert!(matches!(subscription.next(0).await, Some(Piece::End { seq: 2, terminal: Terminal::Error(_) })));
    }

    #[tokio::test]
    async fn without_credit_only_origin_and_end_come() {
        let stream = live();
        let mut subscription = stream.subscribe(0);
        stream.set_origin(Value::Null);
        stream.push("a", "");
        assert!(matches!(subscription.next(0).await, Some(Piece::Origin(_))));
        assert!(subscription.take(0).is_none());
        assert!(matches!(subscription.next(1).await, Some(Piece::Delta { seq: 1, .. })));
        stream.end(cancelled());
        assert!(matches!(subscription.next(0).await, Some(Piece::End { seq: 1, .. })));
        assert!(subscription.next(1).await.is_none());
    }
}
