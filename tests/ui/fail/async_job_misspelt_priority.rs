//~ error: "hihg" is no priority: did you mean "high"? it takes "critical", "high", "normal" or "low"
//~ at: "hihg"
use ish::async_job;
use ish::tasks::JobError;

#[async_job(priority = "hihg")]
async fn send_digest(user: u64, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
