//! The right to ask a provider, and the duty to say what it cost. It holds what was taken before the call: tokens of
//! the key's rate, money of its budget; and corrects both once the provider has counted.
//!
//! It covers a request's whole way over its route. An attempt that was lost, but that its provider may bill, is charged its
//! input; before another one is made, the reserve is made larger by that.
//!
//! One that is dropped while nobody is asked costs what was lost by then, and else gives everything back. One that is
//! dropped in the middle, because the reader left or the call failed without a count, is charged what was seen by then;
//! where nothing was seen of a call that was made, the whole reserve: what may have been spent is spent.

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::need::Need;
use super::settling::{PATIENCE, Settling};
use super::spending::{Reserved, Spending};
use super::{Limits, Measure, Refusal};
use crate::clock::new_id;
use crate::db::DbError;
use crate::keys::{BudgetPeriod, Money};
use crate::message::{ServedBy, Usage};

/// What tokens cost, in US dollars, at a target; without one, where they are or may be used. `None` where there is no
/// price.
pub type Price = Arc<dyn Fn(Option<&ServedBy>, Usage) -> Option<f64> + Send + Sync>;

/// Bytes of answer that make a token, for those of which the request says how many there may be at most. The provider
/// keeps to that; what seems to be twice as many does not.
const BOUNDED_BYTES_PER_TOKEN: u64 = 8;

/// The same for answers without a bound.
const UNBOUNDED_BYTES_PER_TOKEN: u64 = 3;

/// How far the call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody is asked: not yet, or not any more.
    Held,
    /// The provider works; nothing has come.
    Asked,
    /// So many bytes have come.
    Answering { bytes: u64 },
    /// All is said.
    Over,
}

/// The grant of one call.
pub struct Grant {
    limits: Limits,
    /// The key, where its tokens are limited; what was taken from its bucket is the need's input.
    tokens_of: Option<Uuid>,
    /// The address, where its tokens are limited; the same was taken from its bucket.
    address: Option<IpAddr>,
    need: Need,
    reserve: Option<Reserve>,
    stage: Stage,
}

/// Money held for a call. Dropped, it is given back.
pub(super) struct Reserve {
    limits: Limits,
    /// Whose money it is.
    key: Uuid,
    /// `None` until it is granted, and once it is settled.
    id: Option<Uuid>,
    price: Price,
    amount: Money,
    /// What attempts that were lost cost.
    lost: Money,
    /// As much of that as was added to the amount.
    covered: Money,
    /// Tokens of output that it covers.
    output_tokens: u64,
    /// Tokens that are reserved further when these are used up.
    step: u64,
}

impl Grant {
    pub(super) fn new(limits: Limits, tokens_of: Option<Uuid>, need: Need) -> Self {
        Self { limits, tokens_of, address: None, need, reserve: None, stage: Stage::Held }
    }

    pub(super) fn took_of(&mut self, address: IpAddr) {
        self.address = Some(address);
    }

    pub(super) fn hold(&mut self, reserve: Reserve) {
        self.reserve = Some(reserve);
    }

    /// Whether the answer's length must be seen while it comes: money is held for a part of what it might be.
    pub fn must_watch(&self) -> bool {
        self.reserve.is_some() && self.need.max_tokens.is_none()
    }

    /// A provider is asked from here on. Reserves further where attempts were lost before.
    ///
    /// # Errors
    /// [`Refusal::Budget`] when there is no money for another attempt: nobody is to be asked.
    pub async fn asked(&mut self) -> Result<(), Refusal> {
        if let Some(reserve) = &mut self.reserve {
            reserve.cover().await.map_err(|refusal| self.limits.refused(refusal))?;
        }
        self.stage = Stage::Asked;
        Ok(())
    }

    /// The attempt came to nothing, and its provider asks nothing for it.
    pub fn refused(&mut self) {
        self.stage = Stage::Held;
    }

    /// The attempt came to nothing, and `by` may bill it: what was counted, else its input.
    pub fn lost(&mut self, by: &ServedBy, counted: Option<Usage>) {
        self.stage = Stage::Held;
        let usage = counted.unwrap_or(Usage { input_tokens: self.need.input_tokens, ..Usage::default() });
        self.correct(0, usage);
        if let Some(reserve) = &mut self.reserve {
            let cost = reserve.cost(Some(by), usage);
            reserve.lost = reserve.lost.saturating_add(cost);
        }
    }

