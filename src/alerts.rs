//! Alerts found inside the process: every so often it looks at its own metrics, holds figures of them to thresholds, and says what
//! began and what is over, to who asks and to a webhook. A Prometheus sees more (other instances, yesterday, a process that is gone);
//! this is for where there is none, and for programs around this library.
//!
//! Each process speaks for itself. Where several alerts begin or end in one look, they are one message.

mod figure;
mod message;
mod parse;
mod rule;
mod state;
mod term;
mod webhook;
mod window;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use figure::{FIGURES, Figure, Named};
pub use parse::FigureError;
pub use rule::{InvalidAlert, InvalidAlerts, Rule};
pub use state::State;

use crate::clock::Clock;
use crate::config::{Severity, WebhookConfig};
use crate::gauges::Gauges;
use crate::metrics::Metrics;
use crate::upstream::Upstream;
use figure::Track;
use message::{Message, Notice};
use state::{Now, Standing, Turn};
use webhook::{QUEUE, Webhook};

/// Alerts that are over, as many as are remembered.
const HISTORY: usize = 100;

/// What alerts are made of.
pub struct AlertParts {
    /// What is looked for.
    pub rules: Vec<Rule>,
    /// Between two looks.
    pub interval: Duration,
    /// Who is told.
    pub webhook: Option<WebhookConfig>,
    /// This process's name.
    pub instance: String,
    /// Brought up to date before each look.
    pub gauges: Gauges,
    /// What is looked at.
    pub metrics: Arc<Metrics>,
    /// The way to the webhook.
    pub upstream: Upstream,
    /// The time.
    pub clock: Clock,
}

/// The alerts of this process. Cloning is cheap.
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

struct Inner {
    instance: String,
    interval: Duration,
    gauges: Gauges,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// The metrics that the rules read.
    names: BTreeSet<&'static str>,
    book: Mutex<Book>,
    messages: Option<mpsc::Sender<Message>>,
}

/// Where all alerts stand, and those that are over.
struct Book {
    watched: Vec<Watched>,
    ended: VecDeque<Ended>,
}

struct Watched {
    rule: Rule,
    /// From the first look on.
    track: Option<Track>,
    standing: Standing,
    /// Whether the webhook knows that it fires.
    is_told: bool,
    silenced_until_ms: Option<u64>,
}

/// An alert as it stands.
#[derive(Debug, Clone)]
pub struct Alert {
    /// What it is.
    pub rule: Rule,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since_ms: u64,
    /// What was found last, the worst of several; `None` where nothing can be said.
    pub value: Option<f64>,
    /// Of what, where there are several: labels, as text.
    pub of: Option<String>,
    /// The worst value since it is no longer silent.
    pub worst: Option<f64>,
    /// Until when nobody is told.
    pub silenced_until_ms: Option<u64>,
}

/// An alert that is over.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its name.
    pub name: String,
    /// How much it mattered.
    pub severity: Severity,
    /// When it began to fire.
    pub fired_at_ms: u64,
    /// When it was over.
    pub resolved_at_ms: u64,
    /// The worst value meanwhile.
    pub worst: Option<f64>,
    /// What that is held to.
    pub threshold: f64,
}

/// Who looks, and who tells of it: to be kept up beside what is looked at.
pub struct Lookout {
    alerts: Alerts,
    telling: Option<(Webhook, mpsc::Receiver<Message>)>,
}

impl Alerts {
    /// Begins nothing yet.
    pub fn new(parts: AlertParts) -> (Self, Lookout) {
        let AlertParts { rules, interval, webhook, instance, gauges, metrics, upstream, clock } = parts;
        let now = moment(&clock);
        let (messages, telling) = match webhook {
            Some(webhook) => {
                let (sender, receiver) = mpsc::channel(QUEUE);
                (Some(sender), Some((Webhook::new(&webhook, upstream, Arc::clone(&metrics)), receiver)))
            }
            None => (None, None),
        };
        let names = rules.iter().flat_map(|rule| rule.figure().metrics()).collect();
        let watched = rules.into_iter().map(|rule| Watched::new(rule, now)).collect();
        let book = Mutex::new(Book { watched, ended: VecDeque::new() });
        let alerts = Self(Arc::new(Inner { instance, interval, gauges, metrics, clock, names, book, messages }));
        let lookout = Lookout { alerts: alerts.clone(), telling };
        (alerts, lookout)
    }

    /// Between two looks.
    pub fn interval(&self) -> Duration {
        self.0.interval
    }

    /// All of them, as they stand.
    pub fn list(&self) -> Vec<Alert> {
        let now_ms = self.0.clock.now_ms();
        self.0.book().watched.iter().map(|one| one.shown(now_ms)).collect()
    }

    /// Those that are over, the latest first.
    pub fn ended(&self) -> Vec<Ended> {
        self.0.book().ended.iter().rev().cloned().collect()
    }

