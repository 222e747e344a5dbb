//~ error: a reference cannot be stored: answer with what owns its parts
//~ at: &'static str
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<&'static str, std::io::Error> {
    Ok("x")
}

fn main() {}
