//~ error: a job's arguments are stored until it runs: take `String`
//~ at: &str
use ish::async_job;
use ish::tasks::JobError;

#[async_job]
async fn send_digest(user: u64, day: &str) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
