//! What the caches promise whoever keeps something in them, on memory alone.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Notify, Semaphore};

use super::*;

const TTL: Duration = Duration::from_mins(1);

struct Fixture {
    memo: Memo,
    clock: Clock,
    metrics: Arc<Metrics>,
}

fn fixture() -> Fixture {
    let (clock, metrics) = (Clock::manual(1_000), Arc::new(Metrics::new()));
    let memo = Memo::new(MemoParts {
        config: MemoConfig::default(),
        clock: clock.clone(),
        metrics: Arc::clone(&metrics),
        shared: None,
    });
    Fixture { memo, clock, metrics }
}

impl Fixture {
    fn count(&self, outcome: &str) -> u64 {
        self.metrics.memo_lookups.with_label_values(&["general", outcome]).get()
    }
}

fn key(name: &str) -> Key {
    Key::of("test", 1, Scope::Public, name)
}

/// Says how often it was asked.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn next(&self) -> Ready<Result<usize, &'static str>> {
        ready(Ok(self.0.fetch_add(1, Ordering::SeqCst) + 1))
    }

    fn calls(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_value_is_made_once_within_its_time() {
    let fixture = fixture();
    let (memo, made) = (&fixture.memo, Counted::default());
    for expected in [1, 1] {
        assert_eq!(memo.cached(&key("a"), TTL, || made.next()).await, Ok(expected));
    }
    assert_eq!(memo.cached(&key("b"), TTL, || made.next()).await, Ok(2), "another key");
    fixture.clock.advance(TTL / 2);
    assert_eq!(memo.get::<usize>(&key("a")).await, Some(1));
    fixture.clock.advance(TTL / 2);
    assert_eq!(memo.get::<usize>(&key("a")).await, None);
    assert_eq!(memo.cached(&key("a"), TTL, || made.next()).await, Ok(3));
    assert_eq!((fixture.count("l1"), fixture.count("miss")), (2, 4));
}

#[tokio::test]
async fn where_nobody_says_for_how_long_its_space_does() {
    let fixture = fixture();
    let (general, queries) = (key("a"), key("a").within(Space::Queries));
    let made = || async { Ok::<_, Infallible>(7) };
    assert_eq!(fixture.memo.with(&general).run(made).await, Ok(7));
    assert_eq!(fixture.memo.with(&queries).run(made).await, Ok(7));
    fixture.clock.advance(Duration::from_mins(30));
    assert_eq!(fixture.memo.get(&general).await, Some(7));
    assert_eq!(fixture.memo.get::<i32>(&queries).await, None);
}

#[tokio::test]
async fn errors_are_not_kept() {
    let fixture = fixture();
    let memo = &fixture.memo;
    assert_eq!(memo.cached(&key("a"), TTL, || async { Err::<usize, _>("no") }).await, Err("no"));
    assert_eq!(memo.cached(&key("a"), TTL, || async { Ok::<_, &str>(1_usize) }).await, Ok(1));
}

#[tokio::test]
async fn what_is_set_is_got_until_it_is_deleted() {
    let fixture = fixture();
    let memo = &fixture.memo;
    memo.set(&key("a"), TTL, "x".to_owned());
    memo.set(&key("b"), TTL, "y".to_owned());
    assert_eq!(memo.get::<String>(&key("a")).await.as_deref(), Some("x"));
    assert_eq!(memo.get::<u32>(&key("a")).await, None, "it is another type");
    memo.delete(&key("a")).await.unwrap();
    assert_eq!(memo.get::<String>(&key("a")).await, None);
    assert_eq!(memo.get::<String>(&key("b")).await.as_deref(), Some("y"));
    memo.clear(Space::Queries).await.unwrap();
    assert!(memo.get::<String>(&key("b")).await.is_some());
    memo.clear(Space::General).await.unwrap();
    assert!(memo.get::<String>(&key("b")).await.is_none());
}

#[tokio::test]
async fn a_value_falls_with_each_of_its_tags() {
    let fixture = fixture();
    let (memo, made) = (&fixture.memo, Counted::default());
    let tags = ["orders", "people"].map(|name| Tag::of(Scope::Tenant("t"), name));
    let key = key("a");
    let get = || memo.with(&key).tags(&tags).run(|| made.next());
    assert_eq!((get().await, get().await), (Ok(1), Ok(1)));
    memo.invalidate_tags(&tags[1..]).await.unwrap();
    assert_eq!((get().await, get().await), (Ok(2), Ok(2)));
    memo.invalidate_tags(&[Tag::of(Scope::Tenant("u"), "orders")]).await.unwrap();
    assert_eq!(get().await, Ok(2), "another tenant's");
}

/// A reader must find what was written before it began to read, also where an earlier reader is still at it.
#[tokio::test]
async fn who_comes_after_a_fall_does_not_join_who_began_before_it() {
    let fixture = fixture();
    let (memo, key, tags) = (&fixture.memo, key("a"), [Tag::of(Scope::Public, "t")]);
    let (begun, go_on) = (Notify::new(), Notify::new());
    let (old, new) = (1, 2);
    let early = memo.with(&key).tags(&tags).run(|| async {
        begun.notify_one();
        go_on.notified().await;
        Ok::<_, Infallible>(old)
    });
    let late = async {
        begun.notified().await;
        memo.invalidate_tags(&tags).await.unwrap();
        let late = memo.with(&key).tags(&tags).run(|| async { Ok::<_, Infallible>(new) }).await;
        go_on.notify_one();
        late
    };
    assert_eq!(tokio::join!(early, late), (Ok(old), Ok(new)));
    assert_eq!(memo.get(&key).await, Some(new), "what came late is not kept");
}

#[tokio::test]
async fn equal_calls_at_the_same_time_are_one() {
    let fixture = fixture();
    let (made, all_here, key) = (Counted::default(), Semaphore::new(0), key("a"));
    let calls = (0..200).map(|_| {
        fixture.memo.cached(&key, TTL, || async {
            let _ = all_here.acquire().await;
            made.next().await
        })
    });
    let (values, ()) = tokio::join!(join_all(calls), async { all_here.add_permits(1) });
    assert!(values.iter().all(|value| *value == Ok(1)));
    assert_eq!((made.calls(), fixture.count("miss"), fixture.count("collapsed")), (1, 1, 199));
}

#[tokio::test]
async fn who_waited_for_one_that_failed_asks_by_himself() {
    let fixture = fixture();
    let (asked, all_here, key) = (Counted::default(), Semaphore::new(0), key("a"));
    let calls = (0..20).map(|_| {
        fixture.memo.cached(&key, TTL, || async {
            let _ = all_here.acquire().await;
            match asked.next().await {
                Ok(1) => Err("no"),
                other => other,
            }
        })
    });
    let (values, ()) = tokio::join!(join_all(calls), async { all_here.add_permits(20) });
    assert_eq!(values.iter().filter(|value| value.is_err()).count(), 1);
    assert_eq!(asked.calls(), 20);
}

#[tokio::test]
async fn a_panic_and_a_dropped_call_wake_the_others() {
    let fixture = fixture();
    let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    for panics in [true, false] {
        let (memo, task_began, task_goes_on) = (fixture.memo.clone(), Arc::clone(&began), Arc::clone(&go_on));
        let name = key(&panics.to_string());
        let first = tokio::spawn(async move {
            memo.cached(&name, TTL, || async move {
                task_began.notify_one();
                task_goes_on.notified().await;
                assert!(!panics, "it is meant to");
                Ok::<_, Infallible>(0)
            })
            .await
        });
        began.notified().await;
        let mut second = Box::pin(fixture.memo.cached(&name, TTL, || async { Ok::<_, Infallible>(1) }));
        assert!(futures_util::poll!(&mut second).is_pending(), "it waits");
        if panics {
            go_on.notify_one();
        } else {
            first.abort();
        }
        assert!(first.await.is_err());
        assert_eq!(second.await, Ok(1));
        assert_eq!(fixture.memo.get(&name).await, Some(1));
    }
}

#[tokio::test]
async fn a_value_past_its_time_stands_in_for_an_error_until_it_falls() {
    let fixture = fixture();
    let (memo, hour, tags) = (&fixture.memo, Duration::from_hours(1), [Tag::of(Scope::Public, "t")]);
    let key = key("a");
    let how = || memo.with(&key).ttl(TTL).tags(&tags).stale_if_error(hour);
    assert_eq!(how().run(|| async { Ok::<_, &str>(1) }).await, Ok(1));
    fixture.clock.advance(TTL);
    assert_eq!(how().run(|| async { Err("no") }).await, Ok(1));
    assert_eq!(memo.cached(&key, TTL, || async { Err::<i32, _>("no") }).await, Err("no"), "who did not ask for it");
    fixture.clock.advance(hour);
    assert_eq!(how().run(|| async { Err::<i32, _>("no") }).await, Err("no"));
    assert_eq!(how().run(|| async { Ok::<_, &str>(2) }).await, Ok(2));
    fixture.clock.advance(TTL);
    memo.invalidate_tags(&tags).await.unwrap();
    assert_eq!(how().run(|| async { Err::<i32, _>("no") }).await, Err("no"), "it has fallen");
    assert_eq!(fixture.count("stale"), 1);
}

#[tokio::test]
async fn what_has_no_written_form_is_made_each_time() {
    let fixture = fixture();
    let made = || async { Ok::<_, Infallible>(std::collections::BTreeMap::from([((1, 2), 3)])) };
    for _ in 0..2 {
        assert_eq!(fixture.memo.cached(&key("a"), TTL, made).await.unwrap()[&(1, 2)], 3);
    }
    assert_eq!(fixture.count("miss"), 2);
    assert_eq!(fixture.metrics.memo_errors.with_label_values(&["general", "unwritable"]).get(), 2);
}

#[tokio::test]
async fn large_values_count_as_several() {
    let fixture = fixture();
    let page = "x".repeat(4_000);
    for number in 0..600 {
        let key = key(&number.to_string()).within(Space::Queries);
        fixture.memo.set(&key, TTL, page.repeat(10));
    }
    let (entries, pages) = fixture.memo.inner.caches[Space::Queries as usize].tier.size();
    assert!(entries <= 50 && pages <= 500, "{entries} values of {pages} pages");
}

#[tokio::test]
async fn each_cache_has_a_hit_rate_of_its_own() {
    let fixture = fixture();
    assert_eq!(fixture.memo.figures()[0].hit_rate, None);
    for _ in 0..4 {
        assert_eq!(fixture.memo.cached(&key("a"), TTL, || async { Ok::<_, Infallible>(1) }).await, Ok(1));
    }
    let figures = fixture.memo.figures();
    assert_eq!(
        figures.iter().map(|figures| figures.cache).collect::<Vec<_>>(),
        ["general", "queries", "users", "embeddings"]
    );
    assert_eq!((figures[0].hits, figures[0].misses, figures[0].hit_rate), (3, 1, Some(0.75)));
    assert_eq!((figures[0].entries, figures[1].entries, figures[1].hit_rate), (1, 0, None));
}

#[tokio::test]
async fn what_fell_elsewhere_falls_here_and_what_fell_here_falls_once() {
    let (fixture, tag) = (fixture(), Tag::of(Scope::Public, "t"));
    let (memo, key, tags) = (&fixture.memo, key("a"), [tag]);
    let told = |count, is_ours| Read { change: told::change(&[(tag, count)]), is_ours, age_s: 0.0 };
    for (count, is_ours, stays) in [(7, false, false), (7, true, true), (6, false, false), (8, true, false)] {
        memo.with(&key).tags(&tags).put(1);
        assert_eq!(memo.follow(&told(count, is_ours)), []);
        assert_eq!(memo.get::<i32>(&key).await.is_some(), stays, "{count} {is_ours}");
    }
    memo.with(&key).put(1);
    let all = Read { change: told::change(&[(Tag::of_space(Space::General), 1)]), is_ours: false, age_s: 0.0 };
    assert_eq!(memo.follow(&all), [Space::General]);
    assert_eq!(memo.get::<i32>(&key).await, None);
}
