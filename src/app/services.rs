//! What is watched of the application's parts: those that come up by themselves, and what is elsewhere, by a question each.

use crate::chat::ChatService;
use crate::config::Config;
use crate::db::Db;
use crate::providers::BreakerState;
use crate::redis::Redis;
use crate::services::{Fault, Services};

/// Adds a check for each database, for Redis where there is one, and for the providers.
pub(super) fn watch(services: &Services, config: &Config, stores: &[Db; 2], redis: Option<&Redis>, chat: &ChatService) {
    let names: &[&'static str] = if config.database.is_some() { &["postgres"] } else { &["ish.db", "cache.db"] };
    for (&name, store) in names.iter().zip(stores) {
        let store = store.clone();
        services.check(name, move || {
            let store = store.clone();
            async move { Ok(store.check().await?) }
        });
    }
    if let Some(redis) = redis.cloned() {
        services.check("redis", move || {
            let redis = redis.clone();
            async move { Ok(redis.ping().await?) }
        });
    }
    let chat = chat.clone();
    services.check("providers", move || std::future::ready(reachable(&chat)));
}

/// Nobody is asked: what is known is what calls have met with.
fn reachable(chat: &ChatService) -> Result<(), Fault> {
    let targets = chat.router().targets();
    let out = targets.iter().filter(|target| target.state == BreakerState::Open || target.behind.is_some());
    let out: Vec<_> = out.map(|target| target.target.as_str()).collect();
    if out.is_empty() { Ok(()) } else { Err(format!("not asked for now: {}", out.join(", ")).into()) }
}