    /// The answer begins.
    pub fn answering(&mut self) {
        self.stage = Stage::Answering { bytes: 0 };
    }

    /// So many bytes of answer more have come.
    pub fn has_come(&mut self, bytes: usize) {
        let before = if let Stage::Answering { bytes } = self.stage { bytes } else { 0 };
        self.stage = Stage::Answering { bytes: before + bytes as u64 };
    }

    /// So many bytes of answer more have come. Reserves further where they outgrow what is held.
    ///
    /// # Errors
    /// [`Refusal::Budget`] when there is no money for more: the answer must end here.
    pub async fn seen(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.has_come(bytes);
        let tokens = self.output_tokens();
        let Some(reserve) = self.reserve.as_mut().filter(|reserve| tokens > reserve.output_tokens) else {
            return Ok(());
        };
        reserve.extend(tokens).await.map_err(|refusal| self.limits.refused(refusal))
    }

    /// The call is over, and cost what the provider has counted; without a count, what was seen.
    pub fn settle(mut self, usage: Option<Usage>) {
        let usage = usage.unwrap_or_else(|| self.estimate());
        self.conclude(usage);
    }

    fn estimate(&self) -> Usage {
        let Stage::Answering { bytes } = self.stage else {
            return Usage { input_tokens: self.need.input_tokens, ..Usage::default() };
        };
        let most = self.need.max_tokens.map_or(u64::MAX, |most| most.saturating_mul(self.need.choices));
        let output_tokens = bytes.div_ceil(UNBOUNDED_BYTES_PER_TOKEN).min(most);
        Usage { input_tokens: self.need.input_tokens, output_tokens, ..Usage::default() }
    }

    fn output_tokens(&self) -> u64 {
        let Stage::Answering { bytes } = self.stage else { return 0 };
        let bounded = self.need.max_tokens.is_some();
        bytes.div_ceil(if bounded { BOUNDED_BYTES_PER_TOKEN } else { UNBOUNDED_BYTES_PER_TOKEN })
    }

    fn conclude(&mut self, usage: Usage) {
        let cost = self.reserve.as_ref().map(|reserve| reserve.cost(None, usage));
        self.conclude_at(usage, cost.unwrap_or_default());
    }

    fn conclude_at(&mut self, usage: Usage, cost: Money) {
        self.stage = Stage::Over;
        self.correct(self.need.input_tokens, usage);
        if let Some(mut reserve) = self.reserve.take() {
            reserve.settle(cost);
        }
    }

    /// Corrects the buckets of key and address, as they are now, from what was taken to what was used.
    fn correct(&self, taken: u64, usage: Usage) {
        let used = usage.input_tokens.saturating_add(usage.output_tokens);
        let count = used.cast_signed().saturating_sub(taken.cast_signed());
        let limits = &self.limits.inner;
        let meter = self.tokens_of.and_then(|key| limits.keys.known(key));
        if let (Some(key), Some(bucket)) = (self.tokens_of, meter.as_ref().and_then(|meter| meter.tokens.as_ref())) {
            self.limits.correct((key, Measure::Tokens), bucket, count);
        }
        if let Some((addresses, address)) = limits.addresses.as_ref().zip(self.address) {
            addresses.at(address, |meter| {
                if let Some(bucket) = &meter.tokens {
                    bucket.correct(count);
                }
            });
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        match self.stage {
            Stage::Over => {}
            Stage::Held => self.conclude(Usage::default()),
            Stage::Answering { .. } => self.conclude(self.estimate()),
            Stage::Asked => {
                let held = self.reserve.as_ref().map_or(Money::ZERO, Reserve::of_attempt);
                self.conclude_at(self.estimate(), held);
            }
        }
    }
}

impl Reserve {
    /// Reserves for `need`. The work is a task of its own, so that a caller who goes away in the middle leaves no reserve
    /// behind: the task's result is dropped, which gives it back.
    pub(super) async fn make(
        limits: &Limits,
        (key, period): (Uuid, BudgetPeriod),
        need: Need,
        step: u64,
        price: Price,
    ) -> Result<Self, Refusal> {
        let output_tokens = need.max_tokens.unwrap_or(step).saturating_mul(need.choices);
        let usage = Usage { input_tokens: need.input_tokens, output_tokens, ..Usage::default() };
        let nothing = Money::ZERO;
        let (amount, lost, covered) = (nothing, nothing, nothing);
        let limits = limits.clone();
        let mut reserve = Self { limits, key, id: None, price, amount, lost, covered, output_tokens, step };
        reserve.amount = reserve.most(usage);
        let tasks = reserve.limits.inner.tasks.clone();
        let making = tasks.spawn(async move {
            let id = new_id();
            match reserve.once_settled(|| reserve.books().reserve(id, key, period, reserve.amount)).await? {
                Reserved::Yes => {
                    reserve.id = Some(id);
                    Ok(reserve)
                }
                Reserved::Short(left) => Err(Refusal::Budget { needed: reserve.amount, left }),
            }
        });
        making.await.unwrap_or(Err(Refusal::Store(DbError::Closed)))
    }

