//~ error: an enum without variants has no value to make a key of
//~ at: Never
use ish::CacheKey;

#[derive(CacheKey)]
pub enum Never {}

fn main() {}
