//~ error: only `Ok` is cached: answer with `Result<T, E>`, `Result<Json<T>, E>` or `Json<T>`
//~ at: String
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> String {
    id.to_string()
}

fn main() {}
