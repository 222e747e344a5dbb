//! Whose limit holds, and what a refusal says.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::db::{Durability, MigrationSet};
use crate::keys::{Allowance, KeyRole, Keys, Money};
use crate::message::ServedBy;

fn some(number: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(number)
}

/// Limits with a store of their own, which goes with the folder.
struct Fixture {
    limits: Limits,
    keys: Keys,
    tasks: TaskTracker,
    _folder: tempfile::TempDir,
}

async fn fixture(config: LimitsConfig, ticks: &Ticks) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("ish.db"), Durability::Full, MigrationSet::ISH).await.unwrap();
    let (clock, tasks) = (Clock::manual(1_800_000_000_000), TaskTracker::new());
    let keys = Keys::new(db.clone(), clock.clone());
    let metrics = Arc::new(Metrics::new());
    let parts = LimitParts { config, db, shared: None, clock, tasks: tasks.clone(), metrics };
    Fixture { limits: Limits::timed(parts, ticks), keys, tasks, _folder: folder }
}

impl Fixture {
    async fn holder(&self, allowance: Allowance) -> Principal {
        let key = self.keys.create("a test's", "t", KeyRole::User, allowance, None).await.unwrap();
        self.keys.recognise(&key.key).await.unwrap().unwrap()
    }

    /// A dollar a token, either way.
    async fn admit(&self, principal: &Principal, request: &ChatRequest) -> Result<Option<Grant>, Refusal> {
        let price = || -> Price { Arc::new(|_, usage| Some((usage.input_tokens + usage.output_tokens) as f64)) };
        self.limits.admit(principal, request, price).await
    }

    /// What comes of `wish` while the cost of a call that is over is on its way to the store.
    async fn before_it_is_booked<T>(&self, principal: &Principal, over: Grant, wish: impl Future<Output = T>) -> T {
        let spent = async || self.limits.spending().await.unwrap()[&principal.key].spent;
        let before = spent().await;
        let on_its_way = self.limits.inner.settling.begin(principal.key);
        let booked = async {
            over.settle(Some(used(14, 2)));
            while spent().await == before {}
            drop(on_its_way);
        };
        // The wish comes to the store first.
        tokio::join!(wish, booked).0
    }

    /// Dollars spent and reserved, once everything is booked.
    async fn spent(&self, principal: &Principal) -> (f64, f64) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
        let spent = self.limits.spending().await.unwrap().get(&principal.key).copied().unwrap_or_default();
        (spent.spent.usd(), spent.reserved.usd())
    }
}

/// Fourteen tokens of input by our estimate.
fn request(members: &str) -> ChatRequest {
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"What is the capital of France?"}}]{members}}}"#
    );
    ChatRequest::parse(body.into()).unwrap()
}

fn used(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage { input_tokens, output_tokens, ..Usage::default() }
}

fn budget(usd: u32) -> Allowance {
    Allowance { budget: Money::from_usd(f64::from(usd)), max_tokens_default: some(10), ..Allowance::default() }
}

fn holder(key: u128, allowance: Allowance) -> Principal {
    Principal { key: Uuid::from_u128(key), allowance, ..Principal::local() }
}

/// How many of so many requests are taken.
async fn served(limits: &Limits, principal: &Principal, asked: usize) -> usize {
    let mut served = 0;
    for _ in 0..asked {
        served += usize::from(limits.take_request(principal).await.is_ok());
    }
    served
}

#[tokio::test]
async fn a_keys_own_rate_goes_before_the_configured_one() {
    let config = LimitsConfig { requests_per_minute: some(60), request_burst: some(2), ..LimitsConfig::default() };
    let limits = fixture(config, &Ticks::manual()).await.limits;
    let faster = Allowance { requests_per_minute: some(7), ..Allowance::default() };
    let larger = Allowance { request_burst: some(5), ..Allowance::default() };
    let each_has_its_own = [(1, Allowance::default(), 2), (2, Allowance::default(), 2), (3, faster, 7), (4, larger, 5)];
    for (key, allowance, most) in each_has_its_own {
        assert_eq!(served(&limits, &holder(key, allowance), 100).await, most);
    }
}

