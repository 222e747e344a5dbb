//! How a start waits for a server that is away, or has only just begun to run: a pooler that comes up before its server, a server that
//! crashed a moment ago. Statements of a process that runs are not repeated here.

use std::time::Duration;

use tokio::time::Instant;

use super::DbError;

/// Between two tries.
const SOON: Duration = Duration::from_millis(100);
const LATE: Duration = Duration::from_secs(1);

/// Asks until there is another answer than that the server is away, or until `deadline`: the last answer, then.
pub(super) async fn patiently<T, F>(deadline: Instant, ask: impl Fn() -> F) -> Result<T, DbError>
where
    F: Future<Output = Result<T, DbError>>,
{
    let mut pause = SOON;
    loop {
        match ask().await {
            Err(DbError::Away(error)) if Instant::now() + pause < deadline => {
                if pause == SOON {
                    let seconds = (deadline - Instant::now()).as_secs();
                    tracing::warn!(%error, seconds, "the database is away: this start waits for it (database.start_timeout)");
                }
            }
            answer => return answer,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LATE);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Away so many times, then `end`.
    async fn asked(within: Duration, away: u32, end: Result<u32, DbError>) -> (Result<u32, DbError>, u32) {
        let (times, end) = (Cell::new(0), Cell::new(Some(end)));
        let answer = patiently(Instant::now() + within, || {
            times.set(times.get() + 1);
            let end = if times.get() > away { end.take() } else { None };
            std::future::ready(end.unwrap_or(Err(DbError::Away(sqlx::Error::PoolTimedOut))))
        });
        (answer.await, times.get())
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_asked_again_until_the_time_is_over() {
        assert!(matches!(asked(Duration::from_mins(10), 2, Ok(7)).await, (Ok(7), 3)));
        assert!(matches!(asked(Duration::from_millis(250), u32::MAX, Ok(7)).await, (Err(DbError::Away(_)), _)));
        assert!(matches!(asked(Duration::ZERO, 1, Ok(7)).await, (Err(DbError::Away(_)), 1)));
    }

    #[tokio::test]
    async fn what_waiting_does_not_mend_is_not_waited_for() {
        let unfit = DbError::Unfit("too old".to_owned());
        assert!(matches!(asked(Duration::from_secs(30), 0, Err(unfit)).await, (Err(DbError::Unfit(_)), 1)));
    }
}
