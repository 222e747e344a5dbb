//~ error: `cache_ttl` takes whole seconds from 1 on, or a time with its unit (ms, s, m, h, d), such as "5m"
//~ at: 0
//~ error: `version` takes a whole number from 1 to 4294967295
//~ at: 0
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 0, version = 0)]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