#[tokio::test]
async fn nothing_configured_limits_nobody_and_keeps_nothing() {
    let limits = fixture(LimitsConfig::default(), &Ticks::manual()).await.limits;
    let principal = holder(1, Allowance::default());
    assert_eq!(served(&limits, &principal, 1_000).await, 1_000);
    assert!((0..1_000).all(|_| limits.take_address(IpAddr::from([192, 0, 2, 1])).is_ok()));
    assert_eq!((limits.standing(&principal), limits.inner.keys.len()), (None, 0));
}

#[tokio::test]
async fn a_refusal_says_what_was_asked_and_when_to_come_back() {
    let ticks = Ticks::manual();
    let config = LimitsConfig { requests_per_minute: some(1), ..LimitsConfig::default() };
    let limits = fixture(config, &ticks).await.limits;
    let principal = holder(1, Allowance::default());
    limits.take_request(&principal).await.unwrap();
    let refusal = limits.take_request(&principal).await.unwrap_err();
    assert_eq!(refusal.code(), "rate_limit_exceeded");
    assert!(refusal.to_string().starts_with("rate limit reached on requests per minute: limit 1, requested 1;"));
    ticks.advance(refusal.retry_after().unwrap());
    limits.take_request(&principal).await.unwrap();
}

fn tokens(per_minute: u32) -> LimitsConfig {
    LimitsConfig { tokens_per_minute: some(per_minute), ..LimitsConfig::default() }
}

#[tokio::test]
async fn tokens_are_estimated_before_and_corrected_after() {
    let fixture = fixture(tokens(100), &Ticks::manual()).await;
    let principal = holder(1, Allowance::default());
    let left = || fixture.limits.standing(&principal).unwrap().tokens.unwrap().remaining;
    let grant = fixture.admit(&principal, &request("")).await.unwrap().unwrap();
    assert_eq!(left(), 86);
    grant.settle(Some(used(10, 20)));
    assert_eq!(left(), 70);
    let grant = fixture.admit(&principal, &request("")).await.unwrap().unwrap();
    grant.settle(Some(used(4, 1)));
    assert_eq!(left(), 65, "what was not used comes back");
    drop(fixture.admit(&principal, &request("")).await.unwrap());
    assert_eq!(left(), 65, "nobody was asked");
    fixture.admit(&principal, &request("")).await.unwrap().unwrap().settle(Some(used(10, 500)));
    assert_eq!(left(), 0);
    let refusal = fixture.admit(&principal, &request("")).await.err().unwrap();
    assert_eq!((refusal.code(), refusal.reason()), ("rate_limit_exceeded", "tokens"));
    assert!(refusal.retry_after() > Some(Duration::from_mins(4)), "{refusal}");
}

#[tokio::test]
async fn an_address_has_tokens_of_its_own_whatever_key_is_used_there() {
    let config = LimitsConfig { address_tokens_per_minute: some(100), ..LimitsConfig::default() };
    let fixture = fixture(config, &Ticks::manual()).await;
    let from =
        |key: u128, last: u8| holder(key, Allowance::default()).from_address(Some(IpAddr::from([192, 0, 2, last])));
    let left = |principal: &Principal| fixture.limits.standing(principal).unwrap().tokens.unwrap().remaining;
    let (one, other) = (from(1, 1), from(2, 1));
    fixture.admit(&one, &request("")).await.unwrap().unwrap().settle(Some(used(20, 30)));
    assert_eq!((left(&one), left(&other), left(&from(1, 2))), (50, 50, 100));
    drop(fixture.admit(&other, &request("")).await.unwrap());
    assert_eq!(left(&other), 50, "nobody was asked");
    fixture.admit(&other, &request("")).await.unwrap().unwrap().settle(Some(used(14, 30)));
    let refusal = fixture.admit(&one, &request("")).await.err().unwrap();
    assert_eq!((refusal.code(), refusal.reason()), ("rate_limit_exceeded", "address"));
    assert!(refusal.to_string().starts_with("rate limit reached on tokens per minute of this address"), "{refusal}");
    let inside = holder(1, Allowance::default());
    assert!(fixture.admit(&inside, &request("")).await.unwrap().is_none(), "what comes from nowhere is not limited");
}

