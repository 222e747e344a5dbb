//~ error: a job's arguments are read back from the store: name the type
//~ at: impl ToString
use ish::async_job;
use ish::tasks::JobError;

#[async_job]
async fn send_digest(user: u64, day: impl ToString) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
