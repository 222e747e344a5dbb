//! Server-sent events, read from whatever pieces the network brings (WHATWG HTML, section 9.2). Only `data` matters to
//! chat providers; an event that lies whole in one piece is handed out without copying it.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use crate::upstream::{Failure, FailureKind};

/// The largest event that is accepted; beyond it the provider is at fault.
const MAX_EVENT_BYTES: usize = 4 * 1024 * 1024;

/// The incremental reader.
#[derive(Debug, Default)]
pub struct SseReader {
    /// Bytes of a line that has not ended.
    partial: BytesMut,
    /// The data of an event that has not ended.
    data: Option<Bytes>,
    skip_newline: bool,
}

impl SseReader {
    /// Whether nothing of an event has been taken in that has not been handed out.
    pub fn is_between_events(&self) -> bool {
        self.partial.is_empty() && self.data.is_none() && !self.skip_newline
    }

    /// Takes the next piece and hands each event's data that it completes to `event`.
    ///
    /// # Errors
    /// [`FailureKind::Garbage`] for an event above 4 MiB, and whatever `event` answers.
    pub fn feed(
        &mut self,
        mut piece: Bytes,
        mut event: impl FnMut(Bytes) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if self.skip_newline && piece.first() == Some(&b'\n') {
            drop(piece.split_to(1));
        }
        if !piece.is_empty() {
            self.skip_newline = false;
        }
        while let Some(end) = line_end(&piece) {
            let mut line = piece.split_to(end);
            let carriage_return = piece[0] == b'\r';
            drop(piece.split_to(1));
            if carriage_return {
                match piece.first() {
                    Some(b'\n') => drop(piece.split_to(1)),
                    Some(_) => {}
                    None => self.skip_newline = true,
                }
            }
            if !self.partial.is_empty() {
                self.partial.extend_from_slice(&line);
                line = self.partial.split().freeze();
            }
            self.line(&line, &mut event)?;
        }
        self.partial.extend_from_slice(&piece);
        self.check_size()
    }

    fn line(&mut self, line: &Bytes, event: &mut impl FnMut(Bytes) -> Result<(), Failure>) -> Result<(), Failure> {
        if line.is_empty() {
            return self.data.take().map_or(Ok(()), event);
        }
        let Some(value) = line.strip_prefix(b"data:") else { return Ok(()) };
        let start = line.len() - value.len() + usize::from(value.first() == Some(&b' '));
        let value = line.slice(start..);
        self.data = Some(match self.data.take() {
            None => value,
            Some(known) => [known.as_ref(), b"\n", value.as_ref()].concat().into(),
        });
        self.check_size()
    }

    fn check_size(&self) -> Result<(), Failure> {
        if self.partial.len() + self.data.as_ref().map_or(0, Bytes::len) > MAX_EVENT_BYTES {
            return Err(Failure::new(
                FailureKind::Garbage,
                format!("an event of the provider's stream is larger than {MAX_EVENT_BYTES} bytes"),
            ));
        }
        Ok(())
    }
}

/// The first line end: `\n`, `\r\n` or a lone `\r`.
fn line_end(piece: &[u8]) -> Option<usize> {
    let newline = memchr(b'\n', piece);
    let carriage_return = memchr(b'\r', &piece[..newline.unwrap_or(piece.len())]);
    carriage_return.or(newline)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut reader = SseReader::default();
        let mut events = Vec::new();
        for piece in pieces {
            reader
                .feed(Bytes::copy_from_slice(piece), |data| {
                    events.push(String::from_utf8_lossy(&data).into_owned());
                    Ok(())
                })
                .unwrap();
        }
        events
    }

    const STREAM: &str =
        ": hello\r\ndata: {\"a\":1}\r\n\r\nevent: x\nid: 7\ndata:two\ndata: lines\n\n\ndata: [DONE]\r\r";

    #[test]
    fn reads_events_between_comments_and_fields() {
        assert_eq!(read(&[STREAM.as_bytes()]), ["{\"a\":1}", "two\nlines", "[DONE]"]);
    }

    #[test]
    fn an_unfinished_event_is_no_event() {
        assert!(read(&[b"data: half"]).is_empty());
        assert!(read(&[b"data: half\n"]).is_empty());
    }

    #[test]
    fn an_enormous_event_is_refused() {
        let mut reader = SseReader::default();
        let piece = Bytes::from(vec![b'x'; MAX_EVENT_BYTES + 1]);
        assert_eq!(reader.feed(piece, |_| Ok(())).unwrap_err().kind, FailureKind::Garbage);
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_events(cuts in proptest::collection::vec(0usize..80, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % STREAM.len()).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([STREAM.len()]) {
                pieces.push(&STREAM.as_bytes()[from..cut]);
                from = cut;
            }
            prop_assert_eq!(read(&pieces), ["{\"a\":1}", "two\nlines", "[DONE]"]);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&[&bytes]);
        }
    }
}
