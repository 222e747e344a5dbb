//! How far a run has come, on the error stream: a bar that moves where somebody watches, a line now and then where not.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const WIDTH: usize = 30;

/// Shows how far `work` has come of the time that it takes, until it has ended.
pub(crate) async fn shown<T>(what: &str, lasts: Duration, work: impl Future<Output = T>) -> T {
    let is_watched = std::io::stderr().is_terminal();
    let every = if is_watched { Duration::from_millis(500) } else { (lasts / 5).max(Duration::from_secs(5)) };
    let (started, mut ticks) = (Instant::now(), tokio::time::interval(every));
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                say(&bar(what, lasts, lasts), is_watched);
                if is_watched {
                    eprintln!();
                }
                return done;
            }
            _ = ticks.tick() => say(&bar(what, started.elapsed(), lasts), is_watched),
        }
    }
}

fn say(line: &str, is_watched: bool) {
    let mut stderr = std::io::stderr();
    // Nobody who listens is no reason to stop.
    let _ = if is_watched { write!(stderr, "\r{line}") } else { writeln!(stderr, "{line}") };
}

fn bar(what: &str, gone: Duration, lasts: Duration) -> String {
    let share = (gone.as_secs_f64() / lasts.as_secs_f64().max(1e-9)).min(1.0);
    let full = (share * WIDTH as f64) as usize;
    let left = lasts.saturating_sub(gone).as_secs();
    format!("{what} [{}{}] {:3.0} %, {left} s left ", "#".repeat(full), "-".repeat(WIDTH - full), share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_and_never_flows_over() {
        let lasts = Duration::from_mins(1);
        assert_eq!(
            bar("load", lasts / 2, lasts),
            format!("load [{}{}]  50 %, 30 s left ", "#".repeat(15), "-".repeat(15))
        );
        assert!(bar("load", lasts * 2, lasts).contains(&"#".repeat(30)));
        assert!(bar("load", lasts, Duration::ZERO).contains("100 %"));
    }
}
