//! Requests that were read before: the same bytes from the same tenant, under the same cache headers, need no second
//! parse, no second classification and no second key. Everything remembered is a pure function of what it is kept under.

use std::sync::Arc;

use axum::http::HeaderMap;
use bytes::Bytes;

use super::error::ApiError;
use crate::cache::{CacheControl, Plan};
use crate::chat::ChatService;
use crate::keys::Principal;
use crate::message::ChatRequest;

/// Bytes that remembered requests may take.
const CAPACITY_BYTES: u64 = 32 * 1024 * 1024;

/// Larger requests are rare, and reading them is a small part of their cost.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Headers that say something about caching.
const CONTROL_HEADERS: &[&str] = &["cache-control", "x-ish-cache", "x-ish-cache-ttl", "x-ish-cache-namespace"];

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
        body: Bytes,
        default_model: &str,
    ) -> Result<Arc<Prepared>, ApiError> {
        let id = identity(principal, headers, &body);
        if let Some(prepared) = self.known.get(&id) {
            return Ok(prepared);
        }
        let small = body.len() <= MAX_BODY_BYTES;
        let control = CacheControl::of_request(&body, |name| headers.get(name).and_then(|value| value.to_str().ok()))?;
        let request = Arc::new(ChatRequest::parse_with_default_model(body, Some(default_model))?);
        let plan = chat.cache().plan(&request, &principal.tenant, control.clone());
        let prepared = Arc::new(Prepared { request, control, plan });
        if small && matches!(prepared.plan, Plan::Use(_)) {
            self.known.insert(id, Arc::clone(&prepared));
        }
        Ok(prepared)
    }
}

fn identity(principal: &Principal, headers: &HeaderMap, body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(principal.tenant.as_bytes());
    for name in CONTROL_HEADERS {
        part(headers.get(*name).map_or(b"", |value| value.as_bytes()));
    }
    part(body);
    *hasher.finalize().as_bytes()
}
