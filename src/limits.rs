//! What callers may use: requests and tokens in a minute, by key and by client address, and money by key. A refusal says
//! when to come back; whoever answers (HTTP, the socket) only puts it into words of its own.
//!
//! The bound of rates is that of governor's GCRA, burst + rate × time. They are kept in this process, a key's over several
//! instances in Redis; without that each instance serves its share. Money is kept in the database. Tokens and money are taken by who asks a provider, so that a cached answer costs neither, and of equal
//! requests in flight only the one that opened the call pays.

mod gate;
mod grant;
mod meters;
mod need;
mod redis;
mod refusal;
mod settling;
mod shared;
mod spending;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use uuid::Uuid;

use gate::Gate;
pub use gate::Pass;
use grant::Reserve;
pub use grant::{Grant, Price};
use meters::{AddressMeters, KeyMeters, Meter, Rates};
pub use need::Need;
pub use refusal::{Measure, Refusal};
use settling::Settling;
pub use shared::Living;
use shared::SharedRates;
use spending::Spending;
pub use spending::Spent;

pub use crate::bucket::Level;
use crate::bucket::{Bucket, Rate, Taken, Ticks};
use crate::clock::{Clock, jitter};
use crate::config::LimitsConfig;
use crate::db::{Db, DbError};
use crate::keys::{BudgetPeriod, Principal};
use crate::message::{ChatRequest, Usage};
use crate::metrics::Metrics;
use crate::redis::Redis;

/// How long an overload is thought to last: who was refused comes back after one to two of these.
const OVERLOAD_LASTS: Duration = Duration::from_secs(1);

/// How full somebody's buckets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// By requests.
    pub requests: Option<Level>,
    /// By tokens.
    pub tokens: Option<Level>,
}

/// What the limits are made of.
pub struct LimitParts {
    /// What is configured.
    pub config: LimitsConfig,
    /// Where money is kept; its schema is [`crate::db::MigrationSet::ISH`].
    pub db: Db,
    /// What instances share, and how many they are.
    pub shared: Option<(Redis, Living)>,
    /// Its time.
    pub clock: Clock,
    /// Where costs are booked.
    pub tasks: TaskTracker,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}

