//~ by the compiler
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: Id) -> Result<String, std::io::Error> {
    Ok(id.0.to_string())
}

pub struct Id(u64);

fn main() {}
