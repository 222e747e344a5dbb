//~ error: `componet` is no option of `profiled`: did you mean `component`? it takes `component` and `operation`
//~ at: componet
use ish::profiled;

#[profiled(componet = "search")]
async fn rank() {}

fn main() {}
