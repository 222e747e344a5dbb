//~ error: a `Response` cannot be stored: answer with `Result<Json<T>, E>`, of which `T` is stored
//~ at: Response
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<Response, std::io::Error> {
    Ok(Response(id))
}

pub struct Response(u64);

fn main() {}
