//~ by the compiler
//~ error: `Shop` gives no way to the caches
//~ at: #[fast_endpoint(cache_ttl = 300, state = shop)]
//~ note: implement `ish::memo::HasMemo` for the state: `fn memo(&self) -> &Memo`
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300, state = shop)]
async fn product(shop: &Shop, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
    let _ = shop;
    Ok(id.to_string())
}

pub struct Shop;

fn main() {}