    /// Nobody is told of this alert for so long; `None`: from now on again, and at the next look if it fires. Returns it as it stands, if
    /// there is one of this name.
    pub fn silence(&self, name: &str, length: Option<Duration>) -> Option<Alert> {
        let now_ms = self.0.clock.now_ms();
        let mut book = self.0.book();
        let one = book.watched.iter_mut().find(|one| one.rule.config().name == name)?;
        let until = |length: Duration| now_ms.saturating_add(u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
        one.silenced_until_ms = length.map(until);
        Some(one.shown(now_ms))
    }

    async fn keep_looking(&self) {
        let mut ticks = tokio::time::interval(self.0.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look();
        }
    }

    /// Looks once. The first look only remembers what counters began with.
    pub fn look(&self) {
        let inner = &*self.0;
        inner.gauges.refresh();
        let reading = inner.metrics.reading(&inner.names);
        let now = moment(&inner.clock);
        let mut notices = Vec::new();
        let mut book = inner.book();
        let Book { watched, ended } = &mut *book;
        for one in watched.iter_mut() {
            let window_ms = u64::try_from(one.rule.config().window.as_millis()).unwrap_or(u64::MAX);
            let found = match &mut one.track {
                Some(track) => track.findings(now.steady_ms, &reading, one.rule.config().least_events.into()),
                None => {
                    one.track = Some(Track::new(one.rule.figure().clone(), window_ms, now.steady_ms, &reading));
                    Vec::new()
                }
            };
            notices.extend(one.step(found, now, ended));
        }
        for severity in Severity::ALL {
            let firing = watched.iter().filter(|one| one.is_firing() && one.rule.config().severity == severity).count();
            inner.metrics.alerts_firing.with_label_values(&[severity.as_str()]).set(firing as i64);
        }
        drop(book);
        inner.tell(&notices);
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, notices: &[Notice]) {
        let Some(messages) = self.messages.as_ref().filter(|_| !notices.is_empty()) else { return };
        if messages.try_send(Message::of(&self.instance, notices)).is_err() {
            self.metrics.alert_messages.with_label_values(&["dropped"]).inc();
            tracing::error!(alerts = notices.len(), "a message of alerts was dropped: too many wait for the webhook");
        }
    }
}

impl Watched {
    fn new(rule: Rule, now: Now) -> Self {
        Self { rule, track: None, standing: Standing::new(now), is_told: false, silenced_until_ms: None }
    }

    fn is_firing(&self) -> bool {
        self.standing.state == State::Firing
    }

    /// What was found has its consequences; returns what somebody is to be told.
    fn step(&mut self, found: Vec<figure::Finding>, now: Now, ended: &mut VecDeque<Ended>) -> Option<Notice> {
        let fired_at_ms = self.standing.since.wall_ms;
        let turn = self.standing.step(self.rule.config(), found, now);
        let config = self.rule.config();
        let is_silenced = self.silenced_until_ms.is_some_and(|until| until > now.wall_ms);
        match turn {
            Some(Turn::Fired) => tracing::warn!(
                alert = config.name,
                severity = config.severity.as_str(),
                metric = config.metric,
                value = self.standing.worst,
                threshold = config.threshold,
                "an alert fires"
            ),
            Some(Turn::Resolved) => {
                tracing::info!(alert = config.name, severity = config.severity.as_str(), "an alert is over");
                ended.push_back(Ended {
                    name: config.name.clone(),
                    severity: config.severity,
                    fired_at_ms,
                    resolved_at_ms: now.wall_ms,
                    worst: self.standing.worst,
                    threshold: config.threshold,
                });
                ended.drain(..ended.len().saturating_sub(HISTORY));
                // Who was told of the beginning is told of the end.
                return std::mem::take(&mut self.is_told)
                    .then(|| Notice::of(&self.rule, &self.standing, fired_at_ms, Some(now.wall_ms)));
            }
            None => {}
        }
        if !self.is_firing() || self.is_told || is_silenced {
            return None;
        }
        self.is_told = true;
        Some(Notice::of(&self.rule, &self.standing, self.standing.since.wall_ms, None))
    }

    fn shown(&self, now_ms: u64) -> Alert {
        let found = self.standing.found.as_ref();
        Alert {
            rule: self.rule.clone(),
            state: self.standing.state,
            since_ms: self.standing.since.wall_ms,
            value: found.map(|found| found.value),
            of: found.map(|found| found.of.clone()).filter(|of| !of.is_empty()),
            worst: self.standing.worst.filter(|_| self.standing.state != State::Inactive),
            silenced_until_ms: self.silenced_until_ms.filter(|until| *until > now_ms),
        }
    }
}

impl Lookout {
    /// Looks and tells until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        let Self { alerts, telling } = self;
        if alerts.0.names.is_empty() {
            return;
        }
        let telling = async {
            if let Some((webhook, messages)) = telling {
                webhook.tell(messages).await;
            }
        };
        let both = async { tokio::join!(alerts.keep_looking(), telling) };
        stop.run_until_cancelled(both).await;
    }
}

fn moment(clock: &Clock) -> Now {
    Now { wall_ms: clock.now_ms(), steady_ms: clock.steady_ms() }
}
