//~ error: `search` is no option of `profiled`: it takes `component` and `operation`
//~ at: search
//~ error: `rank` is no option of `profiled`: it takes `component` and `operation`
//~ at: rank
use ish::profiled;

#[profiled(search, rank)]
async fn rank() {}

fn main() {}
