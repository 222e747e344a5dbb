//! Request bodies: read whole, within the limit, and JSON with errors that say what is wrong.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::message::InvalidRequest;

/// Reads a body of at most `limit` bytes. One that is too large is read to its end (up to eight times the limit) and
/// thrown away, since a client that is still sending would see a broken connection rather than the answer.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut whole: Option<BytesMut> = None;
    let mut first: Option<Bytes> = None;
    let mut length = 0;
    while let Some(chunk) = chunks.next().await {
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
