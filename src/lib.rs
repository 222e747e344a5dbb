//! **ish** is the backend behind a chat window: it takes a prompt over WebSocket, REST or the OpenAI API, answers it
//! from a semantic cache when an earlier answer is *safe* to reuse, and otherwise streams it from a provider.
//!
//! The modules in reading order: a request is a [`message`]; [`api`] turns bytes into one; [`streams`] opens the answer
//! of a stored question; [`chat`] answers it, by the [`cache`] (with its [`embedding`]) or by [`providers`] over
//! [`upstream`], as far as [`limits`] let it; [`conversations`], [`keys`] and [`users`] are stored in a [`db`], which several
//! [`instances`] may share, each of which follows the [`changes`] of the others. What need not be done at once is one of its
//! [`tasks`], the product's own among them [`jobs`]. [`app`] makes all of it, [`cli`] runs it.
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
pub mod instances;
pub mod jobs;
pub mod keys;
pub mod limits;
pub mod message;
pub mod metrics;
pub mod pool;
pub mod prices;
pub mod providers;
pub mod redis;
pub mod streams;
pub mod tasks;
pub mod telemetry;
pub mod upstream;
pub mod users;
