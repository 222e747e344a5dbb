//~ by the compiler
use ish::async_job;

#[async_job]
async fn send_digest(user: u64, day: String) -> Result<(), Bounced> {
    let _ = (user, day);
    Ok(())
}

pub struct Bounced;

fn main() {}
