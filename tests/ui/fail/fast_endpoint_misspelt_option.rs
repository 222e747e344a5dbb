//~ error: `cache_tl` is no option of `fast_endpoint`: did you mean `cache_ttl`? it takes `cache_ttl`, `stale_if_error`, `public`, `skip`, `state`, `scope` and `version`
//~ at: cache_tl
//~ error: how long may an answer be served? write `#[fast_endpoint(cache_ttl = 300)]`, in seconds, or `"5m"`
//~ at: product
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_tl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
