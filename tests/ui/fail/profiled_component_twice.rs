//~ error: `component` is given twice: leave one out
//~ at: "search"
use ish::profiled;

#[profiled("search", component = "search")]
async fn rank() {}

fn main() {}
