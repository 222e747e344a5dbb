//! Who is let in, and what they are told of this server.

use std::sync::Arc;

use super::BuildError;
use super::parts::{default_model, window};
use crate::api::{Access, Heartbeat, SeatLimits, Seats, ServerFacts};
use crate::clock::Clock;
use crate::config::Config;
use crate::keys::Keys;
use crate::metrics::Metrics;

/// Local mode: loopback, and no key was ever made, or the operator insists.
pub(super) async fn access_mode(config: &Config, keys: &Keys) -> Result<bool, BuildError> {
    let listen = config.server.listen;
    let loopback = listen.ip().is_loopback();
    if config.server.local && !loopback {
        return Err(BuildError::LocalExposed { listen });
    }
    if let Some(path) = &config.server.admin_key_file {
        let key = std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        if key.len() < 20 || key.contains(char::is_whitespace) {
            return Err(BuildError::AdminKeyFile { path: path.clone() });
        }
        if !keys.ensure_admin(&key).await? {
            return Err(BuildError::AdminKeyEnded { path: path.clone() });
        }
    }
    let any_key = !keys.list().await?.is_empty();
    if !loopback && !any_key {
        return Err(BuildError::KeysNeeded { listen });
    }
    Ok(loopback && (config.server.local || !any_key))
}

pub(super) fn access(config: &Config, local: bool, cli_token: &str) -> Access {
    Access {
        local,
        allowed_origins: config.server.allowed_origins.clone(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        cli_token: cli_token.to_owned(),
        metrics_token: config.server.metrics_token.clone(),
    }
}

pub(super) fn seats(config: &Config, metrics: &Arc<Metrics>) -> Seats {
    let limits = SeatLimits {
        all: config.server.max_connections,
        per_key: config.server.max_connections_per_key,
        per_address: config.server.max_connections_per_address,
    };
    Seats::new(limits, Arc::clone(metrics))
}

pub(super) fn facts(config: &Config, clock: &Clock) -> ServerFacts {
    ServerFacts {
        default_model: default_model(config),
        max_body_bytes: config.server.max_body_bytes,
        max_frame_bytes: config.server.max_frame_bytes,
        max_frames_per_second: config.server.max_frames_per_second,
        drain_timeout: config.server.drain_timeout,
        heartbeat: Heartbeat::every(config.server.heartbeat),
        window: window(config),
        instance_id: config.server.instance_name(),
        serve_metrics: config.server.metrics,
        started_ms: clock.now_ms(),
        clock: clock.clone(),
    }
}
