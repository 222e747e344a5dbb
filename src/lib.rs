//! **ish** is the backend behind a chat window: it takes a prompt over WebSocket, REST or the OpenAI API, answers it
//! from a semantic cache when an earlier answer is *safe* to reuse, and otherwise streams it from a provider.
//!
//! The modules in reading order: a request is a [`message`]; [`api`] turns bytes into one; [`streams`] opens the answer
//! of a stored question; [`chat`] answers it, by the [`cache`] (with its [`embedding`]) or by [`providers`] over
//! [`upstream`], as far as [`limits`] let it; [`conversations`], [`keys`], [`logins`] and [`users`] are stored in a [`db`], which several
//! [`instances`] may share, each of which follows the [`changes`] of the others; what else is worth keeping is in [`memo`]. What
//! need not be done at once is one of its [`tasks`], the product's own among them [`jobs`]; several that belong together are [`workflows`]. What comes up by itself is in the registry of [`services`]; what is wrong with the process it finds itself: [`alerts`]. [`app`] makes all of it, [`cli`] runs it.
//!
//! Service code around it uses [`fast_endpoint`], [`async_job`], [`ai_optimized`] and [`profiled`], which call plain functions of
//! [`endpoint`], [`tasks`], [`ai`] and [`profile`].
//!
//! Each part is usable on its own:
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use ish::config::{Config, Environment};
//!
//! let folder = tempfile::tempdir()?;
//! let environment = Environment::from([("ISH_DATA_DIR", folder.path().to_str().unwrap_or("data"))]);
//! let app = ish::app::App::build(Config::read(&environment, None)?).await?;
//! app.health().await?;
//! assert!(app.metrics_text().contains("ish_build_info"));
//! app.close().await;
//! # Ok(())
//! # }
//! ```

// The attributes name this library by its name, also inside of it.
extern crate self as ish;

pub mod ai;
pub mod alerts;
pub mod api;
pub mod app;
mod bucket;
pub mod cache;
pub mod changes;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod config;
pub mod conversations;
pub mod db;
pub mod embedding;
pub mod endpoint;
pub mod gauges;
pub mod instances;
pub mod jobs;
pub mod keys;
pub mod limits;
pub mod logins;
pub mod memo;
pub mod message;
pub mod metrics;
pub mod parallel;
pub mod pool;
pub mod prices;
pub mod profile;
pub mod providers;
pub mod redis;
pub mod services;
pub mod streams;
pub mod tasks;
pub mod telemetry;
pub mod upstream;
pub mod users;
pub mod vitals;
pub mod workflows;

pub use api::Caller;
pub use ish_macros::{CacheKey, ai_optimized, async_job, fast_endpoint, profiled};

/// What the attributes name besides the library's own: a program that uses them need not depend on it.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "linked-jobs")]
    pub use inventory;
    pub use serde;
}

/// The examples of `docs/macros.md`, so that they are run.
#[cfg(doctest)]
#[doc = include_str!("../docs/macros.md")]
struct Attributes;

/// Registers nothing: the feature `linked-jobs` is off.
#[cfg(not(feature = "linked-jobs"))]
#[macro_export]
macro_rules! link_job {
    ($job:ty) => {};
}
