//~ by the compiler
//~ error: `u64` does not say whose an answer is
//~ at: id
//~ note: take `caller: Caller`, implement `ish::endpoint::Scoped` for `u64`, or write `public` if everybody may have the answer
use ish::fast_endpoint;
use ish::memo::Memo;

#[fast_endpoint(cache_ttl = 300, scope = id)]
async fn product(memo: &Memo, id: u64) -> Result<String, std::io::Error> {
    Ok(id.to_string())
}

fn main() {}
