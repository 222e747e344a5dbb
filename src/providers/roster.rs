//! The providers, and the models that they list. Lists are read behind whoever asks, each taken as it comes, so that one
//! provider that hangs keeps nobody from the others' models; one that fails keeps its last list, and is asked again later
//! and later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Provider;
use super::route::Route;
use super::target::{CallLimits, Health, Target};
use crate::upstream::Failure;

/// How long a provider's list is believed, and the longest that one which failed is left alone.
const LIST_LIFE: Duration = Duration::from_mins(5);

/// A name that no list has lets them be read again, but not more often than this.
const LEAST_LIFE: Duration = Duration::from_secs(1);

/// Longest wait for lists.
const PATIENCE: Duration = Duration::from_secs(2);

/// A provider, and the health that its models share which the configuration does not name.
pub(super) struct Member {
    pub provider: Arc<dyn Provider>,
    pub health: Arc<Health>,
    pub limits: CallLimits,
    list: Mutex<List>,
}

/// What is known of a provider's list.
#[derive(Default)]
struct List {
    models: Vec<String>,
    /// When it last came, or failed to.
    ended_at: Option<Instant>,
    /// Failures since it last came.
    failures: u32,
    is_awaited: bool,
}

impl List {
    fn is_due(&self, life: Duration) -> bool {
        let life = match self.failures {
            0 => life,
            failures => LEAST_LIFE.saturating_mul(2_u32.saturating_pow(failures - 1)).min(LIST_LIFE),
        };
        !self.is_awaited && self.ended_at.is_none_or(|at| at.elapsed() >= life)
    }

    fn take(&mut self, list: Result<Vec<String>, Failure>) {
        self.ended_at = Some(Instant::now());
        match list {
            Ok(models) => (self.models, self.failures) = (models, 0),
            Err(_) => self.failures = self.failures.saturating_add(1),
        }
    }
}

