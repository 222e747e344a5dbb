//~ error: a job's arguments are read back without asking for types: write `D` out
//~ at: D
use ish::async_job;
use ish::tasks::JobError;

#[async_job]
async fn send_digest<D: ToString>(user: u64, day: D) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
