//! Whose limit holds, and what a refusal says.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::keys::Allowance;

fn some(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

fn limits(config: LimitsConfig, ticks: &Ticks) -> Limits {
    Limits::timed(config, Arc::new(Metrics::new()), ticks)
}

fn holder(key: u128, allowance: Allowance) -> Principal {
    Principal { key: Uuid::from_u128(key), allowance, ..Principal::local() }
}

#[test]
fn a_keys_own_rate_goes_before_the_configured_one() {
    let config = LimitsConfig { requests_per_minute: some(60), request_burst: some(2), ..LimitsConfig::default() };
    let limits = limits(config, &Ticks::manual());
    let served = |principal: &Principal| (0..100).filter(|_| limits.take_request(principal).is_ok()).count();
    assert_eq!(served(&holder(1, Allowance::default())), 2);
    assert_eq!(served(&holder(2, Allowance::default())), 2, "each key has its own");
    assert_eq!(served(&holder(3, Allowance { requests_per_minute: some(7), ..Allowance::default() })), 7);
    assert_eq!(served(&holder(4, Allowance { request_burst: some(5), ..Allowance::default() })), 5);
}

#[test]
fn nothing_configured_limits_nobody_and_keeps_nothing() {
    let limits = limits(LimitsConfig::default(), &Ticks::manual());
    let principal = holder(1, Allowance::default());
    assert!((0..1_000).all(|_| limits.take_request(&principal).is_ok()));
    assert!((0..1_000).all(|_| limits.take_address(IpAddr::from([192, 0, 2, 1])).is_ok()));
    assert_eq!((limits.standing(&principal), limits.inner.keys.len()), (None, 0));
}

#[test]
fn a_refusal_says_what_was_asked_and_when_to_come_back() {
    let ticks = Ticks::manual();
    let limits = limits(LimitsConfig { requests_per_minute: some(1), ..LimitsConfig::default() }, &ticks);
    let principal = holder(1, Allowance::default());
    limits.take_request(&principal).unwrap();
    let refusal = limits.take_request(&principal).unwrap_err();
    assert_eq!(refusal.code(), "rate_limit_exceeded");
    assert!(refusal.to_string().starts_with("rate limit reached on requests per minute: limit 1, requested 1;"));
    ticks.advance(refusal.retry_after().unwrap());
    limits.take_request(&principal).unwrap();
}

proptest! {
    #[test]
    fn a_wait_grows_by_a_quarter_at_most_and_never_shrinks(ms in 0_u64..600_000, jitter in 0.0..1.0_f64) {
        let wait = Duration::from_millis(ms);
        let spread = spread(wait, jitter);
        prop_assert!(spread >= wait && spread <= wait.mul_f64(1.25) + Duration::from_millis(51));
    }
}
