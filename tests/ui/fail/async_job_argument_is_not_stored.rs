//~ by the compiler
//~ error: the trait bound `async_job_argument_is_not_stored::User: serde::Deserialize<'de>` is not satisfied
//~ at: #[async_job]
//~ error: the trait bound `async_job_argument_is_not_stored::User: serde::Deserialize<'de>` is not satisfied
//~ at: User
//~ error: the trait bound `async_job_argument_is_not_stored::User: serde::Deserialize<'de>` is not satisfied
//~ at: User
//~ error: the trait bound `async_job_argument_is_not_stored::User: serde::Serialize` is not satisfied
//~ at: #[async_job]
//~ note: for local types consider adding `#[derive(serde::Serialize)]` to your `async_job_argument_is_not_stored::User` type
//~ note: for local types consider adding `#[derive(serde::Deserialize)]` to your `async_job_argument_is_not_stored::User` type
use ish::async_job;
use ish::tasks::JobError;

#[async_job]
async fn send_digest(user: User, day: String) -> Result<(), JobError> {
    let _ = (user, day);
    Ok(())
}

pub struct User;

fn main() {}
