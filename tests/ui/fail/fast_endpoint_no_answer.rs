//~ error: only `Ok` is cached: answer with `Result<T, E>`, `Result<Json<T>, E>` or `Json<T>`
//~ at: product
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: u64) {}

fn main() {}
