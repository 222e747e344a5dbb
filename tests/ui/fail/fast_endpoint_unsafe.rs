//~ error: `fast_endpoint` would call this `unsafe fn` unseen: make it safe, with the `unsafe` in a block
//~ at: unsafe
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async unsafe fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
