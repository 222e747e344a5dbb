//~ by the compiler
use ish::async_job;
use ish::tasks::JobError;

#[async_job]
async fn send_digest(user: User, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

pub struct User;

fn main() {}
