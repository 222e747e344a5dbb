//~ error: `async_job` goes on a free function: take what `self` holds as an argument
//~ at: &self
use ish::async_job;
use ish::tasks::JobError;

pub struct Mailer;

impl Mailer {
    #[async_job]
    pub async fn send(&self, user: u64) -> Result<(), JobError> {
        let _ = user;
        Ok(())
    }
}

fn main() {}
