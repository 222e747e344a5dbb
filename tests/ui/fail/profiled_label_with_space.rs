//~ error: components and operations are labels of a metric: up to 64 letters, digits and `_-.:`
//~ at: "rank all"
use ish::profiled;

#[profiled("search", "rank all")]
async fn rank() {}

fn main() {}
