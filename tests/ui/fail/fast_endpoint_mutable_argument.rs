//~ error: a cached answer changes nothing: take `&` instead of `&mut`, or leave the argument out by `skip(..)`
//~ at: mut
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: &mut u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
