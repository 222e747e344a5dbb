//! Public model names to routes: those of the configuration, what a provider lists, and `provider/model` for any name it
//! may know.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::Provider;
use super::breaker::BreakerSettings;
use super::route::{Route, Weighted};
use super::target::{Health, HealthParts, Target, TargetStatus};
use crate::clock::Clock;
use crate::config::{Config, RouteConfig, RoutingConfig};
use crate::metrics::Metrics;
use crate::prices::Prices;

/// How long a provider's list is believed; an unknown name asks again before that, but not more often than each second.
const LIST_LIFE: Duration = Duration::from_mins(5);

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
}

/// A provider, and the health that its models share which the configuration does not name.
struct Member {
    provider: Arc<dyn Provider>,
    health: Arc<Health>,
}

#[derive(Default)]
struct Known {
    models: Vec<ListedModel>,
    routes: HashMap<String, Arc<Route>>,
    read_at: Option<Instant>,
}

/// How long calls may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub first_token: Duration,
    pub total: Duration,
}

/// The router.
pub struct Router {
    members: Vec<Member>,
    /// The targets that the configuration names, by `provider/model`.
    named: HashMap<String, Arc<Target>>,
    routes: HashMap<String, Arc<Route>>,
    listed_routes: Vec<ListedModel>,
    known: RwLock<Known>,
    refresh: tokio::sync::Mutex<()>,
    pub(super) routing: RoutingConfig,
    pub(super) limits: Limits,
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
        };
        let bound = routing.max_in_flight.map(std::num::NonZeroUsize::get);
        let member = |provider: Arc<dyn Provider>| {
            let health = Health::shared(provider.name(), bound, health_parts.clone());
            Member { provider, health }
        };
        let limits = Limits { first_token: config.upstream.first_token_timeout, total: config.upstream.total_timeout };
        let mut router = Self {
            members: parts.providers.into_iter().map(member).collect(),
            named: HashMap::new(),
            routes: HashMap::new(),
            listed_routes: Vec::new(),
            known: RwLock::default(),
            refresh: tokio::sync::Mutex::new(()),
            routing,
            limits,
            metrics: parts.metrics,
        };
        let bounds = config.routes.iter().flat_map(|route| &route.targets);
        for target in bounds {
            let places = target.max_in_flight.map(std::num::NonZeroUsize::get).or(bound);
            router.name(&target.provider, &target.model, places, &health_parts);
        }
        for provider in &config.providers {
            for model in &provider.models {
                router.name(&provider.name, model, bound, &health_parts);
            }
        }
        router.routes = router.named.iter().map(|(name, target)| (name.clone(), one(target))).collect();
        for route in &config.routes {
            router.add(route);
        }
        router
    }

    /// Gives a target of the configuration a health of its own; of two bounds on its places the first counts.
    fn name(&mut self, provider: &str, model: &str, places: Option<usize>, parts: &HealthParts) {
        let Some(member) = self.members.iter().find(|member| member.provider.name() == provider) else { return };
        let (provider, name) = (Arc::clone(&member.provider), format!("{provider}/{model}"));
        self.named.entry(name).or_insert_with(|| {
            let health = Health::named(provider.name(), model, places, parts.clone());
            Arc::new(Target { provider, model: model.into(), health })
        });
    }

    fn add(&mut self, config: &RouteConfig) {
        let targets: Vec<Weighted> = config
            .targets
            .iter()
            .filter_map(|target| {
                let known = self.named.get(&format!("{}/{}", target.provider, target.model))?;
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
        self.members.iter().map(|member| member.provider.name().to_owned()).collect()
    }

    /// How every target does: those that the configuration names, then what each provider's others share.
    pub fn targets(&self) -> Vec<TargetStatus> {
        let mut named: Vec<_> = self.named.values().map(|target| target.health.status()).collect();
        named.sort_by(|a, b| a.target.cmp(&b.target));
        named.extend(self.members.iter().map(|member| member.health.status()));
        named
    }

    /// Sets the gauges of what is forgotten by itself.
    pub fn refresh_gauges(&self) {
        self.members.iter().for_each(|member| member.health.refresh_gauges());
    }

    /// The route of a public model name.
    ///
    /// # Errors
    /// [`UnknownModel`].
    pub async fn route(&self, model: &str) -> Result<Arc<Route>, UnknownModel> {
        if let Some(route) = self.routes.get(model).cloned().or_else(|| self.listed(model)) {
            return Ok(route);
        }
        if let Some((name, rest)) = model.split_once('/')
            && let Some(member) = self.members.iter().find(|member| member.provider.name() == name)
            && !rest.is_empty()
        {
            return Ok(self.of_member(member, rest));
        }
        self.refresh(Duration::from_secs(1)).await;
        self.listed(model).ok_or_else(|| UnknownModel { model: model.to_owned() })
    }

    /// All routes, then all models that the providers list, the preferred provider's first.
    pub async fn models(&self) -> Vec<ListedModel> {
        self.refresh(LIST_LIFE).await;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_new = |listed: &&ListedModel| self.listed_routes.iter().all(|route| route.id != listed.id);
        self.listed_routes.iter().chain(known.models.iter().filter(is_new)).cloned().collect()
    }

    fn listed(&self, model: &str) -> Option<Arc<Route>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).routes.get(model).cloned()
    }

    /// The route of one target: with its own health where the configuration names it, else with its provider's, in which
    /// it has a breaker of its own.
    fn of_member(&self, member: &Member, model: &str) -> Arc<Route> {
        if let Some(target) = self.named.get(&format!("{}/{model}", member.provider.name())) {
            return one(target);
        }
        let (provider, health) = (Arc::clone(&member.provider), Arc::clone(&member.health));
        one(&Arc::new(Target { provider, model: model.into(), health }))
    }

    /// Asks the providers for their lists, unless that was done within `life`. One that fails keeps its last list.
    async fn refresh(&self, life: Duration) {
        let _one_at_a_time = self.refresh.lock().await;
        let fresh = |known: &Known| known.read_at.is_some_and(|at| at.elapsed() < life);
        if fresh(&self.known.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let lists = self.members.iter().map(|member| member.provider.models());
        let lists = futures_util::future::join_all(lists).await;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = Known { read_at: Some(Instant::now()), ..Known::default() };
        for (member, list) in self.members.iter().zip(lists) {
            let provider = member.provider.name();
            let names = list.unwrap_or_else(|failure| {
                let kind = failure.kind.as_str();
                tracing::warn!(provider, kind, "a provider's models could not be listed: {failure}");
                let own = known.models.iter().filter(|listed| listed.provider == provider);
                own.map(|listed| listed.id.clone()).collect()
            });
            for id in names {
                fresh.routes.entry(id.clone()).or_insert_with(|| self.of_member(member, &id));
                fresh.models.push(ListedModel { id, provider: provider.to_owned() });
            }
        }
        *known = fresh;
    }
}

fn one(target: &Arc<Target>) -> Arc<Route> {
    Arc::new(Route::of_one(Arc::clone(target)))
}
