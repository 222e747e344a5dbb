//~ error: only a job's state is borrowed, as its first argument: all others are stored until it runs, so take them by value
//~ at: &Clock
use ish::async_job;
use ish::tasks::JobError;

#[async_job]
async fn send_digest(user: &Mailer, day: &Clock) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

pub struct Mailer;
pub struct Clock;

fn main() {}
