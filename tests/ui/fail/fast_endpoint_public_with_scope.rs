//~ error: an answer is either `public` or has a scope: leave one of them out
//~ at: id
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300, public, scope = id, skip(caller))]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
