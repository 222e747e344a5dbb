//! A flame graph of where the processors are, on demand: a signal 99 times in each second of processor time, whose handler notes the
//! stack of the thread that it interrupts (the crate `pprof`). Nothing of it is there while nobody asks.
//!
//! Stacks are unwound by the tables that every Rust binary has, so that no frame pointers are needed; their lock-free look-up
//! is glibc's since 2.35. A thread that is inside of glibc, libgcc or the vDSO is passed over, since it may hold a lock there.
//!
//! The table in which stacks are counted is pprof's and takes 220 MB with all that belongs to it, which stay with the process after
//! the first graph: where so much is not to be had there is none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pprof::{ProfilerGuard, ProfilerGuardBuilder};

/// The longest that one may take.
pub const MOST_SECONDS: u64 = 60;

/// Looks in a second of processor time; no divisor of a second, so that what comes round by the clock is not always hit.
const FREQUENCY: i32 = 99;

/// Libraries in which a thread may hold a lock that unwinding needs.
const PASSED_OVER: &[&str] = &["libc", "libgcc", "pthread", "vdso"];

/// What a graph takes, with some room.
const BYTES: u64 = 300_000_000;

/// Of a process that used no processor.
const NOTHING: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"60\">\
                       <text x=\"20\" y=\"35\" font-family=\"sans-serif\">Nothing ran in these seconds.</text></svg>";

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum FlameError {
    /// One is being made.
    #[error("a flame graph is being made already")]
    Busy,
    /// The process would come too close to what it may use.
    #[error("a flame graph takes 300 MB of memory, which the process does not have left of its {limit_mb} MB")]
    NoMemory {
        /// What it may use.
        limit_mb: u64,
    },
    /// The system refuses, or the picture cannot be drawn.
    #[error("the flame graph cannot be made")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Whether there is memory for one; of a `limit` of 0 nothing is known.
pub(super) fn fits(held: u64, limit: u64) -> Result<(), FlameError> {
    if limit > 0 && held + BYTES > limit {
        return Err(FlameError::NoMemory { limit_mb: limit / 1_000_000 });
    }
    Ok(())
}

/// Whether one is being made: there is one clock for all of the process.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// The right to make one.
struct Turn;

impl Turn {
    fn take() -> Result<Self, FlameError> {
        if RUNNING.swap(true, Ordering::AcqRel) { Err(FlameError::Busy) } else { Ok(Self) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        RUNNING.store(false, Ordering::Release);
    }
}

/// The graph of the next `span`.
pub(super) async fn draw_after(span: Duration) -> Result<Vec<u8>, FlameError> {
    let turn = Turn::take()?;
    let (guard, turn) = aside(move || Ok((begin()?, turn))).await?;
    tokio::time::sleep(span).await;
    let draw = move || {
        let _turn = turn;
        draw(&guard)
    };
    aside(draw).await
}

/// Unwinding for the first time, and naming all functions, read the binary: no work for the runtime's threads.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FlameError> + Send + 'static,
) -> Result<T, FlameError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panicked| Err(FlameError::Failed(panicked.into())))
}

fn begin() -> Result<ProfilerGuard<'static>, FlameError> {
    let guard = ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(PASSED_OVER).build();
    guard.map_err(|error| FlameError::Failed(error.into()))
}

fn draw(guard: &ProfilerGuard<'_>) -> Result<Vec<u8>, FlameError> {
    let report = guard.report().build().map_err(|error| FlameError::Failed(error.into()))?;
    if report.data.is_empty() {
        return Ok(NOTHING.into());
    }
    let mut svg = Vec::new();
    report.flamegraph(&mut svg).map_err(|error| FlameError::Failed(error.into()))?;
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[inline(never)]
    fn burn_until_told(enough: &AtomicBool) -> u64 {
        let mut sum = 0_u64;
        while !enough.load(Ordering::Relaxed) {
            sum = (0..1_000).map(std::hint::black_box).fold(sum, u64::wrapping_add);
        }
        sum
    }

    #[test]
    fn there_is_none_where_memory_is_short() {
        assert!(fits(100_000_000, 0).is_ok() && fits(100_000_000, 512_000_000).is_ok());
        assert!(matches!(fits(100_000_000, 256_000_000), Err(FlameError::NoMemory { limit_mb: 256 })));
    }

    #[tokio::test]
    async fn it_shows_who_burns_and_there_is_one_at_a_time() {
        let enough = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&enough);
        let burning = std::thread::spawn(move || burn_until_told(&told));
        let (one, other) = tokio::join!(draw_after(Duration::from_secs(2)), draw_after(Duration::from_millis(10)),);
        assert!(matches!(other, Err(FlameError::Busy)));
        enough.store(true, Ordering::Relaxed);
        burning.join().unwrap();
        let svg = String::from_utf8(one.unwrap()).unwrap();
        assert!(svg.contains("<svg") && svg.contains("burn_until_told"), "{svg}");
        assert!(draw_after(Duration::from_millis(10)).await.is_ok(), "the next one may begin");
    }
}
