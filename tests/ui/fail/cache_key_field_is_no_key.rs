//~ by the compiler
use ish::CacheKey;

#[derive(CacheKey)]
pub struct Period {
    from: Day,
}

pub struct Day(u32);

fn main() {}