struct Inner {
    config: LimitsConfig,
    keys: KeyMeters,
    addresses: Option<AddressMeters>,
    gate: Option<Gate>,
    shared: Option<SharedRates>,
    spending: Spending,
    settling: Arc<Settling>,
    tasks: TaskTracker,
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
    /// Over its parts. What a killed process had reserved is booked as spent.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn start(parts: LimitParts) -> Result<Self, DbError> {
        let limits = Self::timed(parts, &Ticks::system());
        let left = limits.inner.spending.recover().await?;
        if left > 0 {
            tracing::warn!(left, "calls were cut by the last stop; the money reserved for them counts as spent");
        }
        Ok(limits)
    }

    fn timed(parts: LimitParts, ticks: &Ticks) -> Self {
        let LimitParts { config, db, shared, clock, tasks, metrics } = parts;
        let of_addresses = Rates {
            requests: rate(None, None, config.address_requests_per_minute, config.address_burst),
            tokens: rate(None, None, config.address_tokens_per_minute, config.address_token_burst),
        };
        let is_limited = of_addresses != Rates::default();
        let addresses = is_limited.then(|| AddressMeters::new(of_addresses, ticks.clone()));
        let gate =
            config.max_in_flight.map(|most| Gate::new(most, config.max_waiting, config.max_wait, Arc::clone(&metrics)));
        let (keys, spending) = (KeyMeters::new(ticks.clone()), Spending::new(db, clock));
        let settling = Arc::default();
        let shared = shared.map(|(redis, living)| SharedRates::new(redis, living, tasks.clone()));
        Self { inner: Arc::new(Inner { config, keys, addresses, gate, shared, spending, settling, tasks, metrics }) }
    }

    /// Takes one request of a client address.
    ///
    /// # Errors
    /// [`Refusal::Address`].
    pub fn take_address(&self, address: IpAddr) -> Result<(), Refusal> {
        let Some(addresses) = self.inner.addresses.as_ref().filter(|addresses| addresses.rates().requests.is_some())
        else {
            return Ok(());
        };
        let take = |meter: &Meter| meter.requests.as_ref().map_or(Ok(()), Bucket::take_one);
        let later = |wait| Refusal::Address { measure: Measure::Requests, wait: spread(wait, jitter()) };
        addresses.at(address, take).map_err(|wait| self.refused(later(wait)))
    }

    /// Takes one request of a key.
    ///
    /// # Errors
    /// [`Refusal::Rate`].
    pub async fn take_request(&self, principal: &Principal) -> Result<(), Refusal> {
        let Some(meter) = self.meter(principal) else { return Ok(()) };
        let Some(bucket) = &meter.requests else { return Ok(()) };
        self.take((principal.key, Measure::Requests), bucket, 1).await
    }

    /// A place in work, waited for where there is none and room to wait; `None` where nothing bounds it.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`].
    pub async fn enter(&self) -> Result<Option<Pass>, Refusal> {
        let Some(gate) = &self.inner.gate else { return Ok(None) };
        gate.enter().await.map(Some).ok_or_else(|| self.overloaded())
    }

    /// The same for who cannot wait.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`].
    pub fn enter_now(&self) -> Result<Option<Pass>, Refusal> {
        let Some(gate) = &self.inner.gate else { return Ok(None) };
        gate.enter_now().map(Some).ok_or_else(|| self.overloaded())
    }

    fn overloaded(&self) -> Refusal {
        self.refused(Refusal::Overloaded { wait: spread(OVERLOAD_LASTS, jitter() * 4.0) })
    }

    /// Takes what a call to a provider may use: tokens of the rates of key and address, as far as they are known before, and
    /// money of the key's budget. `None` where none of these is limited. `price` says what tokens cost.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was taken then.
    pub async fn admit(
        &self,
        principal: &Principal,
        request: &ChatRequest,
        price: impl FnOnce() -> Price,
    ) -> Result<Option<Grant>, Refusal> {
        if !self.is_metered(principal) {
            return Ok(None);
        }
        let (meter, allowance) = (self.meter(principal), &principal.allowance);
        let need = Need::of(request);
        let tokens = meter.as_ref().and_then(|meter| meter.tokens.as_ref());
        if let Some(bucket) = tokens {
            self.take((principal.key, Measure::Tokens), bucket, need.input_tokens).await?;
        }
        // From here on the grant gives back what was taken, should anything fail.
        let mut grant = Grant::new(self.clone(), tokens.map(|_| principal.key), need);
        if let Some((addresses, address)) = self.token_addresses().zip(principal.address) {
            self.take_tokens_of(addresses, address, need.input_tokens)?;
            grant.took_of(address);
        }
        if allowance.budget.is_some() {
            let price = price();
            if price(None, Usage::default()).is_none() {
                return Err(self.refused(Refusal::NoPrice { model: request.model.clone() }));
            }
            let step = allowance.max_tokens_default.unwrap_or(self.inner.config.max_tokens_default);
            let account = (principal.key, allowance.budget_period.unwrap_or(BudgetPeriod::Total));
            let made = Reserve::make(self, account, need, u64::from(step.get()), price).await;
            grant.hold(made.map_err(|refusal| self.refused(refusal))?);
        }
        Ok(Some(grant))
    }

    /// Whether calls to providers cost this caller something.
    pub fn is_metered(&self, principal: &Principal) -> bool {
        let allowance = &principal.allowance;
        allowance.budget.is_some()
            || allowance.tokens_per_minute.or(self.inner.config.tokens_per_minute).is_some()
            || principal.address.is_some() && self.token_addresses().is_some()
    }

    /// What each key has spent in its budget's current period.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn spending(&self) -> Result<HashMap<Uuid, Spent>, DbError> {
        self.inner.spending.by_key().await
    }

    /// How full the buckets of a key and of the address it asks from are: of the two the one that has less left. `None` where
    /// nothing limits them.
    pub fn standing(&self, principal: &Principal) -> Option<Standing> {
        let of_key = self.meter(principal).map(|meter| {
            let level = |measure, bucket: &Option<Bucket>| {
                let bucket = bucket.as_ref()?;
                let shared = self.inner.shared.as_ref();
                Some(shared.map_or_else(|| bucket.level(), |shared| shared.level((principal.key, measure), bucket)))
            };
            let (requests, tokens) = (&meter.requests, &meter.tokens);
            Standing { requests: level(Measure::Requests, requests), tokens: level(Measure::Tokens, tokens) }
        });
        let address = self.inner.addresses.as_ref().zip(principal.address);
        let of_address = address.map(|(addresses, address)| addresses.at(address, Meter::standing));
        match (of_key, of_address) {
            (Some(key), Some(address)) => Some(key.or_less(address)),
            (key, address) => key.or(address),
        }
    }

    /// Sets the gauges that mirror figures kept here.
    pub fn refresh_gauges(&self) {
        let tracked = &self.inner.metrics.limits_tracked;
        tracked.with_label_values(&["key"]).set(self.inner.keys.len() as i64);
        tracked.with_label_values(&["address"]).set(self.inner.addresses.as_ref().map_or(0, AddressMeters::len) as i64);
    }

    /// The addresses, where their tokens are limited.
    fn token_addresses(&self) -> Option<&AddressMeters> {
        self.inner.addresses.as_ref().filter(|addresses| addresses.rates().tokens.is_some())
    }

    /// Takes tokens of an address, which this instance alone counts.
    fn take_tokens_of(&self, addresses: &AddressMeters, address: IpAddr, requested: u64) -> Result<(), Refusal> {
        let count = u32::try_from(requested).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        let take = |meter: &Meter| meter.tokens.as_ref().map(|bucket| (bucket.take(count), bucket.rate().burst()));
        let refusal = match addresses.at(address, take) {
            None | Some((Taken::Yes, _)) => return Ok(()),
            Some((Taken::Later(wait), _)) => {
                Refusal::Address { measure: Measure::Tokens, wait: spread(wait, jitter()) }
            }
            Some((Taken::Never, burst)) => Refusal::TooLarge { requested, burst },
        };
        Err(self.refused(refusal))
    }

    /// Takes so many of a key's bucket.
    async fn take(&self, of: (Uuid, Measure), bucket: &Bucket, requested: u64) -> Result<(), Refusal> {
        let count = u32::try_from(requested).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        let (measure, limit) = (of.1, bucket.rate().per_minute());
        let taken = match &self.inner.shared {
            Some(shared) => shared.take(of, bucket, count).await,
            None => bucket.take(count),
        };
        let refusal = match taken {
            Taken::Yes => return Ok(()),
            Taken::Later(wait) => Refusal::Rate { measure, limit, requested, wait: spread(wait, jitter()) },
            Taken::Never => Refusal::TooLarge { requested, burst: bucket.rate().burst() },
        };
        Err(self.refused(refusal))
    }

    /// Corrects a key's bucket by what was used more than was taken, or less.
    fn correct(&self, of: (Uuid, Measure), bucket: &Bucket, count: i64) {
        bucket.correct(count);
        if let Some(shared) = &self.inner.shared {
            shared.correct(of, bucket.rate(), count);
        }
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
        self.inner.keys.of(principal.key, rates, principal.as_of)
    }

    fn refused(&self, refusal: Refusal) -> Refusal {
        self.inner.metrics.limits_refused.with_label_values(&[refusal.reason()]).inc();
        refusal
    }
}

impl Standing {
    /// Of each measure the level that has less left.
    fn or_less(self, other: Self) -> Self {
        let less = |one: Option<Level>, other: Option<Level>| match (one, other) {
            (Some(one), Some(other)) => Some(if other.remaining < one.remaining { other } else { one }),
            (one, other) => one.or(other),
        };
        Self { requests: less(self.requests, other.requests), tokens: less(self.tokens, other.tokens) }
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
