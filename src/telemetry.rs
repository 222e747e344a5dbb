//! Logs: human or JSON lines on stderr, a filter per module; the panic hook, so that a defect leaves a line; the layer that
//! adds up what profiled operations take, whatever is logged of them.
//! Prompts, completions, keys and addresses are never logged.

use std::io::IsTerminal;

use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::LogConfig;
use crate::profile::ProfileLayer;

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
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_span_events(FmtSpan::NONE);
    let lines = if config.json {
        lines.json().with_filter(filter).boxed()
    } else {
        lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed()
    };
    let profiled = ProfileLayer::new().with_filter(filter_fn(ProfileLayer::hears));
    // A second subscriber can only come from a caller that installed its own first: theirs stays.
    let _ = tracing_subscriber::registry().with(profiled).with(lines).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: a defect of ish, please report it");
    }));
    Ok(())
}
