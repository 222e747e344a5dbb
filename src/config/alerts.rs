//! What the process takes for an alert, and whom it tells: section `alerts`.

mod defaults;
mod rules;

use std::fmt;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::reader::{Reader, setting};

/// Section `alerts`.
#[derive(Debug, Clone)]
pub struct AlertsConfig {
    /// Whether alerts are looked for.
    pub enabled: bool,
    /// What is looked at: those that are built in, changed as the file has it, then the file's own.
    pub rules: Vec<AlertConfig>,
    /// Who is told.
    pub webhook: Option<WebhookConfig>,
}

/// What is taken for an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertConfig {
    /// Its name, one of its own: letters, digits, `_` and `-`.
    pub name: String,
    /// What is looked at: a named figure, a metric, or an expression of metrics (docs/alerts.md).
    pub metric: String,
    /// Beyond what it is one.
    pub threshold: f64,
    /// On which side of it.
    pub comparison: Comparison,
    /// How much it matters.
    pub severity: Severity,
    /// For how long it has to be so before it is one.
    pub hold: Duration,
    /// For how long it has to be otherwise before it is over.
    pub keep: Duration,
    /// What is counted, observed or shared is that of the last so long.
    pub window: Duration,
    /// Events within it without which a share of events or a quantile says nothing.
    pub least_events: u32,
    /// Where it stands what to do.
    pub runbook: Option<String>,
}

/// On which side of its threshold a figure is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Greater than it.
    Above,
    /// Not smaller than it.
    AtLeast,
    /// Smaller than it.
    Below,
    /// Not greater than it.
    AtMost,
}

impl Comparison {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Above, Self::AtLeast, Self::Below, Self::AtMost];

    /// Its word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::AtLeast => "at_least",
            Self::Below => "below",
            Self::AtMost => "at_most",
        }
    }

    /// Whether a value is bad.
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Above => value > threshold,
            Self::AtLeast => value >= threshold,
            Self::Below => value < threshold,
            Self::AtMost => value <= threshold,
        }
    }
}

/// How much an alert matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It wakes somebody.
    Critical,
    /// It is for today.
    Warning,
    /// It is for the next time somebody looks.
    Info,
}

impl Severity {
    /// All of them, the gravest first.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Warning, Self::Info];

    /// Its word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// Who is told of alerts.
#[derive(Clone)]
pub struct WebhookConfig {
    /// The address, which may hold a secret.
    pub url: Url,
    /// Sent as a bearer.
    pub token: Option<SecretString>,
}

impl fmt::Debug for WebhookConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WebhookConfig").finish_non_exhaustive()
    }
}

impl AlertConfig {
    /// One that is found after five minutes, over five minutes, of twenty events at least, and is over after one: a warning when
    /// `metric` is above `threshold`.
    pub fn new(name: impl Into<String>, metric: impl Into<String>, threshold: f64) -> Self {
        Self {
            name: name.into(),
            metric: metric.into(),
            threshold,
            comparison: Comparison::Above,
            severity: Severity::Warning,
            hold: Duration::from_mins(5),
            keep: Duration::from_mins(1),
            window: Duration::from_mins(5),
            least_events: 20,
            runbook: None,
        }
    }
}

impl AlertsConfig {
    /// `None` only when a fault was recorded.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let enabled = reader.flag("alerts.enabled");
        let thresholds = defaults::Thresholds::read(reader);
        let webhook = reader.webhook();
        let built_in = thresholds.map(|thresholds| thresholds.rules());
        let rules = reader.alert_rules(built_in.unwrap_or_default());
        Some(Self { enabled: enabled?, rules: rules?, webhook })
    }
}

impl Reader<'_> {
    /// `None` where none is set; a wrong one is a fault.
    fn webhook(&mut self) -> Option<WebhookConfig> {
        let key = "alerts.webhook_url";
        let token = self.secret("alerts.webhook_token", "alerts.webhook_token_file");
        let (text, origin) = self.text(setting(key));
        if text.is_empty() {
            return None;
        }
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if url.is_none() {
            self.fault(key, &text, &origin, "takes http://HOST/PATH or https://HOST/PATH");
        }
        Some(WebhookConfig { url: url?, token })
    }
}
