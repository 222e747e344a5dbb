//! The attributes in the company of others, in odd places, and their keys.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Json, Path, Query, State};
use axum::routing::get;
use http::Request;
use ish::endpoint::Scoped;
use ish::keys::Principal;
use ish::memo::{HasMemo, Memo, Scope};
use ish::tasks::{JobError, Registry};
use ish::{CacheKey, async_job, fast_endpoint, profiled};
use proptest::prelude::*;
use tower::ServiceExt;
use uuid::Uuid;

/// Counts what is asked, so that a test sees what the cache answered.
#[derive(Clone)]
struct Counted {
    memo: Memo,
    asked: Arc<std::sync::atomic::AtomicU32>,
}

impl Counted {
    fn new() -> Self {
        Self { memo: Memo::in_process(), asked: Arc::default() }
    }

    fn ask(&self) -> u32 {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }
}

impl HasMemo for Counted {
    fn memo(&self) -> &Memo {
        &self.memo
    }
}

/// Other attributes above.
#[utoipa::path(get, path = "/above/{id}", params(("id" = u32, Path)), responses((status = 200, body = String)))]
#[axum_macros::debug_handler(state = Counted)]
#[tracing::instrument(skip_all)]
#[profiled("test", "above")]
#[fast_endpoint(cache_ttl = 300, public)]
async fn above(State(state): State<Counted>, Path(id): Path<u32>) -> Result<Json<String>, String> {
    Ok(Json(format!("{id} asked {}", state.ask())))
}

/// Other attributes below.
#[fast_endpoint(cache_ttl = 300, public)]
#[profiled("test", "below")]
#[tracing::instrument(skip_all)]
#[axum_macros::debug_handler(state = Counted)]
#[utoipa::path(get, path = "/below/{id}", params(("id" = u32, Path)), responses((status = 200, body = String)))]
async fn below(State(state): State<Counted>, Path(id): Path<u32>) -> Result<Json<String>, String> {
    Ok(Json(format!("{id} asked {}", state.ask())))
}

#[tokio::test]
async fn other_attributes_stand_above_and_below() {
    use utoipa::Path as _;

    let state = Counted::new();
    let routes = Router::new().route("/above/{id}", get(above)).route("/below/{id}", get(below)).with_state(state);
    for (path, body) in [
        ("/above/7", "\"7 asked 1\""),
        ("/above/7", "\"7 asked 1\""),
        ("/below/7", "\"7 asked 2\""),
        ("/below/7", "\"7 asked 2\""),
    ] {
        let response = routes.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let bytes = axum::body::to_bytes(response.into_body(), 1_000).await.unwrap();
        assert_eq!(bytes, body, "{path}");
    }
    assert_eq!((__path_above::path(), __path_below::path()), ("/above/{id}".to_owned(), "/below/{id}".to_owned()));
}

/// Where words mean something else.
mod confused {
    #![expect(dead_code, reason = "that is what is tried here")]

    pub struct Ok;
    pub struct Err;
    pub struct Some;
    pub trait Clone {}
    pub type String = u8;
    pub mod core {}
    pub mod std {}
    pub mod serde {}
    pub mod memo {}

    #[ish::fast_endpoint(cache_ttl = 1, public)]
    pub async fn answer(key: &::ish::memo::Memo, memo: u8) -> ::core::result::Result<u16, ::std::fmt::Error> {
        let _ = key;
        ::core::result::Result::Ok(u16::from(memo))
    }

    #[ish::async_job]
    pub async fn job(state: String, context: u8) -> ::core::result::Result<(), ::ish::tasks::JobError> {
        let _ = (state, context);
        ::core::result::Result::Ok(())
    }
}

#[tokio::test]
async fn names_of_the_users_are_not_mistaken_for_others() {
    assert_eq!(confused::answer(&Memo::in_process(), 3).await, Ok(3));
    assert!(confused::job(1, 2).await.is_ok());
    let _ = confused::job::job(1, 2);
}

/// An early end, a question mark, borrowed arguments, patterns, a state that is named.
#[fast_endpoint(cache_ttl = 300, stale_if_error = "1h", state = counted, scope = asking, skip(fail))]
async fn odd<'a>(
    (factor, mut offset): (u32, u32),
    counted: &Counted,
    names: &'a [&'a str],
    asking: &Session,
    fail: bool,
) -> Result<u32, std::num::ParseIntError> {
    counted.ask();
    if fail {
        "x".parse::<u32>()?;
    }
    if names.is_empty() {
        return Ok(0);
    }
    offset += factor;
    Ok(offset + names.len() as u32 + asking.0.len() as u32)
}

struct Session(String);

impl Scoped for Session {
    fn scope(&self) -> Scope<'_> {
        Scope::Tenant(&self.0)
    }
}

#[tokio::test]
async fn a_function_is_what_it_was_and_only_success_is_kept() {
    let (counted, ann, bob) = (Counted::new(), Session("ann".into()), Session("bob".into()));
    let asked = || counted.asked.load(std::sync::atomic::Ordering::Relaxed);
    assert!(odd((1, 2), &counted, &["a"], &ann, true).await.is_err());
    assert!(odd((1, 2), &counted, &["a"], &ann, true).await.is_err());
    assert_eq!(asked(), 2);
    assert_eq!(odd((1, 2), &counted, &["a"], &ann, false).await, Ok(7));
    assert_eq!(
        odd((1, 2), &counted, &["a"], &ann, true).await,
        Ok(7),
        "it is in the cache, and what is skipped does not count"
    );
    assert_eq!(asked(), 3);
    for other in [
        odd((2, 1), &counted, &["a"], &ann, false).await,
        odd((1, 2), &counted, &["a", ""], &ann, false).await,
        odd((1, 2), &counted, &["a"], &bob, false).await,
        odd((1, 2), &counted, &[], &ann, false).await,
    ] {
        assert!(other.is_ok());
    }
    assert_eq!(asked(), 7);
    odd::invalidate(&counted, &(1, 2), &["a"], &ann).await.unwrap();
    assert_eq!((odd((1, 2), &counted, &["a"], &ann, false).await, asked()), (Ok(7), 8));
    assert_eq!((odd::uncached((1, 2), &counted, &["a"], &ann, false).await, asked()), (Ok(7), 9));
    assert_eq!((odd::META.ttl.as_secs(), odd::META.stale_if_error.as_secs()), (300, 3_600));
}

