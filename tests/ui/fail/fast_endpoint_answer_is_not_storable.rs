//~ by the compiler
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<Product, std::io::Error> {
    Ok(Product(id))
}

pub struct Product(u64);

fn main() {}
