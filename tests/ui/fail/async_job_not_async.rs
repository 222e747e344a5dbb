//~ error: `async_job` goes on an `async fn`: write `async fn send_digest`
//~ at: fn
use ish::async_job;
use ish::tasks::JobError;

#[async_job]
fn send_digest(user: u64, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
