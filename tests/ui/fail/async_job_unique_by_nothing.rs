//~ error: `person` is no stored argument of `send_digest`
//~ at: person
use ish::async_job;
use ish::tasks::JobError;

#[async_job(unique_by(person))]
async fn send_digest(user: u64, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

fn main() {}
