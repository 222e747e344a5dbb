//~ error: a kind is up to 100 letters, digits and `_-.:`, such as `kind = "mail.digest"`
//~ at: "send digest"
use ish::async_job;
use ish::tasks::JobError;

#[async_job(kind = "send digest")]
async fn send_digest(user: u64, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
