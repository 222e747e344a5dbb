//~ error: `I` would not be in the key: only the state may be generic; write a function for each type and put `fast_endpoint` on these
//~ at: I
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product<I: ToString>(memo: &Memo, caller: &Caller, id: I) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
