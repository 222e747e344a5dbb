//! A session as a file, sent while it is read.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::TryStreamExt;
use serde::Deserialize;
use uuid::Uuid;

use super::uuid;
use crate::api::address::{Path, Query};
use crate::api::error::Problem;
use crate::conversations::{Conversations, ExportFormat};
use crate::keys::Principal;

#[derive(Deserialize)]
pub(in crate::api) struct ExportWish {
    format: Option<String>,
    leaf: Option<Uuid>,
}

pub(in crate::api) async fn export(
    State(conversations): State<Conversations>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<String>,
    Query(wish): Query<ExportWish>,
) -> Result<Response, Problem> {
    let format: ExportFormat = wish.format.as_deref().unwrap_or("json").parse()?;
    let (conversation, pieces) = conversations.export(&principal.space(), uuid(&id)?, format, wish.leaf).await?;
    let kind = match format {
        ExportFormat::Json => "application/json",
        ExportFormat::Markdown => "text/markdown; charset=utf-8",
    };
    let name = format!("attachment; filename=\"{}.{}\"", file_name(&conversation.title), format.extension());
    // The head is out: a fault can only break the transfer off, which a client sees as such.
    let pieces = pieces.inspect_err(|error| tracing::warn!(%error, "an export ended before its end"));
    Ok(([(CONTENT_TYPE, kind.to_owned()), (CONTENT_DISPOSITION, name)], Body::from_stream(pieces)).into_response())
}

/// A title as a file's name that every system takes: letters and digits of ASCII, and dashes.
fn file_name(title: &str) -> String {
    let words: Vec<&str> = title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let name: String = words.join("-").to_lowercase().chars().take(60).collect();
    if name.is_empty() { "session".to_owned() } else { name.trim_end_matches('-').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_becomes_a_name() {
        assert_eq!(file_name("Why \"quote\"; ../etc\r\n?"), "why-quote-etc");
        assert_eq!(file_name("漢字"), "session");
        assert_eq!(file_name(&"long ".repeat(40)).len(), 59);
    }
}
