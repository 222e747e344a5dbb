//~ error: `fast_endpoint` takes options as `name = value`, separated by commas: `cache_ttl`, `stale_if_error`, `public`, `skip`, `state`, `scope` and `version`
//~ at: :
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl: 300)]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
