//! Section `limits`: what callers may use.

use std::num::NonZeroU32;
use std::time::Duration;

use super::reader::Reader;

/// Section `limits`: what every key may use that has no allowance of its own. `None`: no limit.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// Requests of a key in a minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Of these, how many at once.
    pub request_burst: Option<NonZeroU32>,
    /// Tokens of a key in a minute.
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Of these, how many at once.
    pub token_burst: Option<NonZeroU32>,
    /// Requests of a client address in a minute.
    pub address_requests_per_minute: Option<NonZeroU32>,
    /// Of these, how many at once.
    pub address_burst: Option<NonZeroU32>,
    /// Tokens of a client address in a minute.
    pub address_tokens_per_minute: Option<NonZeroU32>,
    /// Of these, how many at once.
    pub address_token_burst: Option<NonZeroU32>,
    /// Tokens of output reserved for a request that names no limit, where a key has a budget.
    pub max_tokens_default: NonZeroU32,
    /// Requests and questions in work at once.
    pub max_in_flight: Option<NonZeroU32>,
    /// How many may wait for that.
    pub max_waiting: u32,
    /// How long.
    pub max_wait: Duration,
}

impl Default for LimitsConfig {
    /// Nothing is limited.
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            request_burst: None,
            tokens_per_minute: None,
            token_burst: None,
            address_requests_per_minute: None,
            address_burst: None,
            address_tokens_per_minute: None,
            address_token_burst: None,
            max_tokens_default: const { NonZeroU32::new(1_024).expect("invariant: not zero") },
            max_in_flight: None,
            max_waiting: 0,
            max_wait: Duration::from_secs(1),
        }
    }
}

impl LimitsConfig {
    /// A count of 0 is no limit.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let requests_per_minute = reader.value("limits.requests_per_minute");
        let request_burst = reader.value("limits.request_burst");
        let tokens_per_minute = reader.value("limits.tokens_per_minute");
        let token_burst = reader.value("limits.token_burst");
        let address_requests_per_minute = reader.value("limits.address_requests_per_minute");
        let address_burst = reader.value("limits.address_burst");
        let address_tokens_per_minute = reader.value("limits.address_tokens_per_minute");
        let address_token_burst = reader.value("limits.address_token_burst");
        let max_tokens_default = reader.value("limits.max_tokens_default");
        let max_in_flight = reader.value("limits.max_in_flight");
        let max_waiting = reader.value("limits.max_waiting");
        let max_wait = reader.seconds("limits.max_wait");
        Some(Self {
            requests_per_minute: NonZeroU32::new(requests_per_minute?),
            request_burst: NonZeroU32::new(request_burst?),
            tokens_per_minute: NonZeroU32::new(tokens_per_minute?),
            token_burst: NonZeroU32::new(token_burst?),
            address_requests_per_minute: NonZeroU32::new(address_requests_per_minute?),
            address_burst: NonZeroU32::new(address_burst?),
            address_tokens_per_minute: NonZeroU32::new(address_tokens_per_minute?),
            address_token_burst: NonZeroU32::new(address_token_burst?),
            max_tokens_default: max_tokens_default?,
            max_in_flight: NonZeroU32::new(max_in_flight?),
            max_waiting: max_waiting?,
            max_wait: max_wait?,
        })
    }
}
