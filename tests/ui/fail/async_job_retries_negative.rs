//~ error: `retries` takes a whole number from 0 to 1000
//~ at: -1
use ish::async_job;
use ish::tasks::JobError;

#[async_job(retries = -1)]
async fn send_digest(user: u64, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
