//! Connections to one Postgres: a pool behind a gate, and how a transaction begins on one of them.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use tokio::time::timeout_at;
use uuid::Uuid;

use super::kept::Kept;
use super::postgres::is_away;
use super::transaction::{Source, Writer, alone};
use super::watched::watched;
use super::{DbError, Name, Transaction, Written};
use crate::config::DatabaseConfig;
use crate::pool::{Gate, Permit, Pools};

/// What keeps a connection for longer is reported: no transaction stays open while a provider answers or a job runs.
const HELD_TOO_LONG: Duration = Duration::from_secs(10);

/// A connection that idled longer than this is asked whether it lives before it is used.
const FRESH: Duration = Duration::from_secs(30);

/// The connections. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Pooled {
    source: Source,
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
        let source = Source { pool, kept: Kept::default() };
        Self { source, gate, lost, acquire_timeout, statement_timeout, writer }
    }

    /// Opens the first connections in the background. No transaction is begun on them: a pooler may have fewer.
    pub(super) fn warm(&self, connections: u32) {
        let pool = self.source.pool.clone();
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
        self.source.kept.close();
        self.source.pool.close().await;
    }

    /// What holds in a transaction, as columns of its first statement: the role, as `SET LOCAL ROLE` would take it on, the
    /// tenant, and how long a statement may take.
    fn settings(&self, role: &str, tenant: &str) -> String {
        let (tenant, timeout_ms) = (Written::new("$1").bind(Name(tenant)).text(), self.statement_timeout.as_millis());
        format!(
            "set_config('role', '{role}', true), set_config('ish.tenant', {tenant}, true), \
             set_config('statement_timeout', '{timeout_ms}', true)"
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
        let first = format!("{begin}; SELECT {}", self.settings(role, tenant));
        let begin = || watched("BEGIN", Transaction::begin(&self.source, &first, self.statement_timeout, &self.writer));
        Box::pin(self.begun(what, begin)).await.map(|(transaction, permit)| transaction.holding(permit))
    }

    /// Reads with one statement: one message, and a transaction by itself. Boxed as [`Pooled::begin`] is.
    pub(super) async fn ask(
        &self,
        role: &str,
        tenant: &str,
        what: &'static str,
        asked: &Written,
    ) -> Result<Vec<PgRow>, DbError> {
        let settings = self.settings(role, tenant);
        let message = format!(
            "/* {what} */ SELECT {settings}, set_config('transaction_read_only', 'on', true); {}",
            asked.text()
        );
        let ask = || watched(asked.statement(), alone(&self.source, &message, self.acquire_timeout));
        let (mut rows, _permit) = Box::pin(self.begun(what, ask)).await?;
        // The settings as they are by then.
        rows.drain(..1);
        Ok(rows)
    }

    /// Waits for a permit, and begins with it. Nothing was done before the first message, so that one that is lost with its
    /// connection is sent again on another.
    async fn begun<T, F>(&self, what: &'static str, begin: impl Fn() -> F) -> Result<(T, Permit), DbError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let deadline = tokio::time::Instant::now() + self.acquire_timeout;
        let permit = self.gate.enter(what, deadline).await.ok_or(sqlx::Error::PoolTimedOut)?;
        let begun = timeout_at(deadline, async {
            match begin().await {
                Err(error) if is_away(&error) => {
                    self.lost.note();
                    self.source.kept.clear();
                    self.gate.note_error();
                    begin().await
                }
                begun => begun,
            }
        });
        let begun = begun.await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        if begun.as_ref().is_err_and(is_away) {
            self.gate.note_error();
        }
        Ok((begun?, permit))
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
