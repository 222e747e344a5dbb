//~ error: a job's state is shared by all that run: take `&`, with a lock inside where it changes
//~ at: &mut Mailer
use ish::async_job;
use ish::tasks::JobError;

#[async_job]
async fn send_digest(user: &mut Mailer, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

pub struct Mailer;

fn main() {}
