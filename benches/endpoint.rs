//! What `#[fast_endpoint]` costs on a hit, beside a look-up in moka that was written by hand: by the same arguments, of the same
//! product, for the same tenant.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use ish::fast_endpoint;
use ish::keys::Principal;
use ish::memo::Memo;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Product {
    id: u64,
    name: String,
}

fn make(shelf: &str, id: u64) -> Product {
    Product { id, name: format!("a kettle of the {shelf}") }
}

#[fast_endpoint(cache_ttl = 3600)]
async fn product(memo: &Memo, caller: &Principal, shelf: &str, id: u64) -> Result<Product, Infallible> {
    Ok(make(shelf, id))
}

type ByHand = moka::sync::Cache<(String, String, u64), Product>;

fn by_hand(cache: &ByHand, caller: &Principal, shelf: &str, id: u64) -> Product {
    cache.get_with((caller.tenant.clone(), shelf.to_owned(), id), || make(shelf, id))
}

fn endpoint(criterion: &mut Criterion) {
    let (memo, caller) = (Memo::in_process(), Principal::keyless("acme"));
    let cache: ByHand = moka::sync::Cache::builder().max_capacity(2_000).time_to_live(Duration::from_hours(1)).build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime.block_on(product(&memo, &caller, "kitchen", 7));
    assert_eq!(first.map(|made| made.id), Ok(7));
    let mut group = criterion.benchmark_group("a hit");
    group.bench_function("fast_endpoint", |bencher| {
        bencher.iter(|| {
            let found = product(&memo, &caller, black_box("kitchen"), black_box(7)).now_or_never();
            found.expect("what is in the cache is there at once").map(|found| found.id)
        });
    });
    group.bench_function("moka by hand", |bencher| {
        bencher.iter(|| by_hand(&cache, &caller, black_box("kitchen"), black_box(7)).id);
    });
    group.bench_function("the key alone", |bencher| {
        bencher.iter(|| product::key(&caller, black_box("kitchen"), &black_box(7)));
    });
    group.finish();
    assert_eq!(memo.figures().iter().map(|figures| figures.misses).sum::<u64>(), 1, "it is made once");
}

criterion_group!(benches, endpoint);
criterion_main!(benches);
