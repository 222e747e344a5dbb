//~ error: a job's arguments are stored until it runs: take `Vec<u64>`
//~ at: &[u64]
use ish::async_job;
use ish::tasks::JobError;

#[async_job]
async fn send_digest(user: &[u64], day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
