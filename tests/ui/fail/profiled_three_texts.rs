//~ error: `profiled` takes a component and an operation: `#[profiled("search", "rank")]`
//~ at: "all"
use ish::profiled;

#[profiled("search", "rank", "all")]
async fn rank() {}

fn main() {}
