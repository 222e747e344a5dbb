//~ error: a job says whether it succeeded: answer with `Result<T, JobError>`, or any error that `?` takes into one
//~ at: send_digest
use ish::async_job;

#[async_job]
async fn send_digest(user: u64, day: String) {
    let _ = (user, day);
}

fn main() {}
