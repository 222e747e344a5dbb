//! How much more may run: of a kind, by its policy, and of a tenant, by the settings; at once, and in a minute. The store
//! reads what runs, asks here before each claim, and writes the rates back, all in one transaction that no other claim
//! overlaps.

use std::collections::BTreeMap;

use super::Registry;

/// What one kind, or one tenant, may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limit {
    /// At once.
    pub running: Option<u32>,
    /// Begun in a minute.
    pub per_minute: Option<u32>,
}

impl Limit {
    fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// All limits.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    kinds: BTreeMap<String, Limit>,
    tenant: Limit,
}

impl Limits {
    /// Those of the jobs' policies, and `tenant` for every tenant but the deployment itself.
    pub fn new(registry: &Registry, tenant: Limit) -> Self {
        let limits = registry.policies().map(|(kind, policy)| {
            (kind.to_owned(), Limit { running: policy.max_running, per_minute: policy.per_minute })
        });
        Self { kinds: limits.filter(|(_, limit)| !limit.is_none()).collect(), tenant }
    }

    /// Whether a claim needs to ask at all.
    pub fn are_none(&self) -> bool {
        self.kinds.is_empty() && self.tenant.is_none()
    }
}

/// What is used of one limit.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    running: u32,
    /// When the next would come if each came at its time (the generic cell rate algorithm).
    arrival_ms: f64,
    has_moved: bool,
}

impl Used {
    fn is_full(self, limit: Limit, now_ms: f64) -> bool {
        let is_early = |per_minute| self.arrival_ms - now_ms > tolerance_ms(per_minute);
        limit.running.is_some_and(|most| self.running >= most) || limit.per_minute.is_some_and(is_early)
    }

    fn take(&mut self, limit: Limit, now_ms: f64) {
        self.running += 1;
        if let Some(per_minute) = limit.per_minute {
            self.arrival_ms = self.arrival_ms.max(now_ms) + interval_ms(per_minute);
            self.has_moved = true;
        }
    }
}

fn interval_ms(per_minute: u32) -> f64 {
    60_000.0 / f64::from(per_minute.max(1))
}

/// A second's worth may come at once.
fn tolerance_ms(per_minute: u32) -> f64 {
    (1_000.0 - interval_ms(per_minute)).max(0.0)
}

/// What a claim may take.
#[derive(Debug, Default)]
pub(super) struct Headroom {
    limits: Limits,
    now_ms: f64,
    kinds: BTreeMap<String, Used>,
    tenants: BTreeMap<String, Used>,
}

impl Headroom {
    /// Of nothing that runs.
    pub fn new(limits: Limits, now_ms: f64) -> Self {
        Self { limits, now_ms, ..Self::default() }
    }

    pub fn note_running(&mut self, kind: &str, tenant: &str, tasks: u32) {
        self.kinds.entry(kind.to_owned()).or_default().running += tasks;
        self.tenants.entry(tenant.to_owned()).or_default().running += tasks;
    }

    pub fn note_arrival(&mut self, scope: &str, name: &str, arrival_ms: f64) {
        let used = if scope == "kind" { &mut self.kinds } else { &mut self.tenants };
        used.entry(name.to_owned()).or_default().arrival_ms = arrival_ms;
    }

    /// One more of this kind and tenant begins.
    pub fn take(&mut self, kind: &str, tenant: &str) {
        let (kind_limit, tenant_limit) = (self.kind_limit(kind), self.tenant_limit(tenant));
        self.kinds.entry(kind.to_owned()).or_default().take(kind_limit, self.now_ms);
        self.tenants.entry(tenant.to_owned()).or_default().take(tenant_limit, self.now_ms);
    }

    /// Kinds of which none may begin now.
    pub fn full_kinds(&self) -> Vec<&str> {
        let full = self.kinds.iter().filter(|(kind, used)| used.is_full(self.kind_limit(kind), self.now_ms));
        full.map(|(kind, _)| kind.as_str()).collect()
    }

    /// Tenants of which none may begin now.
    pub fn full_tenants(&self) -> Vec<&str> {
        let full = self.tenants.iter().filter(|(tenant, used)| used.is_full(self.tenant_limit(tenant), self.now_ms));
        full.map(|(tenant, _)| tenant.as_str()).collect()
    }

    /// The arrivals to be written: scope, name, time.
    pub fn moved(&self) -> impl Iterator<Item = (&'static str, &str, f64)> {
        let kinds = self.kinds.iter().map(|(name, used)| ("kind", name, used));
        let tenants = self.tenants.iter().map(|(name, used)| ("tenant", name, used));
        let moved = kinds.chain(tenants).filter(|(.., used)| used.has_moved);
        moved.map(|(scope, name, used)| (scope, name.as_str(), used.arrival_ms))
    }

    fn kind_limit(&self, kind: &str) -> Limit {
        self.limits.kinds.get(kind).copied().unwrap_or_default()
    }

    fn tenant_limit(&self, tenant: &str) -> Limit {
        if tenant == super::NewTask::OWN_TENANT { Limit::default() } else { self.limits.tenant }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(kind: Limit, tenant: Limit) -> Limits {
        Limits { kinds: BTreeMap::from([("mail".to_owned(), kind)]), tenant }
    }

    #[test]
    fn what_runs_counts_for_its_kind_and_its_tenant() {
        let two = Limit { running: Some(2), per_minute: None };
        let mut room = Headroom::new(limits(two, two), 0.0);
        room.note_running("mail", "a", 1);
        assert!(room.full_kinds().is_empty() && room.full_tenants().is_empty());
        room.take("other", "a");
        assert_eq!((room.full_kinds(), room.full_tenants()), (vec![], vec!["a"]));
        room.take("mail", "/");
        room.take("other", "/");
        assert_eq!((room.full_kinds(), room.full_tenants()), (vec!["mail"], vec!["a"]));
    }

    #[test]
    fn a_rate_lets_through_a_second_s_worth_at_once_and_then_its_share() {
        for (per_minute, at_once, in_a_minute) in [(30, 1, 30), (120, 2, 121), (6_000, 100, 6_099)] {
            let rate = Limit { running: None, per_minute: Some(per_minute) };
            let (mut begun, mut first, mut arrival) = (0, 0, 0.0);
            for now_ms in (0..60_000).step_by(10) {
                let mut room = Headroom::new(limits(rate, Limit::default()), f64::from(now_ms));
                room.note_arrival("kind", "mail", arrival);
                while room.full_kinds().is_empty() && begun < 100_000 {
                    room.take("mail", "a");
                    begun += 1;
                }
                arrival = room.moved().next().map_or(arrival, |(.., moved)| moved);
                first = if now_ms == 0 { begun } else { first };
            }
            assert_eq!((first, begun), (at_once, in_a_minute), "{per_minute} in a minute");
        }
    }
}
