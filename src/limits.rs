//! What callers may use: requests and tokens in a minute, by key and by client address. A refusal says when to come
//! back; whoever answers (HTTP, the socket) only puts it into words of its own.
//!
//! Rates are kept in this process; the bound is that of governor's GCRA, burst + rate × time.

mod bucket;
mod meters;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

pub use bucket::Level;
use bucket::{Bucket, Rate, Ticks};
use meters::{AddressMeters, KeyMeters, Meter, Rates};

use crate::clock::jitter;
use crate::config::LimitsConfig;
use crate::keys::Principal;
use crate::metrics::Metrics;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
}

impl Measure {
    /// The word in error bodies and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        }
    }
}

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A key's rate.
    #[error("rate limit reached on {} per minute: limit {limit}, requested {requested}; try again in {} ms", measure.as_str(), wait.as_millis())]
    Rate {
        /// What there was too much of.
        measure: Measure,
        /// How many there may be in a minute.
        limit: u32,
        /// How many were asked for.
        requested: u32,
        /// When to come back.
        wait: Duration,
    },
    /// The client address's rate.
    #[error("rate limit reached on requests per minute of this address; try again in {} ms", wait.as_millis())]
    Address {
        /// When to come back.
        wait: Duration,
    },
}

impl Refusal {
    /// The stable word in error bodies and frames.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rate { .. } | Self::Address { .. } => "rate_limit_exceeded",
        }
    }

    /// The word in metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Rate { measure, .. } => measure.as_str(),
            Self::Address { .. } => "address",
        }
    }

    /// When to come back, where that helps.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Rate { wait, .. } | Self::Address { wait } => Some(*wait),
        }
    }
}

/// How full a key's buckets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// By requests.
    pub requests: Option<Level>,
    /// By tokens.
    pub tokens: Option<Level>,
}

struct Inner {
    config: LimitsConfig,
    keys: KeyMeters,
    addresses: Option<AddressMeters>,
    metrics: Arc<Metrics>,
}

/// All limits. Cloning is cheap.
#[derive(Clone)]
pub struct Limits {
    inner: Arc<Inner>,
}

impl fmt::Debug for Limits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Limits").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Limits {
    /// As configured.
    pub fn new(config: LimitsConfig, metrics: Arc<Metrics>) -> Self {
        Self::timed(config, metrics, &Ticks::system())
    }

    fn timed(config: LimitsConfig, metrics: Arc<Metrics>, ticks: &Ticks) -> Self {
        let address_rate = rate(None, None, config.address_requests_per_minute, config.address_burst);
        let addresses = address_rate.map(|rate| AddressMeters::new(rate, ticks.clone()));
        let keys = KeyMeters::new(ticks.clone());
        Self { inner: Arc::new(Inner { config, keys, addresses, metrics }) }
    }

    /// Takes one request of a client address.
    ///
    /// # Errors
    /// [`Refusal::Address`].
    pub fn take_address(&self, address: IpAddr) -> Result<(), Refusal> {
        let Some(addresses) = &self.inner.addresses else { return Ok(()) };
        addresses.take(address).map_err(|wait| self.refused(Refusal::Address { wait: spread(wait, jitter()) }))
    }

    /// Takes one request of a key.
    ///
    /// # Errors
    /// [`Refusal::Rate`].
    pub fn take_request(&self, principal: &Principal) -> Result<(), Refusal> {
        let Some(meter) = self.meter(principal) else { return Ok(()) };
        let Some(bucket) = &meter.requests else { return Ok(()) };
        let refusal = |wait| {
            let (measure, limit) = (Measure::Requests, bucket.rate().per_minute());
            self.refused(Refusal::Rate { measure, limit, requested: 1, wait: spread(wait, jitter()) })
        };
        bucket.take_one().map_err(refusal)
    }

    /// How full a key's buckets are; `None` where nothing limits it.
    pub fn standing(&self, principal: &Principal) -> Option<Standing> {
        let meter = self.meter(principal)?;
        let level = |bucket: &Option<Bucket>| bucket.as_ref().map(Bucket::level);
        Some(Standing { requests: level(&meter.requests), tokens: level(&meter.tokens) })
    }

    /// Sets the gauges that mirror figures kept here.
    pub fn refresh_gauges(&self) {
        let tracked = &self.inner.metrics.limits_tracked;
        tracked.with_label_values(&["key"]).set(self.inner.keys.len() as i64);
        tracked.with_label_values(&["address"]).set(self.inner.addresses.as_ref().map_or(0, AddressMeters::len) as i64);
    }

    fn meter(&self, principal: &Principal) -> Option<Arc<Meter>> {
        let (config, allowance) = (&self.inner.config, &principal.allowance);
        let rates = Rates {
            requests: rate(
                allowance.requests_per_minute,
                allowance.request_burst,
                config.requests_per_minute,
                config.request_burst,
            ),
            tokens: rate(
                allowance.tokens_per_minute,
                allowance.token_burst,
                config.tokens_per_minute,
                config.token_burst,
            ),
        };
        self.inner.keys.of(principal.key, rates)
    }

    fn refused(&self, refusal: Refusal) -> Refusal {
        self.inner.metrics.limits_refused.with_label_values(&[refusal.reason()]).inc();
        refusal
    }
}

/// A key's own rate, else the configured one; a configured burst belongs to the configured rate.
fn rate(
    own: Option<NonZeroU32>,
    own_burst: Option<NonZeroU32>,
    configured: Option<NonZeroU32>,
    configured_burst: Option<NonZeroU32>,
) -> Option<Rate> {
    let burst = own_burst.or(if own.is_none() { configured_burst } else { None });
    own.or(configured).map(|per_minute| Rate::new(per_minute, burst))
}

/// A wait made up to a quarter longer, so that those who were refused together do not come back together.
fn spread(wait: Duration, jitter: f64) -> Duration {
    wait + wait.mul_f64(jitter / 4.0) + Duration::from_millis((jitter * 50.0) as u64)
}

#[cfg(test)]
mod tests;
