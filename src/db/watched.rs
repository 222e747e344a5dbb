//! What is seen of a statement: a span of the trace that it is part of, and a line where it is slow. Statements are shown as
//! they were written by hand, cut, without the values they were sent with.

use std::time::{Duration, Instant};

use tracing::Instrument;

use crate::traces;

/// A statement that takes longer is logged.
pub(super) const SLOW: Duration = Duration::from_millis(500);

/// How much of a slow statement is shown.
const SHOWN: usize = 300;

/// Runs a statement of Postgres.
pub(super) async fn watched<T>(
    statement: &str,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let span = traces::statement("postgresql", first_word(statement));
    let begun = Instant::now();
    let done = work.instrument(span.clone()).await;
    if done.is_err() {
        traces::failed(&span, "database");
    }
    let took = begun.elapsed();
    if took >= SLOW {
        tracing::warn!(statement = cut(statement), took_ms = took.as_millis(), "a slow statement");
    }
    done
}

fn first_word(statement: &str) -> &str {
    let word = statement.trim_start();
    &word[..word.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(word.len())]
}

/// One line, of which the beginning is enough to find the statement.
fn cut(statement: &str) -> String {
    let line = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_shown_in_one_line_and_cut() {
        assert_eq!(cut("SELECT  1\n  FROM x"), "SELECT 1 FROM x");
        let long = format!("SELECT {}", "é, ".repeat(400));
        assert_eq!(cut(&long).chars().count(), SHOWN + 1);
        assert_eq!(first_word("  SELECT(1)"), "SELECT");
        assert_eq!(first_word("COMMIT"), "COMMIT");
    }
}