#[tokio::test]
async fn what_an_address_has_no_tokens_for_takes_none_of_its_key() {
    let config = LimitsConfig { address_tokens_per_minute: some(20), ..tokens(100) };
    let fixture = fixture(config, &Ticks::manual()).await;
    let principal = holder(1, Allowance::default()).from_address(Some(IpAddr::from([192, 0, 2, 1])));
    fixture.admit(&principal, &request("")).await.unwrap().unwrap().settle(Some(used(14, 0)));
    assert!(fixture.admit(&principal, &request("")).await.is_err());
    let elsewhere = holder(1, Allowance::default());
    let left = |principal: &Principal| fixture.limits.standing(principal).unwrap().tokens.unwrap().remaining;
    assert_eq!((left(&elsewhere), left(&principal)), (86, 6), "the one that has less left is told");
}

#[tokio::test]
async fn a_request_that_can_never_pass_is_not_asked_to_come_back() {
    let fixture = fixture(tokens(13), &Ticks::manual()).await;
    let refusal = fixture.admit(&holder(1, Allowance::default()), &request("")).await.err().unwrap();
    assert_eq!((refusal.reason(), refusal.retry_after()), ("too_large", None));
}

#[tokio::test]
async fn money_is_held_before_and_settled_after() {
    let fixture = fixture(LimitsConfig::default(), &Ticks::manual()).await;
    let principal = fixture.holder(budget(100)).await;
    let grant = fixture.admit(&principal, &request(r#","max_tokens":50"#)).await.unwrap().unwrap();
    assert!(!grant.must_watch());
    assert_eq!(fixture.spent(&principal).await, (0.0, 64.0));
    let refusal = fixture.admit(&principal, &request(r#","max_tokens":50"#)).await.err().unwrap();
    assert_eq!((refusal.code(), refusal.is_retryable()), ("insufficient_quota", false));
    assert!(refusal.to_string().contains("$36.000000"), "{refusal}");
    grant.settle(Some(used(13, 7)));
    assert_eq!(fixture.spent(&principal).await, (20.0, 0.0));
    let grant = fixture.admit(&principal, &request(r#","n":2"#)).await.unwrap().unwrap();
    assert!(grant.must_watch());
    assert_eq!(fixture.spent(&principal).await, (20.0, 34.0), "the key's default, for each answer");
    drop(grant);
    assert_eq!(fixture.spent(&principal).await, (20.0, 0.0), "nobody was asked");
}

/// An answer is with its reader before its cost is in the store.
#[tokio::test]
async fn who_asks_again_at_once_is_not_refused_for_a_call_that_is_over() {
    let fixture = fixture(LimitsConfig::default(), &Ticks::manual()).await;
    let principal = fixture.holder(budget(100)).await;
    let over = fixture.admit(&principal, &request(r#","max_tokens":80"#)).await.unwrap().unwrap();
    let question = request("");
    let refusal = fixture.admit(&principal, &question).await.err().unwrap();
    assert_eq!(refusal.code(), "insufficient_quota", "a call is under way, and none is being settled");
    let again = fixture.before_it_is_booked(&principal, over, fixture.admit(&principal, &question)).await;
    let mut again = again.unwrap().unwrap();
    again.answering();
    let over = fixture.admit(&principal, &request(r#","max_tokens":40"#)).await.unwrap().unwrap();
    let grown = fixture.before_it_is_booked(&principal, over, again.seen(60)).await;
    grown.expect("an answer that outgrows its reserve waits too");
    again.settle(Some(used(14, 20)));
    assert_eq!(fixture.spent(&principal).await, (16.0 + 16.0 + 34.0, 0.0));
}

#[tokio::test]
async fn who_leaves_in_the_middle_pays_what_was_seen_else_what_was_held() {
    let fixture = fixture(LimitsConfig::default(), &Ticks::manual()).await;
    let principal = fixture.holder(budget(1_000)).await;
    let mut grant = fixture.admit(&principal, &request("")).await.unwrap().unwrap();
    grant.asked().await.unwrap();
    drop(grant);
    assert_eq!(fixture.spent(&principal).await, (24.0, 0.0));
    let mut grant = fixture.admit(&principal, &request("")).await.unwrap().unwrap();
    grant.answering();
    grant.seen(9).await.unwrap();
    drop(grant);
    assert_eq!(fixture.spent(&principal).await, (24.0 + 14.0 + 3.0, 0.0));
}

fn provider(name: &str) -> ServedBy {
    ServedBy { provider: name.into(), model: "m".into() }
}

#[tokio::test]
async fn an_attempt_that_may_be_billed_is_paid_beside_the_one_that_answers() {
    let fixture = fixture(LimitsConfig::default(), &Ticks::manual()).await;
    let principal = fixture.holder(budget(1_000)).await;
    // A dollar a token, and three at the dear one; what will answer is as dear as that.
    let price = || -> Price {
        let dollars = |by: Option<&ServedBy>| if by.is_some_and(|by| &*by.provider == "cheap") { 1.0 } else { 3.0 };
        Arc::new(move |by, usage| Some(dollars(by) * (usage.input_tokens + usage.output_tokens) as f64))
    };
    let admit = || async { fixture.limits.admit(&principal, &request(""), price).await.unwrap().unwrap() };
    let mut grant = admit().await;
    grant.asked().await.unwrap();
    grant.lost(&provider("cheap"), None);
    assert_eq!(fixture.spent(&principal).await, (0.0, 72.0));
    grant.asked().await.unwrap();
    assert_eq!(fixture.spent(&principal).await, (0.0, 72.0 + 14.0), "beside what the next one may cost");
    grant.refused();
    grant.asked().await.unwrap();
    assert_eq!(fixture.spent(&principal).await, (0.0, 72.0 + 14.0), "once");
    grant.lost(&provider("dear"), Some(used(2, 3)));
    grant.asked().await.unwrap();
    assert_eq!(fixture.spent(&principal).await, (0.0, 72.0 + 14.0 + 15.0));
    grant.answering();
    grant.settle(Some(used(10, 2)));
    assert_eq!(fixture.spent(&principal).await, (36.0 + 14.0 + 15.0, 0.0));
    let mut left = admit().await;
    left.asked().await.unwrap();
    left.lost(&provider("cheap"), None);
    drop(left);
    assert_eq!(
        fixture.spent(&principal).await,
        (65.0 + 14.0, 0.0),
        "who leaves before the next attempt pays the lost one"
    );
    let mut left = admit().await;
    left.asked().await.unwrap();
    left.lost(&provider("cheap"), None);
    left.asked().await.unwrap();
    drop(left);
    assert_eq!(fixture.spent(&principal).await, (79.0 + 14.0 + 72.0, 0.0), "and who leaves in it, its reserve too");
}

#[tokio::test]
async fn what_may_be_written_to_a_providers_cache_is_held_at_its_price() {
    let fixture = fixture(LimitsConfig::default(), &Ticks::manual()).await;
    let principal = fixture.holder(budget(100)).await;
    let dear = || -> Price {
        Arc::new(|_, usage| {
            let fresh = usage.input_tokens - usage.cache_write_tokens;
            Some((fresh + 2 * usage.cache_write_tokens + usage.output_tokens) as f64)
        })
    };
    let grant = fixture.limits.admit(&principal, &request(""), dear).await.unwrap().unwrap();
    assert_eq!(fixture.spent(&principal).await, (0.0, 2.0 * 14.0 + 10.0));
    grant.settle(Some(Usage { cache_write_tokens: 8, ..used(10, 3) }));
    assert_eq!(fixture.spent(&principal).await, (2.0 + 16.0 + 3.0, 0.0));
}

#[tokio::test]
async fn where_there_is_no_money_for_another_attempt_none_is_made() {
    let fixture = fixture(LimitsConfig::default(), &Ticks::manual()).await;
    let principal = fixture.holder(budget(30)).await;
    let mut grant = fixture.admit(&principal, &request("")).await.unwrap().unwrap();
    grant.asked().await.unwrap();
    grant.lost(&provider("any"), None);
    assert_eq!(grant.asked().await.unwrap_err().code(), "insufficient_quota");
    drop(grant);
    assert_eq!(fixture.spent(&principal).await, (14.0, 0.0));
}

#[tokio::test]
async fn a_lost_attempt_takes_of_the_rate_too_and_of_the_bucket_that_there_is_then() {
    let fixture = fixture(LimitsConfig::default(), &Ticks::manual()).await;
    let principal = holder(1, Allowance { tokens_per_minute: some(100), ..Allowance::default() });
    let left = |principal: &Principal| fixture.limits.standing(principal).unwrap().tokens.unwrap().remaining;
    let mut grant = fixture.admit(&principal, &request("")).await.unwrap().unwrap();
    grant.asked().await.unwrap();
    grant.lost(&provider("any"), None);
    assert_eq!(left(&principal), 100 - 14 - 14);
    let allowance = Allowance { tokens_per_minute: some(50), ..Allowance::default() };
    let changed = Principal { allowance, as_of: 1, ..principal };
    assert_eq!(left(&changed), 36, "half of it");
    grant.settle(Some(used(14, 6)));
    assert_eq!(left(&changed), 30);
}

#[tokio::test]
async fn an_answer_that_outgrows_its_reserve_holds_more_until_there_is_no_more() {
    let fixture = fixture(LimitsConfig::default(), &Ticks::manual()).await;
    let principal = fixture.holder(budget(50)).await;
    let mut grant = fixture.admit(&principal, &request("")).await.unwrap().unwrap();
    grant.answering();
    grant.seen(30).await.unwrap();
    assert_eq!(fixture.spent(&principal).await, (0.0, 24.0));
    grant.seen(3).await.unwrap();
    assert_eq!(fixture.spent(&principal).await, (0.0, 35.0));
    let refusal = grant.seen(60).await.unwrap_err();
    assert_eq!(refusal.code(), "insufficient_quota");
    assert_eq!(fixture.spent(&principal).await, (0.0, 35.0));
    grant.settle(None);
    assert_eq!(fixture.spent(&principal).await, (14.0 + 31.0, 0.0), "what was seen is paid");
}

#[tokio::test]
async fn under_a_budget_a_model_needs_a_price() {
    let fixture = fixture(LimitsConfig::default(), &Ticks::manual()).await;
    let principal = fixture.holder(budget(50)).await;
    let free = || -> Price { Arc::new(|_, _| None) };
    let refusal = fixture.limits.admit(&principal, &request(""), free).await.err().unwrap();
    assert_eq!((refusal.code(), refusal.retry_after()), ("model_without_price", None));
    let others = holder(9, Allowance { tokens_per_minute: some(50), ..Allowance::default() });
    assert!(fixture.limits.admit(&others, &request(""), free).await.unwrap().is_some());
}

proptest! {
    #[test]
    fn a_wait_grows_by_a_quarter_at_most_and_never_shrinks(ms in 0_u64..600_000, jitter in 0.0..1.0_f64) {
        let wait = Duration::from_millis(ms);
        let spread = spread(wait, jitter);
        prop_assert!(spread >= wait && spread <= wait.mul_f64(1.25) + Duration::from_millis(51));
    }
}
