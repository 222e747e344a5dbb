//~ error: `cache_ttl` takes whole seconds from 1 on, or a time with its unit (ms, s, m, h, d), such as "5m"
//~ at: "5 parsecs"
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = "5 parsecs")]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
