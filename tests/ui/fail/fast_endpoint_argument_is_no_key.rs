//~ by the compiler
//~ error: `ProductNumber` cannot be part of a cache's key
//~ at: #[fast_endpoint(cache_ttl = 300)]
//~ error: `ProductNumber` cannot be part of a cache's key
//~ at: id
//~ note: derive it: `#[derive(ish::CacheKey)]`, or implement `ish::memo::CacheKey`; an argument of `#[fast_endpoint]` can also be left out by `skip(..)`
//~ note: required for `&ProductNumber` to implement `CacheKey`
//~ note: required for `(&ProductNumber,)` to implement `CacheKey`
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: ProductNumber) -> Result<String, std::io::Error> {
    Ok(id.0.to_string())
}

pub struct ProductNumber(u64);

fn main() {}
