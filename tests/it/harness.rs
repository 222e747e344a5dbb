//! What the tests are made with: a [`Server`] on a runtime of its own, an [`Http`] client that can be dropped in
//! mid-answer, and a [`Socket`] that checks every frame against the schema.
//!
//! Waiting is for a signal with a generous deadline; nothing here sleeps to let something happen.

mod collector;
mod database;
mod dialect;
pub mod document;
pub mod history;
mod http;
mod line;
mod overheard;
mod process;
pub mod report;
mod schema;
mod server;
mod socket;

use std::time::Duration;

pub use collector::{Collector, Span};
pub use database::{Database, redis_host};
pub use dialect::Dialect;
pub use http::{Http, Reply, asking};
pub use line::Line;
pub use overheard::{Heard, Overheard};
pub use process::{Process, Talk};
pub use schema::Schema;
pub use server::{ADMIN_KEY, Server};
pub use socket::{Ack, Answer, Socket};

/// The deadline of anything that should happen at once: generous, since it only decides how long a failure takes.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for `future`, and names it when it does not come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Looks until `probe` gives something: for states that no signal announces.
pub async fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(found) = probe() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}
