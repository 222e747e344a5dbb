//! Request bodies: read whole, within the limit, and JSON with errors that say what is wrong.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::error::ApiError;
use crate::message::InvalidRequest;

/// How long a body may take: who is slower holds a place in work for nothing.
#[derive(Debug, Clone, Copy)]
struct Pace {
    whole: Duration,
    /// How long nothing of it may come.
    silence: Duration,
}

const PACE: Pace = Pace { whole: Duration::from_mins(2), silence: Duration::from_secs(30) };

/// Reads a body of at most `limit` bytes. One that is too large is read to its end (up to eight times the limit) and
/// thrown away, since a client that is still sending would see a broken connection rather than the answer.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    read_at(PACE, body, limit).await
}

async fn read_at(pace: Pace, body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut chunks = body.into_data_stream();
    let end = Instant::now() + pace.whole;
    let mut whole: Option<BytesMut> = None;
    let mut first: Option<Bytes> = None;
    let mut length = 0;
    loop {
        let due = end.min(Instant::now() + pace.silence);
        let Some(chunk) = timeout_at(due, chunks.next()).await.map_err(|_| too_slow(pace))? else { break };
        let chunk = chunk
            .map_err(|_| InvalidRequest { message: "the body ended before its length".to_owned(), param: None })?;
        length += chunk.len();
        if length > limit {
            (whole, first) = (None, None);
            if length > limit.saturating_mul(8) {
                break;
            }
            continue;
        }
        match (&mut whole, first.take()) {
            (Some(whole), _) => whole.extend_from_slice(&chunk),
            (None, None) => first = Some(chunk),
            (None, Some(earlier)) => whole = Some([earlier, chunk].concat().as_slice().into()),
        }
    }
    if length > limit {
        return Err(ApiError::too_large(limit));
    }
    Ok(whole.map(BytesMut::freeze).or(first).unwrap_or_default())
}

fn too_slow(pace: Pace) -> ApiError {
    let limits = format!("within {} s, and with no pause of {} s", pace.whole.as_secs(), pace.silence.as_secs());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", format!("the body must come {limits}"))
}

/// Reads a JSON body.
pub async fn json<T: DeserializeOwned>(body: Body, limit: usize) -> Result<T, ApiError> {
    parse(&read(body, limit).await?)
}

/// Reads JSON that came whole.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        InvalidRequest { message: format!("the body is not what this route takes: {error}"), param: None }.into()
    })
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    async fn code_of(
        pieces: impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    ) -> String {
        let pace = Pace { whole: Duration::from_millis(300), silence: Duration::from_millis(100) };
        read_at(pace, Body::from_stream(pieces), 1_000_000).await.unwrap_err().code().to_owned()
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let silent = stream::once(async { Ok(Bytes::from_static(b"{")) }).chain(stream::pending());
        assert_eq!(code_of(silent).await, "request_timeout");
        let drop_by_drop = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Ok(Bytes::from_static(b" ")), ()))
        });
        assert_eq!(code_of(drop_by_drop).await, "request_timeout");
    }
}
