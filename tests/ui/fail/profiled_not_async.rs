//~ error: `profiled` goes on an `async fn`: write `async fn rank`
//~ at: fn
use ish::profiled;

#[profiled("search", "rank")]
fn rank() {}

fn main() {}
