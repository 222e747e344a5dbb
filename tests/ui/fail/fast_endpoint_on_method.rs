//~ error: `fast_endpoint` goes on a free function: take what `self` holds as an argument
//~ at: &self
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

pub struct Shop;

impl Shop {
    #[fast_endpoint(cache_ttl = 300)]
    pub async fn product(&self, memo: &Memo, caller: &Caller, id: u64) -> Result<String, std::io::Error> {
        Ok(id.to_string())
    }
}

fn main() {}
