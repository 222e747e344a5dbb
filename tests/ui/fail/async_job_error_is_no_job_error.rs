//~ by the compiler
//~ error: the trait bound `Bounced: std::error::Error` is not satisfied
//~ at: Bounced
//~ error: the trait bound `Bounced: std::error::Error` is not satisfied
//~ at: send_digest(user: u64, day: String) -> Result<(), Bounced
//~ note: the trait `From<E>` is implemented for `JobError`
//~ note: required for `anyhow::Error` to implement `From<Bounced>`
//~ note: required for `Bounced` to implement `Into<anyhow::Error>`
//~ note: required for `JobError` to implement `From<Bounced>`
use ish::async_job;

#[async_job]
async fn send_digest(user: u64, day: String) -> Result<(), Bounced> {
    let _ = (user, day);
    Ok(())
}

pub struct Bounced;

fn main() {}
