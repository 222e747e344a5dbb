//~ by the compiler
//~ error: `cache_key_field_is_no_key::Day` cannot be part of a cache's key
//~ at: CacheKey
//~ note: derive it: `#[derive(ish::CacheKey)]`, or implement `ish::memo::CacheKey`; an argument of `#[fast_endpoint]` can also be left out by `skip(..)`
use ish::CacheKey;

#[derive(CacheKey)]
pub struct Period {
    from: Day,
}

pub struct Day(u32);

fn main() {}
