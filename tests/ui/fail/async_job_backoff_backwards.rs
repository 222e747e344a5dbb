//~ error: `backoff` takes the first wait and the longest, between which it doubles: "1s..5m"
//~ at: "5m..1s"
use ish::async_job;
use ish::tasks::JobError;

#[async_job(backoff = "5m..1s")]
async fn send_digest(user: u64, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
