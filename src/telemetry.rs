//! Logs: human or JSON lines on stderr, a filter per module that can be changed while the process runs; the panic hook, so that
//! a defect leaves a line; the layers that add up what profiled operations take and that gather traces, whatever is logged of them.
//! Prompts, completions, keys and addresses are never logged.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use tracing::{Dispatch, Subscriber};
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::{Filter, Identity, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use crate::config::{LogConfig, TracesConfig};
use crate::profile::ProfileLayer;
use crate::traces;

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
pub fn install(log: &LogConfig, traced: Option<&TracesConfig>) -> Result<(), FilterError> {
    let (filter, control) = changeable(log)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_span_events(FmtSpan::NONE);
    let filter = shown(filter, traced.is_some());
    let lines = if log.json {
        lines.json().with_filter(filter).boxed()
    } else {
        lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed()
    };
    let profiled = ProfileLayer::new().with_filter(filter_fn(ProfileLayer::hears));
    // A second subscriber can only come from a caller that installed its own first: theirs stays.
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(control.with_filter(LevelFilter::OFF))
        .with(profiled)
        .with(
            traced
                .map_or_else(|| Identity::new().with_filter(LevelFilter::OFF).boxed(), |to| traces::layer(to).boxed()),
        )
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: a defect of ish, please report it");
    }));
    Ok(())
}

/// The filter of the process's log, where [`install`] made it.
pub fn filter() -> Option<String> {
    with_control(|control| control.said.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Filters the log by `filter` from now on, until the process ends.
///
/// # Errors
/// [`FilterError`] when it cannot be read.
pub fn change_filter(filter: &str) -> Result<(), FilterError> {
    let parsed = parsed(filter)?;
    with_control(|control| {
        // Fails only without a subscriber, and this is part of one.
        if (control.change)(parsed) {
            filter.clone_into(&mut control.said.lock().unwrap_or_else(PoisonError::into_inner));
        }
    });
    Ok(())
}

/// The part of the subscriber by which its filter is changed.
struct Control {
    said: Mutex<String>,
    change: Box<dyn Fn(EnvFilter) -> bool + Send + Sync>,
}

impl<S: Subscriber> Layer<S> for Control {}

fn with_control<T>(work: impl FnOnce(&Control) -> T) -> Option<T> {
    let mut work = Some(work);
    tracing::dispatcher::get_default(|dispatch: &Dispatch| {
        let control = dispatch.downcast_ref::<Control>()?;
        work.take().map(|work| work(control))
    })
}

fn parsed(filter: &str) -> Result<EnvFilter, FilterError> {
    EnvFilter::try_new(filter).map_err(|source| FilterError { filter: filter.to_owned(), source })
}

/// The configured filter, and what changes it.
fn changeable<S>(log: &LogConfig) -> Result<(reload::Layer<EnvFilter, S>, Control), FilterError>
where
    S: 'static,
{
    let (filter, handle) = reload::Layer::new(parsed(&log.filter)?);
    let change = Box::new(move |filter| handle.reload(filter).is_ok());
    Ok((filter, Control { said: Mutex::new(log.filter.clone()), change }))
}

/// What lines show: what the filter lets through, and of traces, where there are any, the span that knows its trace.
fn shown<S>(filter: reload::Layer<EnvFilter, S>, is_traced: bool) -> Box<dyn Filter<S> + Send + Sync>
where
    S: Subscriber + 'static,
{
    let filter = filter.and(filter_fn(|metadata| !traces::is_span(metadata)));
    if is_traced { filter.or(filter_fn(traces::is_root)).boxed() } else { filter.boxed() }
}
