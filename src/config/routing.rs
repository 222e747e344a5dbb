//! How targets are chosen, asked again and given up: section `routing`, and `[routes."NAME"]`, whose targets must exist.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use toml::{Table, Value};

use super::providers::ProviderConfig;
use super::reader::{Reader, likeliest, plain};

const ROUTE_NAMES: [&str; 2] = ["strategy", "targets"];
const TARGET_NAMES: [&str; 6] =
    ["provider", "model", "weight", "max_in_flight", "requests_per_minute", "tokens_per_minute"];

/// Section `routing`.
#[derive(Debug, Clone)]
pub struct RoutingConfig {
    /// Calls that may repeat one within one request.
    pub max_retries: u32,
    /// The most that the first retry waits; doubled for each further one.
    pub backoff: Duration,
    /// The most that any retry waits.
    pub max_backoff: Duration,
    /// The share of a target's requests of the last ten seconds that may be retries.
    pub retry_budget: f64,
    /// The longest `Retry-After` that is waited out.
    pub max_retry_after: Duration,
    /// Failures in a row that open a target's breaker.
    pub breaker_failures: NonZeroU32,
    /// How long it stays open the first time.
    pub breaker_open: Duration,
    /// The longest that it stays open.
    pub breaker_max_open: Duration,
    /// Calls to one target at a time; `None`: as many as come.
    pub max_in_flight: Option<NonZeroUsize>,
    /// How long a request waits for a place at a full target.
    pub queue_timeout: Duration,
    /// Requests that may wait for a target.
    pub max_queue: usize,
}

/// In which order a route's targets are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// As they stand.
    Ordered,
    /// Each first in turn.
    RoundRobin,
    /// Each first by chance, as often as its weight says.
    Weighted,
    /// The one with the fewest calls running first.
    LeastInFlight,
    /// The one whose first token comes soonest first.
    LowestLatency,
}

impl Strategy {
    /// All of them, by the word in the file.
    pub const ALL: [(&'static str, Self); 5] = [
        ("ordered", Self::Ordered),
        ("round_robin", Self::RoundRobin),
        ("weighted", Self::Weighted),
        ("least_in_flight", Self::LeastInFlight),
        ("lowest_latency", Self::LowestLatency),
    ];
}

/// A public model name with targets of its own: `[routes."NAME"]`.
#[derive(Debug, Clone)]
pub struct RouteConfig {
    /// The public name.
    pub name: String,
    /// In which order they are asked.
    pub strategy: Strategy,
    /// At least one.
    pub targets: Vec<TargetConfig>,
}

/// One target of a route.
#[derive(Debug, Clone)]
pub struct TargetConfig {
    /// The provider's name.
    pub provider: String,
    /// The model's name there.
    pub model: String,
    /// Its share, for `weighted`.
    pub weight: NonZeroU32,
    /// Calls to it at a time; `None`: `routing.max_in_flight`.
    pub max_in_flight: Option<NonZeroUsize>,
    /// Requests to it in a minute; `None`: no bound.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Tokens, of input and output, in a minute; `None`: no bound.
    pub tokens_per_minute: Option<NonZeroU32>,
}

impl RoutingConfig {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let max_retries = reader.value("routing.max_retries");
        let backoff = reader.seconds("routing.backoff");
        let max_backoff = reader.seconds("routing.max_backoff");
        let retry_budget = reader.share("routing.retry_budget");
        let max_retry_after = reader.seconds("routing.max_retry_after");
        let breaker_failures = reader.value("routing.breaker_failures");
        let breaker_open = reader.seconds("routing.breaker_open");
        let breaker_max_open = reader.seconds("routing.breaker_max_open");
        let max_in_flight = reader.value("routing.max_in_flight");
        let queue_timeout = reader.seconds("routing.queue_timeout");
        let max_queue = reader.value("routing.max_queue");
        Some(Self {
            max_retries: max_retries?,
            backoff: backoff?,
            max_backoff: max_backoff?,
            retry_budget: retry_budget?,
            max_retry_after: max_retry_after?,
            breaker_failures: breaker_failures?,
            breaker_open: breaker_open?,
            breaker_max_open: breaker_max_open?,
            max_in_flight: NonZeroUsize::new(max_in_flight?),
            queue_timeout: queue_timeout?,
            max_queue: max_queue?,
        })
    }
}

