//! Requests that were read before: the same bytes in the same dialect from the same tenant and user, under the same cache headers, need no second
//! parse, no second classification and no second key. Everything remembered is a pure function of what it is kept under.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;

use super::error::ApiError;
use super::headers::{CACHE_MODE, CACHE_NAMESPACE, CACHE_TTL};
use super::inbound::Inbound;
use crate::cache::{CacheControl, ControlHeaders, Plan};
use crate::chat::{ChatService, asker};
use crate::keys::Principal;
use crate::message::{ChatRequest, InvalidRequest, JsonObject};

/// Bytes that remembered requests may take.
const CAPACITY_BYTES: u64 = 32 * 1024 * 1024;

/// Larger requests are rare, and reading them is a small part of their cost.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// A request, read and planned.
#[derive(Debug)]
pub(super) struct Prepared {
    pub request: Arc<ChatRequest>,
    pub control: CacheControl,
    pub plan: Plan,
}

/// The memo.
#[derive(Clone)]
pub struct PreparedRequests {
    known: moka::sync::Cache<[u8; 32], Arc<Prepared>>,
}

impl Default for PreparedRequests {
    fn default() -> Self {
        let weigher = |_: &[u8; 32], prepared: &Arc<Prepared>| {
            u32::try_from(prepared.request.body.len() * 4 + 2048).unwrap_or(u32::MAX)
        };
        Self { known: moka::sync::Cache::builder().max_capacity(CAPACITY_BYTES).weigher(weigher).build() }
    }
}

impl PreparedRequests {
    /// Reads and plans a request, unless that was done before.
    pub(super) fn prepare(
        &self,
        chat: &ChatService,
        principal: &Principal,
        headers: &HeaderMap,
        body: &Bytes,
        default_model: &str,
        inbound: Inbound,
    ) -> Result<Arc<Prepared>, ApiError> {
        let beside = inbound.beside(headers)?;
        let headers = control_headers(headers)?;
        // A request that leaves the cache out is read once and never asked for again.
        let memorable = body.len() <= MAX_BODY_BYTES && headers.mode != Some("off");
        let id = memorable.then(|| identity(principal, &headers, &beside, body, inbound));
        if let Some(prepared) = id.and_then(|id| self.known.get(&id)) {
            return Ok(prepared);
        }
        let object = JsonObject::parse(body).map_err(InvalidRequest::from)?;
        let control = CacheControl::of_request(object.get("cache"), &headers)?;
        let request = Arc::new(ChatRequest { beside, ..inbound.request(body, object, default_model)? });
        let plan = chat.cache().plan(&request, asker(principal), control.clone());
        let prepared = Arc::new(Prepared { request, control, plan });
        if let (Some(id), Plan::Use(_)) = (id, &prepared.plan) {
            self.known.insert(id, Arc::clone(&prepared));
        }
        Ok(prepared)
    }
}

/// The headers that speak of the cache. One of our own that cannot be read is refused: left out, a room of the caller's
/// own would be the one that all share.
pub(super) fn control_headers(headers: &HeaderMap) -> Result<ControlHeaders<'_>, InvalidRequest> {
    let text = |name: &HeaderName| {
        let fault = |_| InvalidRequest::of(name.as_str(), format!("the header {name} takes printable ASCII only"));
        headers.get(name).map(|value| value.to_str().map_err(fault)).transpose()
    };
    // A list: its lines are one (RFC 9110 section 5.3).
    let mut lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let http = lines.next().map(|first| lines.fold(Cow::from(first), |all, more| format!("{all},{more}").into()));
    Ok(ControlHeaders { http, mode: text(&CACHE_MODE)?, ttl: text(&CACHE_TTL)?, namespace: text(&CACHE_NAMESPACE)? })
}

fn identity(
    principal: &Principal,
    headers: &ControlHeaders<'_>,
    beside: &[(&str, String)],
    body: &[u8],
    inbound: Inbound,
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (name, value) in beside {
        hasher.update(format!("{name}: {value}\n").as_bytes());
    }
    hasher.update(&[inbound as u8]);
    let said = [headers.http.as_deref(), headers.mode, headers.ttl, headers.namespace];
    let user = principal.user.map(|user| user.to_string());
    let parts = [Some(principal.tenant.as_str()), user.as_deref(), said[0], said[1], said[2], said[3]];
    let mut lengths = [0; 7 * 8];
    // A header that says nothing is not one that is absent.
    let sizes = parts.iter().map(|part| part.map_or(0, |part| part.len() + 1)).chain([body.len()]);
    for (place, size) in lengths.chunks_exact_mut(8).zip(sizes) {
        place.copy_from_slice(&(size as u64).to_le_bytes());
    }
    hasher.update(&lengths);
    for part in parts.into_iter().flatten() {
        hasher.update(part.as_bytes());
    }
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_room_whose_name_cannot_be_read_is_refused_rather_than_shared() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_bytes("no-störe".as_bytes()).unwrap());
        assert_eq!(control_headers(&headers).unwrap().http, None);
        headers.insert(CACHE_NAMESPACE, HeaderValue::from_bytes("größe".as_bytes()).unwrap());
        let fault = control_headers(&headers).unwrap_err();
        assert_eq!(fault.param.as_deref(), Some("x-ish-cache-namespace"));
        assert_eq!(fault.message, "the header x-ish-cache-namespace takes printable ASCII only");
    }
}
