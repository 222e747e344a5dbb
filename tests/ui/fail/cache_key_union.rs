//~ error: which field of a union holds is not known: implement `CacheKey` by hand
//~ at: union
use ish::CacheKey;

#[derive(CacheKey)]
pub union Word {
    signed: i32,
    unsigned: u32,
}

fn main() {}
