//! How an attempt has ended, and what follows from it for its task. Pure.

use super::new_task::MOST_BYTES;
use super::stored::{Claimed, Settled};
use super::task::with_failure;
use super::{Backoff, Failure, Interruption, JobError, State};

/// How an attempt has ended.
#[derive(Debug)]
pub(super) enum End {
    /// The job is done, and has said something.
    Done(Option<String>),
    /// It says that it is not.
    Failed(JobError),
    /// It panicked.
    Panicked,
    /// It was dropped at its hard limit.
    TookTooLong,
    /// It was dropped because its worker ends.
    HandedBack,
    /// Its worker was silent for a lease.
    WorkerLost,
}

/// When an attempt ended, and what chance has to say of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub now_ms: u64,
    /// In `0.0..1.0`.
    pub jitter: f64,
}

/// What becomes of the task.
pub(super) fn settled(
    claimed: &Claimed,
    end: End,
    interruption: Option<Interruption>,
    backoff: Backoff,
    moment: Moment,
) -> Settled {
    let fresh = |state| Settled {
        id: claimed.id,
        epoch: claimed.epoch,
        state,
        wait_ms: None,
        is_refunded: false,
        result: None,
        failures: None,
    };
    let failed =
        |state, error: &str| Settled { failures: Some(history(claimed, error, moment.now_ms)), ..fresh(state) };
    let error = match end {
        End::Done(Some(result)) if result.len() > MOST_BYTES => {
            return failed(State::Completed, "it is done, but what it returned is too large to be kept");
        }
        End::Done(result) => return Settled { result, ..fresh(State::Completed) },
        End::HandedBack => JobError::retry("its worker ended"),
        End::Failed(error) => error,
        End::Panicked => JobError::retry("the job panicked"),
        End::TookTooLong => JobError::retry("it took longer than its hard limit"),
        End::WorkerLost => JobError::retry("its worker was lost"),
    };
    if interruption == Some(Interruption::Cancelled) || claimed.cancel_wanted {
        return failed(State::Cancelled, &error.error);
    }
    if interruption == Some(Interruption::Draining) && !error.is_fatal {
        return Settled { wait_ms: Some(0), is_refunded: true, ..fresh(State::Available) };
    }
    if error.is_fatal || claimed.attempt >= claimed.max_attempts {
        return failed(State::Discarded, &error.error);
    }
    let wait = error.wait.unwrap_or_else(|| backoff.wait(claimed.attempt, moment.jitter));
    Settled { wait_ms: Some(super::ms(wait)), ..failed(State::Retryable, &error.error) }
}

fn history(claimed: &Claimed, error: &str, now_ms: u64) -> String {
    let failure = Failure { attempt: claimed.attempt, at_ms: now_ms, error: error.to_owned() };
    serde_json::to_string(&with_failure(claimed.failures.clone(), failure)).unwrap_or_else(|_| "[]".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Priority;
    use super::*;

    const MOMENT: Moment = Moment { now_ms: 7, jitter: 1.0 };

    fn claimed(attempt: u16) -> Claimed {
        Claimed {
            id: uuid::Uuid::nil(),
            tenant: "t".to_owned(),
            kind: "k".to_owned(),
            version: 1,
            priority: Priority::Normal,
            arguments: "{}".to_owned(),
            attempt,
            max_attempts: 2,
            epoch: 5,
            cancel_wanted: false,
            failures: Vec::new(),
            waited: Duration::ZERO,
            rank: 0,
        }
    }

    fn become_of(attempt: u16, end: End, interruption: Option<Interruption>) -> (State, Option<i64>, bool) {
        let settled = settled(&claimed(attempt), end, interruption, Backoff::DEFAULT, MOMENT);
        (settled.state, settled.wait_ms, settled.is_refunded)
    }

    #[test]
    fn a_failure_waits_for_the_next_attempt_until_there_is_none() {
        let failed = || End::Failed(JobError::retry("no"));
        assert_eq!(become_of(1, failed(), None), (State::Retryable, Some(1_000), false));
        assert_eq!(become_of(1, failed(), Some(Interruption::TimeIsUp)), (State::Retryable, Some(1_000), false));
        assert_eq!(become_of(2, failed(), None), (State::Discarded, None, false));
        let fatal = End::Failed(JobError::fatal("never"));
        assert_eq!(become_of(1, fatal, None), (State::Discarded, None, false));
        let patient = End::Failed(JobError::retry("busy").after(Duration::from_secs(9)));
        assert_eq!(become_of(1, patient, None), (State::Retryable, Some(9_000), false));
        for end in [End::Panicked, End::TookTooLong, End::WorkerLost] {
            assert_eq!(become_of(2, end, None), (State::Discarded, None, false));
        }
        let failed = settled(&claimed(1), failed(), None, Backoff::DEFAULT, MOMENT);
        assert_eq!(failed.failures.as_deref(), Some(r#"[{"attempt":1,"at_ms":7,"error":"no"}]"#));
    }

    #[test]
    fn who_is_interrupted_is_cancelled_or_handed_back_unless_it_is_done() {
        let cancelled = Some(Interruption::Cancelled);
        assert_eq!(become_of(1, End::Failed(JobError::retry("x")), cancelled), (State::Cancelled, None, false));
        assert_eq!(become_of(1, End::Done(None), cancelled), (State::Completed, None, false));
        let draining = Some(Interruption::Draining);
        assert_eq!(become_of(2, End::HandedBack, draining), (State::Available, Some(0), true));
        assert_eq!(become_of(2, End::Done(None), draining), (State::Completed, None, false));
        assert_eq!(become_of(1, End::Failed(JobError::fatal("x")), draining), (State::Discarded, None, false));
        let wished = Claimed { cancel_wanted: true, ..claimed(1) };
        let lost = settled(&wished, End::WorkerLost, None, Backoff::DEFAULT, MOMENT);
        assert_eq!(lost.state, State::Cancelled);
    }

    #[test]
    fn what_is_too_large_is_not_kept_and_the_task_is_done_all_the_same() {
        let large = settled(&claimed(1), End::Done(Some("x".repeat(MOST_BYTES + 1))), None, Backoff::DEFAULT, MOMENT);
        assert_eq!((large.state, large.result), (State::Completed, None));
        assert!(large.failures.is_some());
    }
}