    /// Holds money for `tokens` of output and a step more.
    async fn extend(&mut self, tokens: u64) -> Result<(), Refusal> {
        let more = (tokens - self.output_tokens).saturating_add(self.step);
        self.add(self.cost(None, Usage { output_tokens: more, ..Usage::default() })).await?;
        self.output_tokens = self.output_tokens.saturating_add(more);
        Ok(())
    }

    /// Holds money for what was lost beside that for the next attempt.
    async fn cover(&mut self) -> Result<(), Refusal> {
        let missing = Money::from_billionths(self.lost.billionths() - self.covered.billionths());
        if missing > Money::ZERO {
            self.add(missing).await?;
            self.covered = self.lost;
        }
        Ok(())
    }

    async fn add(&mut self, amount: Money) -> Result<(), Refusal> {
        let Some(id) = self.id else { return Ok(()) };
        match self.once_settled(|| self.books().extend(id, amount)).await? {
            Reserved::Yes => {
                self.amount = self.amount.saturating_add(amount);
                Ok(())
            }
            Reserved::Short(left) => Err(Refusal::Budget { needed: amount, left }),
        }
    }

    /// What became of a wish. One that falls short while earlier calls of the key are being settled is asked again when
    /// they are: what these did not use is there then.
    async fn once_settled<F>(&self, wish: impl Fn() -> F) -> Result<Reserved, DbError>
    where
        F: Future<Output = Result<Reserved, DbError>>,
    {
        let Some(earlier) = self.settling().of(self.key) else { return wish().await };
        match wish().await? {
            Reserved::Yes => Ok(Reserved::Yes),
            Reserved::Short(_) => {
                self.settling().ended(earlier, PATIENCE).await;
                wish().await
            }
        }
    }

    /// What is held for the running attempt.
    fn of_attempt(&self) -> Money {
        Money::from_billionths(self.amount.billionths().saturating_sub(self.covered.billionths()))
    }

    /// What tokens cost; more than any budget where the price cannot be told any more.
    fn cost(&self, by: Option<&ServedBy>, usage: Usage) -> Money {
        (self.price)(by, usage).and_then(Money::from_usd).unwrap_or(Money::from_billionths(u64::MAX))
    }

    /// What tokens may cost: all of the input may be written to the provider's cache, which may be dearer than reading it.
    fn most(&self, usage: Usage) -> Money {
        self.cost(None, usage).max(self.cost(None, Usage { cache_write_tokens: usage.input_tokens, ..usage }))
    }

    fn books(&self) -> &Spending {
        &self.limits.inner.spending
    }

    fn settling(&self) -> &Arc<Settling> {
        &self.limits.inner.settling
    }

    /// Books the cost and what was lost, in a task: whoever is done with a call does not wait for it. Killed before that is
    /// durable, the reserve is still there at the next start and counts as spent.
    fn settle(&mut self, cost: Money) {
        let Some(id) = self.id.take() else { return };
        let cost = cost.saturating_add(self.lost);
        let limits = self.limits.clone();
        if tokio::runtime::Handle::try_current().is_err() {
            // The process is ending.
            return;
        }
        let settlement = self.settling().begin(self.key);
        self.limits.inner.tasks.spawn(async move {
            let _until_booked = settlement;
            if let Err(error) = limits.inner.spending.settle(id, cost).await {
                limits.inner.metrics.limits_unsettled.inc();
                tracing::error!(%error, "the cost of a call could not be booked; its reserve counts as spent");
            }
        });
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.settle(Money::ZERO);
    }
}
