//~ error: which part of the program is it? write `#[profiled("search", "rank")]`: a component and an operation
//~ at: rank
use ish::profiled;

#[profiled]
async fn rank() {}

fn main() {}
