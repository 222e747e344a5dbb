//~ error: `retrys` is no option of `async_job`: did you mean `retries`? it takes `priority`, `retries`, `backoff`, `timeout`, `unique_by`, `queue`, `kind` and `version`
//~ at: retrys
use ish::async_job;
use ish::tasks::JobError;

#[async_job(retrys = 3)]
async fn send_digest(user: u64, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
