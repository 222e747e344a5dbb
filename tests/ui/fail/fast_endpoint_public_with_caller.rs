//~ error: a `public` answer is everybody's, whoever asks: leave `public` out, or say by `skip(caller)` that the answer does not depend on `caller`
//~ at: &Caller
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300, public)]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
