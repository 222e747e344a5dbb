//~ error: a job's arguments are stored by name: write `name: Type`
//~ at: (user, day)
use ish::async_job;
use ish::tasks::JobError;

#[async_job]
async fn send_digest((user, day): (u64, String)) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
