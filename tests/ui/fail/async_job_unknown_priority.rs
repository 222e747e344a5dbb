//~ error: "urgent" is no priority: it takes "critical", "high", "normal" or "low"
//~ at: "urgent"
use ish::async_job;
use ish::tasks::JobError;

#[async_job(priority = "urgent")]
async fn send_digest(user: u64, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
