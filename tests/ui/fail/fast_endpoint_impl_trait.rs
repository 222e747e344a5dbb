//~ error: an `impl Trait` cannot be stored: name the type, or answer with `Json<T>`
//~ at: impl ToString
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<impl ToString, std::io::Error> {
    Ok(id)
}

fn main() {}