#[fast_endpoint(cache_ttl = 300)]
async fn everything(
    memo: &Memo,
    caller: &Principal,
    text: String,
    number: Option<i64>,
    list: Vec<String>,
    shape: Shape,
) -> Result<usize, Infallible> {
    let _ = (memo, caller, number, shape);
    Ok(text.len() + list.len())
}

#[derive(Debug, Clone, PartialEq, CacheKey)]
enum Shape {
    Point,
    Circle(f64),
    Box { wide: u32, name: String },
}

fn shapes() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Point),
        (0_u8..3).prop_map(|radius| Shape::Circle(radius.into())),
        (0_u32..3, "[ab]{0,2}").prop_map(|(wide, name)| Shape::Box { wide, name }),
    ]
}

fn principals() -> impl Strategy<Value = Principal> {
    ("[ab]{1,2}", proptest::option::of(0_u128..2))
        .prop_map(|(tenant, user)| Principal { user: user.map(Uuid::from_u128), ..Principal::keyless(&tenant) })
}

proptest! {
    /// Different arguments, and different askers, never meet in one key.
    #[test]
    fn different_arguments_have_different_keys(
        one in (principals(), "[ab]{0,3}", proptest::option::of(-1_i64..1), prop::collection::vec("[ab]{0,2}", 0..3), shapes()),
        other in (principals(), "[ab]{0,3}", proptest::option::of(-1_i64..1), prop::collection::vec("[ab]{0,2}", 0..3), shapes()),
    ) {
        let key = |of: &(Principal, String, Option<i64>, Vec<String>, Shape)| everything::key(&of.0, &of.1, &of.2, &of.3, &of.4);
        prop_assert_eq!(key(&one) == key(&other), one == other);
    }
}

#[derive(CacheKey)]
struct Page {
    number: u32,
}

/// An answer that cannot fail, by an extractor that is a struct's.
#[fast_endpoint(cache_ttl = 300, public, version = 2)]
async fn listed(State(state): State<Counted>, Query(Page { number }): Query<Page>) -> Json<u32> {
    Json(number * 100 + state.ask())
}

#[tokio::test]
async fn an_answer_that_cannot_fail_is_cached_too() {
    let state = Counted::new();
    let ask = |number| listed(State(state.clone()), Query(Page { number }));
    assert_eq!((ask(1).await.0, ask(1).await.0, ask(2).await.0), (101, 101, 202));
}

thread_local! {
    static RAN: Cell<u32> = const { Cell::new(0) };
}

#[async_job(kind = "test.sweep", version = 3, retries = 0)]
async fn sweep(rooms: u32, #[serde(default)] thoroughly: bool) -> anyhow::Result<u32> {
    RAN.set(RAN.get() + 1);
    anyhow::ensure!(rooms > 0, "there is nothing to sweep");
    Ok(if thoroughly { rooms * 2 } else { rooms })
}

#[tokio::test]
async fn a_job_is_a_function_and_a_task() {
    use ish::tasks::{Job, JobContext};
    assert_eq!(sweep(2, true).await.unwrap(), 4);
    let task: sweep = serde_json::from_str("{\"rooms\":3}").unwrap();
    assert_eq!(task.run(Arc::new(()), JobContext::detached()).await.unwrap(), 3);
    let failed =
        serde_json::from_str::<sweep>("{\"rooms\":0}").unwrap().run(Arc::new(()), JobContext::detached()).await;
    assert_eq!(failed.map_err(|error: JobError| error.to_string()), Err("there is nothing to sweep".to_owned()));
    assert_eq!((sweep::KIND, sweep::VERSION, sweep::POLICY.max_attempts), ("test.sweep", 3, 1));
    assert_eq!(Registry::new().register::<sweep>(Arc::new(())).kinds().collect::<Vec<_>>(), ["test.sweep"]);
    assert_eq!(RAN.get(), 3);
    assert!(
        Registry::linked().kinds().any(|kind| kind == "test.sweep"),
        "it has no state, and so is known to the linker"
    );
}

struct Sieve {
    at_least: u32,
}

impl Sieve {
    /// A method, an early end, and no answer's type but the one that is written.
    #[profiled("test")]
    async fn passes(&self, numbers: &[&str]) -> Result<usize, std::num::ParseIntError> {
        let mut passed = 0;
        for number in numbers {
            if number.is_empty() {
                return Ok(passed);
            }
            passed += usize::from(number.parse::<u32>()? >= self.at_least);
        }
        Ok(passed)
    }
}

#[tokio::test]
async fn a_profiled_method_is_what_it_was() {
    let sieve = Sieve { at_least: 3 };
    assert_eq!(sieve.passes(&["1", "3", "4"]).await, Ok(2));
    assert_eq!(sieve.passes(&["3", "", "x"]).await, Ok(1));
    assert!(sieve.passes(&["x"]).await.is_err());
}
