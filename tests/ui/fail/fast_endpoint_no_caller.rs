//~ error: whose answer is it? take `caller: Caller`, name an argument that is `Scoped` by `scope = argument`, or write `public` if everybody may have it
//~ at: product
use ish::fast_endpoint;
use ish::memo::Memo;

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
