//~ error: `public` stands alone: write `public`, without a value
//~ at: public = true
use ish::fast_endpoint;
use ish::memo::Memo;

#[fast_endpoint(cache_ttl = 300, public = true)]
async fn product(memo: &Memo, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