impl Reader<'_> {
    /// Each `[routes."NAME"]`, whose targets name one of `providers` or `demo`.
    pub(super) fn routes(&mut self, providers: &[ProviderConfig]) -> Vec<RouteConfig> {
        let known: Vec<&str> = providers.iter().map(|provider| provider.name.as_str()).chain(["demo"]).collect();
        let routes = self.section("routes");
        routes.iter().filter_map(|(name, value)| self.route(name, value, &known)).collect()
    }

    fn route(&mut self, name: &str, value: &Value, providers: &[&str]) -> Option<RouteConfig> {
        let key = format!("routes.{name:?}");
        let Some(table) = value.as_table() else {
            self.refuse(&key, &value.to_string(), "takes a table of strategy and targets");
            return None;
        };
        self.check_members(&key, table, &ROUTE_NAMES, "a route");
        let word = table.get("strategy").map_or_else(|| "ordered".to_owned(), plain);
        let strategy = Strategy::ALL.into_iter().find_map(|(known, strategy)| (known == word).then_some(strategy));
        if strategy.is_none() {
            let words = Strategy::ALL.map(|(word, _)| word).join(", ");
            self.refuse(&format!("{key}.strategy"), &word, &format!("takes one of {words}"));
        }
        let targets = table.get("targets").and_then(Value::as_array).filter(|targets| !targets.is_empty());
        let Some(targets) = targets else {
            let shown = table.get("targets").map(Value::to_string).unwrap_or_default();
            let accepted = "takes at least one target, as in [{ provider = \"openai\", model = \"gpt-4o\" }]";
            self.refuse(&format!("{key}.targets"), &shown, accepted);
            return None;
        };
        let read: Vec<_> = (0..)
            .zip(targets)
            .map(|(index, target)| self.target(&format!("{key}.targets[{index}]"), target, providers))
            .collect();
        let targets = read.into_iter().collect::<Option<Vec<_>>>()?;
        Some(RouteConfig { name: name.to_owned(), strategy: strategy?, targets })
    }

    fn target(&mut self, key: &str, value: &Value, providers: &[&str]) -> Option<TargetConfig> {
        let Some(table) = value.as_table() else {
            self.refuse(key, &value.to_string(), "takes a table of provider, model and more");
            return None;
        };
        self.check_members(key, table, &TARGET_NAMES, "a target");
        let text = |name: &str| table.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (provider, model) = (text("provider"), text("model"));
        let is_known = providers.contains(&provider.as_str());
        if !is_known {
            let accepted = format!("takes the name of a provider that is configured: {}", providers.join(", "));
            self.refuse(&format!("{key}.provider"), &provider, &accepted);
        }
        if model.is_empty() {
            self.refuse(&format!("{key}.model"), "", "takes the model's name at the provider");
        }
        let numbers = ["weight", "max_in_flight", "requests_per_minute", "tokens_per_minute"]
            .map(|name| self.whole_number(&format!("{key}.{name}"), table.get(name)));
        let [Some(weight), Some(max_in_flight), Some(requests_per_minute), Some(tokens_per_minute)] = numbers else {
            return None;
        };
        let weight = weight.unwrap_or(NonZeroU32::MIN);
        let max_in_flight = max_in_flight.map(|number| NonZeroUsize::MIN.saturating_add(number.get() as usize - 1));
        let target = TargetConfig { provider, model, weight, max_in_flight, requests_per_minute, tokens_per_minute };
        (is_known && !target.model.is_empty()).then_some(target)
    }

    /// A number above 0 that may be left out; `None` when it is something else.
    #[expect(clippy::option_option, reason = "wrong and absent are different")]
    fn whole_number(&mut self, key: &str, value: Option<&Value>) -> Option<Option<NonZeroU32>> {
        let Some(value) = value else { return Some(None) };
        let number = value.as_integer().and_then(|whole| u32::try_from(whole).ok()).and_then(NonZeroU32::new);
        if number.is_none() {
            self.refuse(key, &value.to_string(), "takes a whole number above 0");
        }
        number.map(Some)
    }

    fn check_members(&mut self, key: &str, table: &Table, known: &[&str], what: &str) {
        for (name, value) in table.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let accepted = format!("is unknown{}: {what} takes {}", likeliest(name, known), known.join(", "));
            self.refuse(&format!("{key}.{name}"), &plain(value), &accepted);
        }
    }
}
