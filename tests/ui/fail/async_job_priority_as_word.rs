//~ error: `priority` takes a text in quotation marks, such as "normal"
//~ at: High
use ish::async_job;
use ish::tasks::JobError;

#[async_job(priority = High)]
async fn send_digest(user: u64, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
