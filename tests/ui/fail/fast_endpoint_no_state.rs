//~ error: no state to find the cache in: take `State(app): State<App>`, `memo: &Memo` or `app: &impl HasMemo`, or name the argument by `state = app`
//~ at: product
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
