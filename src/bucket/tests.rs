//! What a bucket serves, what corrections do to it, and that nothing overflows.

use std::sync::Barrier;

use proptest::prelude::*;

use super::*;

fn some(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// Burst + rate × time, in whole ones; time in nanoseconds.
fn bound(per_minute: u32, burst: u32, elapsed: Duration) -> u64 {
    let earned = u128::from(per_minute) * elapsed.as_nanos() / 60_000_000_000;
    u64::from(burst) + u64::try_from(earned).unwrap()
}

#[test]
fn a_full_bucket_gives_its_burst_and_then_its_rate() {
    let ticks = Ticks::manual();
    let bucket = Bucket::new(Rate::new(some(60), Some(some(3))), ticks.clone());
    assert_eq!(bucket.level(), Level { limit: 60, remaining: 3, reset: Duration::ZERO });
    for _ in 0..3 {
        assert_eq!(bucket.take(some(1)), Taken::Yes);
    }
    assert_eq!(bucket.take(some(1)), Taken::Later(Duration::from_secs(1)));
    assert_eq!(bucket.level(), Level { limit: 60, remaining: 0, reset: Duration::from_secs(3) });
    ticks.advance(Duration::from_millis(999));
    assert_eq!(bucket.take(some(1)), Taken::Later(Duration::from_millis(1)));
    ticks.advance(Duration::from_millis(1));
    assert_eq!((bucket.take(some(1)), bucket.is_full()), (Taken::Yes, false));
    ticks.advance(Duration::from_secs(3));
    assert!(bucket.is_full());
    assert_eq!(bucket.take(some(4)), Taken::Never);
}

#[test]
fn a_correction_is_paid_by_who_comes_next() {
    let ticks = Ticks::manual();
    let bucket = Bucket::new(Rate::new(some(60), Some(some(10))), ticks.clone());
    assert_eq!(bucket.take(some(4)), Taken::Yes);
    bucket.charge(16);
    assert_eq!((bucket.level().remaining, bucket.level().reset), (0, Duration::from_secs(20)));
    assert_eq!(bucket.take(some(1)), Taken::Later(Duration::from_secs(11)));
    bucket.give_back(12);
    assert_eq!(bucket.take(some(2)), Taken::Yes);
    bucket.give_back(1_000);
    assert_eq!((bucket.level().remaining, bucket.take(some(11))), (10, Taken::Never), "never more than its burst");
}

#[test]
fn rates_without_measure_do_not_overflow() {
    for (per_minute, burst) in [(1, u32::MAX), (u32::MAX, u32::MAX), (u32::MAX, 1)] {
        let bucket = Bucket::new(Rate::new(some(per_minute), Some(some(burst))), Ticks::manual());
        assert_ne!(bucket.take(some(u32::MAX)), Taken::Later(Duration::ZERO));
        bucket.charge(u64::MAX);
        assert_eq!(bucket.level().remaining, 0);
    }
}

#[test]
fn another_rate_keeps_the_share_and_gives_nothing_away() {
    let rate = |per_minute, burst| Rate::new(some(per_minute), Some(some(burst)));
    let left = |taken: u32, to: Rate| {
        let bucket = Bucket::new(rate(60, 10), Ticks::manual());
        assert_eq!(bucket.take(some(taken)), Taken::Yes);
        bucket.at_rate(to).level().remaining
    };
    assert_eq!(left(5, rate(60, 4)), 2, "half of it");
    assert_eq!(left(5, rate(600, 100)), 5, "no more than was left");
    assert_eq!(left(10, rate(600, 100)), 0);
    let in_debt = Bucket::new(rate(60, 10), Ticks::manual());
    in_debt.charge(25);
    let next = in_debt.at_rate(rate(120, 20));
    assert_eq!((next.level().remaining, next.take(some(1))), (0, Taken::Later(Duration::from_secs(8))));
}

/// What may happen to a bucket.
#[derive(Debug, Clone)]
enum Deed {
    Take(u32),
    Charge(u64),
    GiveBack(u64),
    Wait(u64),
    Change(u32, u32),
}

fn deed() -> impl Strategy<Value = Deed> {
    let rates = prop_oneof![Just(1), Just(u32::MAX), 1..=u32::MAX];
    let counts = prop_oneof![Just(0), Just(u64::MAX), Just(i64::MAX as u64), any::<u64>(), 0..1_000_u64];
    prop_oneof![
        (1..=u32::MAX).prop_map(Deed::Take),
        (1..20_u32).prop_map(Deed::Take),
        counts.clone().prop_map(Deed::Charge),
        counts.prop_map(Deed::GiveBack),
        (0..nanoseconds(SLOWEST_REFILL)).prop_map(Deed::Wait),
        (rates.clone(), rates).prop_map(|(per_minute, burst)| Deed::Change(per_minute, burst)),
    ]
}

proptest! {
    /// No number that a provider counts or an operator writes overflows, locks a key for more than a year, or fills a
    /// bucket beyond its burst.
    #[test]
    fn whatever_is_counted_stays_within_bounds(
        per_minute in 1..=u32::MAX,
        burst in 1..=u32::MAX,
        deeds in proptest::collection::vec(deed(), 1..40),
    ) {
        let ticks = Ticks::manual();
        let mut bucket = Bucket::new(Rate::new(some(per_minute), Some(some(burst))), ticks.clone());
        for deed in deeds {
            match deed {
                Deed::Take(count) => {
                    bucket.take(some(count));
                }
                Deed::Charge(count) => bucket.charge(count),
                Deed::GiveBack(count) => bucket.give_back(count),
                Deed::Wait(nanoseconds) => ticks.advance(Duration::from_nanos(nanoseconds)),
                Deed::Change(per_minute, burst) => {
                    let left = bucket.level().remaining;
                    bucket = bucket.at_rate(Rate::new(some(per_minute), Some(some(burst))));
                    prop_assert!(bucket.level().remaining <= left);
                }
            }
            let level = bucket.level();
            prop_assert!(level.remaining <= bucket.rate().burst() && level.reset <= SLOWEST_REFILL, "{level:?}");
        }
        ticks.advance(SLOWEST_REFILL);
        prop_assert!(bucket.is_full());
        prop_assert_eq!(bucket.take(some(bucket.rate().burst())), Taken::Yes);
    }

    #[test]
    fn serves_at_most_burst_and_rate_times_time(
        per_minute in 1_u32..10_000,
        burst in 1_u32..200,
        steps in proptest::collection::vec((0_u64..3_000_000_000, 1_u32..40), 1..200),
    ) {
        let ticks = Ticks::manual();
        let bucket = Bucket::new(Rate::new(some(per_minute), Some(some(burst))), ticks.clone());
        let (mut served, mut elapsed) = (0, Duration::ZERO);
        for (pause, count) in steps {
            ticks.advance(Duration::from_nanos(pause));
            elapsed += Duration::from_nanos(pause);
            if bucket.take(some(count)) == Taken::Yes {
                served += u64::from(count);
            }
            prop_assert!(served <= bound(per_minute, burst, elapsed));
        }
    }

    #[test]
    fn who_waits_as_long_as_told_is_served(per_minute in 1_u32..10_000, burst in 1_u32..200, counts in proptest::collection::vec(1_u32..200, 1..50)) {
        let ticks = Ticks::manual();
        let bucket = Bucket::new(Rate::new(some(per_minute), Some(some(burst))), ticks.clone());
        for count in counts.into_iter().map(|count| some(count.min(burst))) {
            if let Taken::Later(wait) = bucket.take(count) {
                ticks.advance(wait.saturating_sub(Duration::from_nanos(1)));
                prop_assert_ne!(bucket.take(count), Taken::Yes, "no earlier");
                ticks.advance(Duration::from_nanos(1));
                prop_assert_eq!(bucket.take(count), Taken::Yes);
            }
        }
    }
}

#[test]
fn many_at_once_are_served_no_more() {
    let ticks = Ticks::manual();
    let (per_minute, burst) = (600, 50);
    let bucket = Bucket::new(Rate::new(some(per_minute), Some(some(burst))), ticks.clone());
    let (served, rounds, callers) = (AtomicU64::new(0), 20, 8);
    let barrier = Barrier::new(callers);
    std::thread::scope(|scope| {
        for caller in 0..callers {
            let (bucket, served, barrier, ticks) = (&bucket, &served, &barrier, &ticks);
            scope.spawn(move || {
                for round in 1..=rounds {
                    barrier.wait();
                    for _ in 0..30 {
                        let taken = bucket.take(some(1)) == Taken::Yes;
                        served.fetch_add(u64::from(taken), Ordering::SeqCst);
                    }
                    if barrier.wait().is_leader() {
                        // All have asked for more than there was: what was served is the bound, to the last one.
                        let elapsed = Duration::from_millis(550) * (round - 1);
                        assert_eq!(served.load(Ordering::SeqCst), bound(per_minute, burst, elapsed), "{caller}");
                        ticks.advance(Duration::from_millis(550));
                    }
                }
            });
        }
    });
}
