//! Public model names to providers: what a provider lists, and `provider/model` for any name it may know.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::Provider;

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

/// Where a request goes.
#[derive(Clone)]
pub struct Target {
    /// Who answers.
    pub provider: Arc<dyn Provider>,
    /// The model's name there.
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

struct Known {
    models: Vec<ListedModel>,
    read_at: Option<Instant>,
}

/// The router.
pub struct Router {
    providers: Vec<Arc<dyn Provider>>,
    known: RwLock<Known>,
    refresh: tokio::sync::Mutex<()>,
}

impl Router {
    /// Over `providers`, the preferred first.
    pub fn new(providers: Vec<Arc<dyn Provider>>) -> Self {
        Self {
            providers,
            known: RwLock::new(Known { models: Vec::new(), read_at: None }),
            refresh: tokio::sync::Mutex::new(()),
        }
    }

    /// The providers' names, the preferred first.
    pub fn provider_names(&self) -> Vec<String> {
        self.providers.iter().map(|provider| provider.name().to_owned()).collect()
    }

    /// The target of a public model name.
    ///
    /// # Errors
    /// [`UnknownModel`].
    pub async fn target(&self, model: &str) -> Result<Target, UnknownModel> {
        if let Some((name, rest)) = model.split_once('/')
            && let Some(provider) = self.provider(name)
            && !rest.is_empty()
        {
            return Ok(Target { provider: Arc::clone(provider), model: rest.to_owned() });
        }
        if let Some(target) = self.listed(model) {
            return Ok(target);
        }
        self.refresh(Duration::from_secs(1)).await;
        self.listed(model).ok_or_else(|| UnknownModel { model: model.to_owned() })
    }

    /// All models that the providers list, the preferred provider's first.
    pub async fn models(&self) -> Vec<ListedModel> {
        self.refresh(LIST_LIFE).await;
        self.known.read().unwrap_or_else(PoisonError::into_inner).models.clone()
    }

    fn provider(&self, name: &str) -> Option<&Arc<dyn Provider>> {
        self.providers.iter().find(|provider| provider.name() == name)
    }

    fn listed(&self, model: &str) -> Option<Target> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let listed = known.models.iter().find(|listed| listed.id == model)?;
        Some(Target { provider: Arc::clone(self.provider(&listed.provider)?), model: model.to_owned() })
    }

    /// Asks the providers for their lists, unless that was done within `life`. One that fails keeps its last list.
    async fn refresh(&self, life: Duration) {
        let _one_at_a_time = self.refresh.lock().await;
        let fresh = |known: &Known| known.read_at.is_some_and(|at| at.elapsed() < life);
        if fresh(&self.known.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let lists = futures_util::future::join_all(self.providers.iter().map(|provider| provider.models())).await;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut models: Vec<ListedModel> = Vec::new();
        for (provider, list) in self.providers.iter().zip(lists) {
            let named: Vec<ListedModel> = match list {
                Ok(names) => {
                    names.into_iter().map(|id| ListedModel { id, provider: provider.name().to_owned() }).collect()
                }
                Err(failure) => {
                    tracing::warn!(
                        provider = provider.name(),
                        kind = failure.kind.as_str(),
                        "a provider's models could not be listed: {failure}"
                    );
                    known.models.iter().filter(|listed| listed.provider == provider.name()).cloned().collect()
                }
            };
            models.extend(named);
        }
        *known = Known { models, read_at: Some(Instant::now()) };
    }
}
