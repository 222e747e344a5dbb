//~ by the compiler
//~ error: the trait bound `fast_endpoint_answer_is_not_storable::Product: Clone` is not satisfied
//~ at: Product
//~ error: the trait bound `fast_endpoint_answer_is_not_storable::Product: Clone` is not satisfied
//~ at: product(memo: &Memo, caller: &Caller, id: u64) -> Result<Product
//~ error: the trait bound `fast_endpoint_answer_is_not_storable::Product: serde::Deserialize<'de>` is not satisfied
//~ at: product(memo: &Memo, caller: &Caller, id: u64) -> Result<Product
//~ error: the trait bound `fast_endpoint_answer_is_not_storable::Product: serde::Serialize` is not satisfied
//~ at: Product
//~ error: the trait bound `fast_endpoint_answer_is_not_storable::Product: serde::Serialize` is not satisfied
//~ at: product(memo: &Memo, caller: &Caller, id: u64) -> Result<Product
//~ error: the trait bound `fast_endpoint_answer_is_not_storable::Product: serde::de::DeserializeOwned` is not satisfied
//~ at: Product
//~ note: for local types consider adding `#[derive(serde::Serialize)]` to your `fast_endpoint_answer_is_not_storable::Product` type
//~ note: consider annotating `fast_endpoint_answer_is_not_storable::Product` with `#[derive(Clone)]`
//~ note: required for `fast_endpoint_answer_is_not_storable::Product` to implement `serde_core::de::DeserializeOwned`
//~ note: for local types consider adding `#[derive(serde::Deserialize)]` to your `fast_endpoint_answer_is_not_storable::Product` type
use ish::memo::Memo;
use ish::{Caller, fast_endpoint};

#[fast_endpoint(cache_ttl = 300)]
async fn product(memo: &Memo, caller: &Caller, id: u64) -> Result<Product, std::io::Error> {
    Ok(Product(id))
}

pub struct Product(u64);

fn main() {}
