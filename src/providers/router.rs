//! Public model names to routes: those of the configuration, what a provider lists, and `provider/model` for any name it
//! may know.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Provider;
use super::breaker::BreakerSettings;
use super::roster::{Member, Roster};
use super::route::{Route, Weighted};
use super::target::{Bounds, CallLimits, Health, HealthParts, Target, TargetStatus};
use crate::clock::Clock;
use crate::config::{Config, RouteConfig, RoutingConfig};
use crate::metrics::Metrics;
use crate::prices::Prices;

/// No provider knows this model.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the model `{model}` does not exist; GET /v1/models lists those that do, and `provider/model` names any other of a configured provider"
)]
pub struct UnknownModel {
    /// The name asked for.
    pub model: String,
}

/// A model as `/v1/models` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedModel {
    /// Its public name.
    pub id: String,
    /// Its provider's name.
    pub provider: String,
}

/// What the router is made of.
pub struct RouterParts {
    /// Who answers, the preferred first.
    pub providers: Vec<Arc<dyn Provider>>,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// What tokens cost.
    pub prices: Arc<Prices>,
    /// Its time.
    pub clock: Clock,
    /// Where its tasks run.
    pub tasks: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

/// The router.
pub struct Router {
    roster: Arc<Roster>,
    routes: HashMap<String, Arc<Route>>,
    listed_routes: Vec<ListedModel>,
    pub(super) routing: RoutingConfig,
    /// No call begins later than so long after its request came.
    pub(super) total: Duration,
    pub(super) metrics: Arc<Metrics>,
}

impl Router {
    /// Over its parts, with the configuration's routes.
    pub fn new(config: &Config, parts: RouterParts) -> Self {
        let routing = config.routing.clone();
        let breaker = BreakerSettings {
            failures: routing.breaker_failures.get(),
            open: routing.breaker_open,
            max_open: routing.breaker_max_open,
        };
        let health_parts = HealthParts {
            breaker,
            retry_share: routing.retry_budget,
            metrics: Arc::clone(&parts.metrics),
            prices: parts.prices,
            clock: parts.clock,
            max_retry_after: routing.max_retry_after,
        };
        let bound = routing.max_in_flight.map(std::num::NonZeroUsize::get);
        let member = |provider: Arc<dyn Provider>| {
            let health = Health::shared(provider.name(), Bounds::places(bound), health_parts.clone());
            let limits = call_limits(config, provider.name());
            Member::new(provider, health, limits)
        };
        let members: Vec<Member> = parts.providers.into_iter().map(member).collect();
        let named = named(config, &members, &health_parts);
        let mut router = Self {
            routes: named.iter().map(|(name, target)| (name.clone(), one(target))).collect(),
            roster: Roster::new(members, named, parts.tasks, parts.stop),
            listed_routes: Vec::new(),
            routing,
            total: config.upstream.total_timeout,
            metrics: parts.metrics,
        };
        for route in &config.routes {
            router.add(route);
        }
        router
    }

    fn add(&mut self, config: &RouteConfig) {
        let targets: Vec<Weighted> = config
            .targets
            .iter()
            .filter_map(|target| {
                let known = self.roster.named.get(&format!("{}/{}", target.provider, target.model))?;
                Some(Weighted { target: Arc::clone(known), weight: target.weight.get() })
            })
            .collect();
        let Some(first) = targets.first() else { return };
        let provider = first.target.provider.name().to_owned();
        self.listed_routes.push(ListedModel { id: config.name.clone(), provider });
        self.routes.insert(config.name.clone(), Arc::new(Route::new(config.strategy, targets)));
    }

    /// The providers' names, the preferred first.
    pub fn provider_names(&self) -> Vec<String> {
        self.roster.members.iter().map(|member| member.provider.name().to_owned()).collect()
    }

    /// How every target does: those that the configuration names, then what each provider's others share.
    pub fn targets(&self) -> Vec<TargetStatus> {
        let mut named: Vec<_> = self.roster.named.values().map(|target| target.health.status()).collect();
        named.sort_by(|a, b| a.target.cmp(&b.target));
        named.extend(self.roster.members.iter().map(|member| member.health.status()));
        named
    }

    /// Sets the gauges of what is forgotten by itself.
    pub fn refresh_gauges(&self) {
        self.roster.members.iter().for_each(|member| member.health.refresh_gauges());
    }

    /// The route of a public model name.
    ///
    /// # Errors
    /// [`UnknownModel`].
    pub async fn route(&self, model: &str) -> Result<Arc<Route>, UnknownModel> {
        if let Some(route) = self.routes.get(model).cloned().or_else(|| self.roster.listed(model)) {
            return Ok(route);
        }
        if let Some((name, rest)) = model.split_once('/')
            && let Some(member) = self.roster.member(name)
            && !rest.is_empty()
        {
            return Ok(self.roster.of_member(member, rest));
        }
        self.roster.listed_by_now(model).await.ok_or_else(|| UnknownModel { model: model.to_owned() })
    }

    /// All routes, then all models that the providers list, the preferred provider's first; each name once. What has its
    /// name from another is listed as `provider/model`, by which it is asked.
    pub async fn models(&self) -> Vec<ListedModel> {
        let mut taken: HashSet<String> = self.listed_routes.iter().map(|route| route.id.clone()).collect();
        let mut models = self.listed_routes.clone();
        for (provider, list) in self.roster.lists().await {
            for id in list {
                let name = [format!("{provider}/{id}"), id].into_iter().rev().find(|name| !taken.contains(name));
                let Some(id) = name else { continue };
                taken.insert(id.clone());
                models.push(ListedModel { id, provider: provider.clone() });
            }
        }
        models
    }
}

/// The targets that the configuration names, by `provider/model`, each with a health of its own; of two that name the same
/// bounds the first counts.
fn named(config: &Config, members: &[Member], parts: &HealthParts) -> HashMap<String, Arc<Target>> {
    let places = config.routing.max_in_flight.map(std::num::NonZeroUsize::get);
    let of_routes = config.routes.iter().flat_map(|route| &route.targets);
    let of_routes = of_routes.map(|target| (&target.provider, &target.model, Bounds::of(target, places)));
    let of_providers = config
        .providers
        .iter()
        .flat_map(|provider| provider.models.iter().map(move |model| (&provider.name, model, Bounds::places(places))));
    let mut named = HashMap::new();
    for (provider, model, bounds) in of_routes.chain(of_providers) {
        let Some(member) = members.iter().find(|member| member.provider.name() == provider) else { continue };
        named.entry(format!("{provider}/{model}")).or_insert_with(|| {
            let health = Health::named(provider, model, bounds, parts.clone());
            let (provider, model) = (Arc::clone(&member.provider), model.as_str().into());
            Arc::new(Target { provider, model, health, limits: member.limits })
        });
    }
    named
}

/// A provider's own, else those of all.
fn call_limits(config: &Config, provider: &str) -> CallLimits {
    let own = config.providers.iter().find(|known| known.name == provider).map(|known| known.timeouts);
    let timeouts = config.upstream.with(&own.unwrap_or_default());
    CallLimits { first_token: timeouts.first_token_timeout, whole: timeouts.whole_timeout }
}

fn one(target: &Arc<Target>) -> Arc<Route> {
    Arc::new(Route::of_one(Arc::clone(target)))
}
