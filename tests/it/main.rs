//! The integration tests: one binary, so that it links once. Each test starts the whole application on a port of its
//! own with a data folder of its own, and a local provider that misbehaves on request; nothing is mocked.
//!
//! `cargo nextest run --test it --features failpoints` runs all of them; without the feature the tests that need a
//! crash point are left out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must say so and stop")]

mod harness;

mod admin_key;
mod alerts;
mod anthropic_in;
mod attributes;
mod bad_input;
mod changes;
mod chat_verb;
mod dialect_providers;
mod drain;
mod evictions;
mod faults;
mod first_touch;
mod flights;
mod flights_shared;
mod hints;
mod hostile;
mod instances;
mod learned;
mod limits;
mod limits_shared;
mod logins;
mod macro_errors;
mod meaning;
mod memo;
mod metrics_described;
mod metrics_token;
mod midstream;
mod moving;
mod ollama_in;
mod on_postgres;
mod on_redis;
mod openai;
mod openapi;
mod pools;
mod provider_faults;
mod redis_outage;
mod redis_sets;
mod reembed;
mod responses_in;
mod restart;
mod round_trips;
mod routing;
mod said_once;
mod savings;
mod scope;
mod service;
mod services;
mod sessions;
mod shared_tier;
mod summaries;
mod tasks;
mod tasks_api;
mod tenants;
mod tidy;
mod users;
mod websocket;
mod websocket_time;
#[cfg(feature = "failpoints")]
mod workers;
mod workflows;
mod workflows_api;
mod ws_bad_input;
mod ws_keys;
