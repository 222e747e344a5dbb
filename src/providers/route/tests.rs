//! Who is asked first, by randomness that is spread evenly: shares are exact, not likely.

use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::prices::Prices;
use crate::providers::Demo;
use crate::providers::breaker::BreakerSettings;
use crate::providers::target::{Bounds, CallLimits, Health, HealthParts};

fn parts(clock: &Clock) -> HealthParts {
    let minute = Duration::from_mins(1);
    HealthParts {
        breaker: BreakerSettings { failures: 1, open: minute, max_open: minute },
        retry_share: 0.2,
        metrics: Arc::new(Metrics::new()),
        prices: Arc::new(Prices::default()),
        clock: clock.clone(),
        max_retry_after: Duration::from_secs(10),
    }
}

/// Targets with these weights.
fn route(strategy: Strategy, weights: &[u32], clock: &Clock) -> Route {
    let parts = parts(clock);
    let target = |(number, weight): (usize, &u32)| {
        let model = format!("m{number}");
        let health = Health::named("demo", &model, Bounds::default(), parts.clone());
        let limits = CallLimits { first_token: Duration::from_mins(1), whole: Duration::from_mins(1) };
        let target = Target { provider: Arc::new(Demo::default()), model: model.into(), health, limits };
        Weighted { target: Arc::new(target), weight: *weight }
    };
    Route::new(strategy, weights.iter().enumerate().map(target).collect())
}

/// How often each target is the first, over `count` numbers spread evenly over `from..to`.
fn firsts(route: &Route, count: usize, (from, to): (f64, f64)) -> Vec<usize> {
    let mut firsts = vec![0; route.len()];
    for number in 0..count {
        let random = from + (to - from) * (number as f64 + 0.5) / count as f64;
        let (index, _) = route.pick(|| random, |_| true).unwrap();
        firsts[index] += 1;
    }
    firsts
}

#[test]
fn a_weight_is_a_share_to_the_last_request() {
    let weighted = route(Strategy::Weighted, &[1, 3, 6], &Clock::manual(0));
    assert_eq!(firsts(&weighted, 1_000, (0.0, 1.0)), [100, 300, 600]);
    let alone = route(Strategy::Weighted, &[1, u32::MAX], &Clock::manual(0));
    assert_eq!(firsts(&alone, 1_000, (0.0, 1.0)), [0, 1_000]);
}

#[test]
fn the_others_follow_in_the_order_of_the_list() {
    let weighted = route(Strategy::Weighted, &[1, 1, 1, 1], &Clock::manual(0));
    let order = |random: f64| {
        let mut tried = Vec::new();
        while tried.len() < weighted.len() {
            let (next, _) = weighted.pick(|| random, |index| !tried.contains(&index)).unwrap();
            tried.push(next);
        }
        tried
    };
    assert_eq!((order(0.6), order(0.0)), (vec![2, 0, 1, 3], vec![0, 1, 2, 3]));
}

#[test]
fn a_target_that_is_open_leaves_its_share_to_the_first_of_the_others() {
    let weighted = route(Strategy::Weighted, &[1, 1, 2], &Clock::manual(0));
    let (index, mut permit) = weighted.pick(|| 0.9, |_| true).unwrap();
    permit.failed(&crate::upstream::Failure::new(crate::upstream::FailureKind::Server, "a test's"));
    assert_eq!((index, firsts(&weighted, 100, (0.0, 1.0))), (2, vec![75, 25, 0]));
}

/// Who asks for more than its budget takes no turns from the others.
#[test]
fn a_turn_without_a_call_takes_nothing_of_the_rate() {
    let bounds = Bounds { requests: std::num::NonZeroU32::new(1), ..Bounds::default() };
    let health = Health::named("demo", "m", bounds, parts(&Clock::manual(0)));
    let limits = CallLimits { first_token: Duration::from_mins(1), whole: Duration::from_mins(1) };
    let target = Target { provider: Arc::new(Demo::default()), model: "m".into(), health, limits };
    drop(target.admit().unwrap());
    let mut permit = target.admit().unwrap();
    permit.used();
    permit.failed(&crate::upstream::Failure::new(crate::upstream::FailureKind::Unsupported, "a test's"));
    drop(permit);
    target.admit().unwrap().used();
    assert!(matches!(target.admit().err(), Some(Refused::Paced { .. })));
}

#[test]
fn a_slow_target_loses_is_asked_now_and_then_and_recovers() {
    let clock = Clock::manual(1_000);
    let route = route(Strategy::LowestLatency, &[1, 1], &clock);
    let measure = |index: usize, ms| route.target(index).health.measure(Duration::from_millis(ms));
    let chosen = (EXPLORED, 1.0);
    assert_eq!(firsts(&route, 100, chosen), [100, 0], "one that was never asked is the first");
    measure(0, 400);
    assert_eq!(firsts(&route, 100, chosen), [0, 100]);
    measure(1, 100);
    assert_eq!(firsts(&route, 100, chosen), [0, 100], "it loses");
    assert_eq!(firsts(&route, 1_000, (0.0, 1.0)), [25, 975], "and gets its share of one in twenty");
    let mut asked_again = 0;
    while firsts(&route, 100, chosen) == [0, 100] {
        // By chance, some seconds after the last time.
        clock.advance(Duration::from_secs(15));
        measure(0, 20);
        asked_again += 1;
    }
    assert_eq!((asked_again, firsts(&route, 100, chosen)), (3, vec![100, 0]), "400, 210, 115, 67 ms");
}

#[test]
fn one_slow_answer_among_many_changes_little() {
    let clock = Clock::manual(1_000);
    let route = route(Strategy::LowestLatency, &[1, 1], &clock);
    let measure = |index: usize, ms| route.target(index).health.measure(Duration::from_millis(ms));
    measure(0, 100);
    measure(1, 150);
    measure(0, 400);
    assert_eq!(firsts(&route, 100, (EXPLORED, 1.0)), [100, 0], "137 ms");
}
