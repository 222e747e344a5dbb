//! Logs: human or JSON lines on stderr, a filter per module; the panic hook, so that a defect leaves a line.
//! Prompts, completions, keys and addresses are never logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::LogConfig;

/// The log filter is not in tracing's syntax.
#[derive(Debug, thiserror::Error)]
#[error("log.filter = {filter:?} is not a log filter: {source}")]
pub struct FilterError {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Installs the subscriber and the panic hook. Called once, by `main`.
///
/// # Errors
/// [`FilterError`] when the filter cannot be read.
pub fn install(config: &LogConfig) -> Result<(), FilterError> {
    let filter =
        EnvFilter::try_new(&config.filter).map_err(|source| FilterError { filter: config.filter.clone(), source })?;
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_span_events(FmtSpan::NONE);
    // A second subscriber can only come from a caller that installed its own first: theirs stays.
    let _ = if config.json {
        lines.json().try_init()
    } else {
        lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: a defect of ish, please report it");
    }));
    Ok(())
}