impl Member {
    pub fn new(provider: Arc<dyn Provider>, health: Arc<Health>, limits: CallLimits) -> Self {
        Self { provider, health, limits, list: Mutex::default() }
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The providers, the preferred first.
pub(super) struct Roster {
    pub members: Vec<Member>,
    /// The targets that the configuration names, by `provider/model`.
    pub named: HashMap<String, Arc<Target>>,
    /// The routes of listed models; of several providers' the preferred one's.
    routes: RwLock<HashMap<String, Arc<Route>>>,
    /// Counts lists that came or failed.
    ended: watch::Sender<u64>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Roster {
    pub fn new(
        members: Vec<Member>,
        named: HashMap<String, Arc<Target>>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self { members, named, routes: RwLock::default(), ended: watch::Sender::new(0), tasks, stop })
    }

    pub fn member(&self, provider: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.provider.name() == provider)
    }

    /// The route of one target: with its own health where the configuration names it, else with its provider's, in which
    /// it has a breaker of its own.
    pub fn of_member(&self, member: &Member, model: &str) -> Arc<Route> {
        if let Some(target) = self.named.get(&format!("{}/{model}", member.provider.name())) {
            return Arc::new(Route::of_one(Arc::clone(target)));
        }
        let (provider, health) = (Arc::clone(&member.provider), Arc::clone(&member.health));
        Arc::new(Route::of_one(Arc::new(Target { provider, model: model.into(), health, limits: member.limits })))
    }

    /// The route of a model that was listed.
    pub fn listed(&self, model: &str) -> Option<Arc<Route>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).get(model).cloned()
    }

    /// The same of one that may have been listed since.
    pub async fn listed_by_now(self: &Arc<Self>, model: &str) -> Option<Arc<Route>> {
        self.freshen(LEAST_LIFE);
        // Nobody waits for one that failed the last time.
        let is_hopeless = |list: &List| !list.is_awaited || list.failures > 0;
        self.settle(|| self.listed(model).is_some() || self.members.iter().all(|member| is_hopeless(&member.list())))
            .await;
        self.listed(model)
    }

    /// Each provider's name and its list as it was last read; only the first one is waited for.
    pub async fn lists(self: &Arc<Self>) -> Vec<(String, Vec<String>)> {
        self.freshen(LIST_LIFE);
        self.settle(|| self.members.iter().all(|member| member.list().ended_at.is_some())).await;
        let list = |member: &Member| (member.provider.name().to_owned(), member.list().models.clone());
        self.members.iter().map(list).collect()
    }

    /// Waits until `is_enough`, but not for ever.
    async fn settle(&self, is_enough: impl Fn() -> bool) {
        let mut ended = self.ended.subscribe();
        let wait = async { while !is_enough() && ended.changed().await.is_ok() {} };
        // Who hangs is not there.
        let _ = tokio::time::timeout(PATIENCE, wait).await;
    }

    /// Begins to read each list that is older than `life`.
    fn freshen(self: &Arc<Self>, life: Duration) {
        for (index, member) in self.members.iter().enumerate() {
            let mut list = member.list();
            if list.is_due(life) {
                list.is_awaited = true;
                self.tasks.spawn(Arc::clone(self).read(index));
            }
        }
    }

    async fn read(self: Arc<Self>, index: usize) {
        let member = &self.members[index];
        let list = tokio::select! {
            list = member.provider.models() => list,
            () = self.stop.cancelled() => return,
        };
        if let Err(failure) = &list {
            let (provider, kind) = (member.provider.name(), failure.kind.as_str());
            // Not its message: a provider may quote its key.
            tracing::warn!(provider, kind, status = failure.status, "a provider's models could not be listed");
        }
        member.list().take(list);
        self.name_routes();
        // Only now, so that nobody who finds it read misses its routes.
        member.list().is_awaited = false;
        self.ended.send_modify(|ended| *ended += 1);
    }

    fn name_routes(&self) {
        // Held from the first list that is read: of two that come at once, neither may put its view over the other's.
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.clear();
        for member in &self.members {
            for model in &member.list().models {
                routes.entry(model.clone()).or_insert_with(|| self.of_member(member, model));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::clock::Clock;
    use crate::metrics::Metrics;
    use crate::prices::Prices;
    use crate::providers::breaker::BreakerSettings;
    use crate::providers::target::{Bounds, HealthParts};
    use crate::providers::{Call, Demo, Reply};
    use crate::upstream::FailureKind;

    /// Accepts, and never answers.
    struct Silent;

    impl Provider for Silent {
        fn name(&self) -> &'static str {
            "silent"
        }

        fn chat(&self, _call: Call) -> BoxFuture<'_, Result<Reply, Failure>> {
            std::future::pending().boxed()
        }

        fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
            std::future::pending().boxed()
        }
    }

    fn roster(providers: [Arc<dyn Provider>; 2]) -> Arc<Roster> {
        let minute = Duration::from_mins(1);
        let parts = HealthParts {
            breaker: BreakerSettings { failures: 1, open: minute, max_open: minute },
            retry_share: 0.2,
            metrics: Arc::new(Metrics::new()),
            prices: Arc::new(Prices::default()),
            clock: Clock::manual(0),
            max_retry_after: minute,
        };
        let limits = CallLimits { first_token: minute, whole: minute };
        let member = |provider: Arc<dyn Provider>| {
            let health = Health::shared(provider.name(), Bounds::default(), parts.clone());
            Member::new(provider, health, limits)
        };
        Roster::new(providers.map(member).into(), HashMap::new(), TaskTracker::new(), CancellationToken::new())
    }

    #[tokio::test]
    async fn one_that_hangs_keeps_nobody_from_the_others() {
        let roster = roster([Arc::new(Silent), Arc::new(Demo::default())]);
        assert!(roster.listed_by_now("demo").await.is_some(), "each list is taken as it comes");
        assert!(roster.members[0].list().is_awaited);
        let lists = [("silent".to_owned(), Vec::new()), ("demo".to_owned(), vec!["demo".to_owned()])];
        assert_eq!(roster.lists().await, lists, "and nobody waits for ever");
        assert!(roster.listed_by_now("unknown").await.is_none());
    }

    /// Has one model, and says so at once.
    struct Quick(&'static str);

    impl Provider for Quick {
        fn name(&self) -> &'static str {
            self.0
        }

        fn chat(&self, _call: Call) -> BoxFuture<'_, Result<Reply, Failure>> {
            std::future::pending().boxed()
        }

        fn models(&self) -> BoxFuture<'_, Result<Vec<String>, Failure>> {
            std::future::ready(Ok(vec![self.0.to_owned()])).boxed()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn lists_that_come_at_once_do_not_undo_each_other() {
        for _ in 0..500 {
            let roster = roster([Arc::new(Quick("one")), Arc::new(Quick("two"))]);
            let (one, two) = tokio::join!(roster.listed_by_now("one"), roster.listed_by_now("two"));
            assert!(one.is_some() && two.is_some(), "each was listed");
            roster.tasks.close();
            roster.tasks.wait().await;
            assert!(roster.listed("one").is_some() && roster.listed("two").is_some(), "and stays so");
        }
    }

    #[test]
    fn a_list_that_fails_is_asked_for_later_and_later_and_stays() {
        let mut list = List::default();
        assert!(list.is_due(LIST_LIFE));
        list.take(Ok(vec!["m".to_owned()]));
        assert!(!list.is_due(LIST_LIFE) && list.is_due(Duration::ZERO));
        for _ in 0..40 {
            list.take(Err(Failure::new(FailureKind::Connect, "a test's")));
            assert!(!list.is_due(Duration::ZERO), "its own time counts");
        }
        assert_eq!(list.models, ["m"]);
        list.ended_at = Instant::now().checked_sub(LIST_LIFE);
        assert!(list.is_due(LIST_LIFE), "five minutes at most");
        list.is_awaited = true;
        assert!(!list.is_due(LIST_LIFE), "one at a time");
    }
}
