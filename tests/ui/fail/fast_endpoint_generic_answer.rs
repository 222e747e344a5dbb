//~ error: `T` would not be in the key: only the state may be generic; write a function for each type and put `fast_endpoint` on these
//~ at: T
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product<T: From<u64>>(memo: &Memo, caller: &Caller, id: u64) -> Result<T, std::io::Error> {
    Ok(id.into())
}

fn main() {}
