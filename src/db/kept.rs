//! Connections between two transactions. sqlx's pool asks every one that comes back whether it lives, which is a way to the
//! server and back for each transaction. One that has just ended its transaction well is kept here for a moment instead.
//! Its age and how long it may idle are the pool's to know: it goes back there within two seconds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use sqlx::{Connection, Postgres};
use tokio::time::timeout;

/// How long a connection stays away from the pool, in use or not.
const AWAY: Duration = Duration::from_secs(1);

/// How long a connection may take to say that it lives: the pool would wait for as long as the network does.
const PING: Duration = Duration::from_secs(5);

/// A connection, and since when the pool has not seen it.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) connection: PoolConnection<Postgres>,
    since: Instant,
}

/// Those that nobody uses now. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    lent: Vec<Lent>,
    /// Whether somebody comes to take back what stays here.
    is_watched: bool,
    is_closed: bool,
}

impl Kept {
    /// The one that was used last, else one of the pool's.
    pub(super) async fn take(&self, pool: &PgPool) -> Result<Lent, sqlx::Error> {
        let kept = self.lock().lent.pop();
        match kept {
            Some(lent) => Ok(lent),
            None => Ok(Lent { connection: pool.acquire().await?, since: Instant::now() }),
        }
    }

    /// Keeps one that ended its transaction, unless the pool should see it.
    pub(super) fn put(&self, lent: Lent) {
        let mut shelf = self.lock();
        if shelf.is_closed || lent.since.elapsed() >= AWAY {
            give_back(lent);
            return;
        }
        shelf.lent.push(lent);
        if !shelf.is_watched {
            shelf.is_watched = true;
            tokio::spawn(self.clone().watch());
        }
    }

    /// Gives the pool what it has not seen for long enough, until there is nothing left.
    async fn watch(self) {
        loop {
            tokio::time::sleep(AWAY).await;
            let mut shelf = self.lock();
            shelf.lent.extract_if(.., |lent| lent.since.elapsed() >= AWAY).for_each(give_back);
            if shelf.lent.is_empty() {
                shelf.is_watched = false;
                return;
            }
        }
    }

    /// Gives all of them back: one was found dead, and the others may be.
    pub(super) fn clear(&self) {
        self.lock().lent.drain(..).for_each(give_back);
    }

    /// The same, and keeps none from now on.
    pub(super) fn close(&self) {
        let mut shelf = self.lock();
        shelf.is_closed = true;
        shelf.lent.drain(..).for_each(give_back);
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Back to the pool, or closed where it is silent.
fn give_back(mut lent: Lent) {
    tokio::spawn(async move {
        if !matches!(timeout(PING, lent.connection.ping()).await, Ok(Ok(()))) {
            lent.connection.close_on_drop();
        }
    });
}

impl Drop for Shelf {
    fn drop(&mut self) {
        // A connection goes back in a task. Where nothing runs any more the process is about to end, and they with it.
        if tokio::runtime::Handle::try_current().is_err() {
            std::mem::forget(std::mem::take(&mut self.lent));
        }
    }
}
