//~ by the compiler
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300, state = shop)]
async fn product(shop: &Shop, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    let _ = shop;
    Ok(id.to_string())
}

pub struct Shop;

fn main() {}
