//~ error: `fast_endpoint` goes on an `async fn` with a body: not on a struct, an impl or a trait's declaration
//~ at: pub
use ish::fast_endpoint;

#[fast_endpoint(cache_ttl = 300)]
pub struct Product;

fn main() {}
