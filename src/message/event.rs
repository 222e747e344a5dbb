//! A server-sent event, written (WHATWG HTML, section 9.2): only `data:` lines, since some clients fail on any other.

use bytes::{BufMut, BytesMut};
use memchr::memchr;

/// Appends one event. Data of several lines stays one event.
pub fn write_event(out: &mut BytesMut, mut data: &[u8]) {
    out.put_slice(b"data: ");
    while let Some(end) = memchr(b'\n', data) {
        out.put_slice(&data[..=end]);
        out.put_slice(b"data: ");
        data = &data[end + 1..];
    }
    out.put_slice(data);
    out.put_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_several_lines_stays_one_event() {
        let mut out = BytesMut::new();
        write_event(&mut out, b"{\n}");
        assert_eq!(out, &b"data: {\ndata: }\n\n"[..]);
    }
}
