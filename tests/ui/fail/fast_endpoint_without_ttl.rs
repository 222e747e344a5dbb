//~ error: how long may an answer be served? write `#[fast_endpoint(cache_ttl = 300)]`, in seconds, or `"5m"`
//~ at: product
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
