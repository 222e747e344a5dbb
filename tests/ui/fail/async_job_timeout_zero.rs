//~ error: `timeout` takes whole seconds from 1 on, or a time with its unit (ms, s, m, h, d), such as "5m"
//~ at: 0
use ish::async_job;
use ish::tasks::JobError;

#[async_job(timeout = 0)]
async fn send_digest(user: u64, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
