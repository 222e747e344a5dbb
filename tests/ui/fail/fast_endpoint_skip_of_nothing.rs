//~ error: `headers` is no argument of `product`
//~ at: headers
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300, skip(headers))]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
