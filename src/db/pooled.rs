//! Connections to one Postgres: a pool behind a gate, and how a transaction begins on one of them.

use std::fmt::Write;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::time::timeout_at;
use uuid::Uuid;

use super::postgres::is_away;
use super::transaction::Writer;
use super::{DbError, Transaction};
use crate::config::DatabaseConfig;
use crate::pool::{Gate, Pools};

/// What keeps a connection for longer is reported: no transaction stays open while a provider answers or a job runs.
const HELD_TOO_LONG: Duration = Duration::from_secs(10);

/// A connection that idled longer than this is asked whether it lives before it is used.
const FRESH: Duration = Duration::from_secs(30);

/// The connections. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Pooled {
    pool: PgPool,
    /// Before the pool, which never has to make anybody wait.
    gate: Gate,
    /// When a connection was last found dead: those that have idled since before are suspect.
    lost: Lost,
    /// How long to wait for a transaction to begin.
    acquire_timeout: Duration,
    /// How long one statement may take.
    statement_timeout: Duration,
    pub(super) writer: Writer,
}

#[derive(Debug, Clone, Default)]
struct Lost(Arc<Mutex<Option<Instant>>>);

impl Lost {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_suspect(&self, idle_for: Duration) -> bool {
        let lost = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle_for > FRESH || lost.is_some_and(|lost| lost.elapsed() <= idle_for)
    }
}

impl Pooled {
    /// Connects as soon as it is asked to.
    pub(super) fn new(name: &'static str, config: &DatabaseConfig, options: PgConnectOptions, pools: &Pools) -> Self {
        let limit = config.max_connections;
        let gate = pools.gate(name, limit.try_into().unwrap_or(NonZeroUsize::MAX), HELD_TOO_LONG);
        let lost = Lost::default();
        let pool = pool_options(config, &gate, lost.clone()).connect_lazy_with(options);
        let measured = pool.clone();
        gate.with_size(move || measured.size() as usize);
        let (acquire_timeout, statement_timeout) = (config.acquire_timeout, config.statement_timeout);
        let writer = Writer { name: Uuid::now_v7(), has_written: Arc::default() };
        Self { pool, gate, lost, acquire_timeout, statement_timeout, writer }
    }

    /// Opens the first connections in the background. No transaction is begun on them: a pooler may have fewer.
    pub(super) fn warm(&self, connections: u32) {
        let pool = self.pool.clone();
        tokio::spawn(async move {
            let opened = (0..connections).map(|_| pool.acquire());
            drop(futures_util::future::join_all(opened).await);
        });
    }

    /// Begins to read a tenant's rows.
    pub(super) async fn read(&self, tenant: &str) -> Result<Transaction, DbError> {
        self.begin("BEGIN READ ONLY", "ish_tenant", tenant, "a tenant's reading").await
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// The first message: what begins the transaction and all that holds in it, in one way there and back. The tenant goes
    /// in hexadecimal: whatever it is, it ends no literal.
    fn first(&self, begin: &str, role: &str, tenant: &str) -> String {
        let mut hex = String::with_capacity(2 * tenant.len());
        for byte in tenant.bytes() {
            let _ = write!(hex, "{byte:02x}");
        }
        format!(
            "{begin}; SET LOCAL ROLE {role}; SELECT set_config('ish.tenant', convert_from('\\x{hex}', 'UTF8'), true), \
             set_config('statement_timeout', '{}', true)",
            self.statement_timeout.as_millis()
        )
    }

    /// Begins a transaction. Boxed: it stands in the future of every statement.
    pub(super) async fn begin(
        &self,
        begin: &str,
        role: &str,
        tenant: &str,
        what: &'static str,
    ) -> Result<Transaction, DbError> {
        Box::pin(self.begin_with(&self.first(begin, role, tenant), what)).await
    }

    /// Nothing was done before the first message, so that one that is lost with its connection is sent again on another.
    async fn begin_with(&self, first: &str, what: &'static str) -> Result<Transaction, DbError> {
        let deadline = tokio::time::Instant::now() + self.acquire_timeout;
        let permit = self.gate.enter(what, deadline).await.ok_or(sqlx::Error::PoolTimedOut)?;
        let begun = timeout_at(deadline, async {
            match Transaction::begin(&self.pool, first, self.statement_timeout, &self.writer).await {
                Err(error) if is_away(&error) => {
                    self.lost.note();
                    self.gate.note_error();
                    Transaction::begin(&self.pool, first, self.statement_timeout, &self.writer).await
                }
                begun => begun,
            }
        });
        let begun = begun.await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        if begun.as_ref().is_err_and(is_away) {
            self.gate.note_error();
        }
        Ok(begun?.holding(permit))
    }
}

/// What the pool does with its connections, and what of it is told at the gate.
fn pool_options(config: &DatabaseConfig, gate: &Gate, lost: Lost) -> PgPoolOptions {
    let (made, used, left) = (gate.clone(), gate.clone(), gate.clone());
    let lifetime = config.max_lifetime;
    PgPoolOptions::new()
        .max_connections(config.max_connections.get())
        .min_connections(config.min_connections.min(config.max_connections.get()))
        .acquire_timeout(config.acquire_timeout)
        .idle_timeout(config.idle_timeout)
        // Old ones are let go below, where they can be counted.
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |_, _| {
            made.note_created();
            Box::pin(async { Ok(()) })
        })
        .before_acquire(move |connection, about| {
            let (suspect, gate) = (lost.is_suspect(about.idle_for), used.clone());
            Box::pin(async move {
                if suspect {
                    connection.ping().await.inspect_err(|_| gate.note_error())?;
                }
                Ok(is_young(&gate, about.age, lifetime))
            })
        })
        .after_release(move |_, about| {
            let keep = is_young(&left, about.age, lifetime);
            Box::pin(async move { Ok(keep) })
        })
}

/// Whether a connection may be used again; one that may not is counted.
fn is_young(gate: &Gate, age: Duration, lifetime: Duration) -> bool {
    let keep = age <= lifetime;
    if !keep {
        gate.note_recycled();
    }
    keep
}
