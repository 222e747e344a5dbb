//~ by the compiler
//~ error: `Id` cannot be part of a cache's key
//~ at: #[fast_endpoint(cache_ttl = 300)]
//~ error: `Id` cannot be part of a cache's key
//~ at: id
//~ note: derive it: `#[derive(ish::CacheKey)]`, or implement `ish::memo::CacheKey`; an argument of `#[fast_endpoint]` can also be left out by `skip(..)`
//~ note: required for `&Id` to implement `CacheKey`
//~ note: required for `(&Id,)` to implement `CacheKey`
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: Id) -> Result<String, std::io::Error> {
    Ok(id.0.to_string())
}

pub struct Id(u64);

fn main() {}
