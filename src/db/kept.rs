//! Connections between two transactions. sqlx's pool asks every one that comes back whether it lives, which is a way to the
//! server and back for each transaction. One that has just ended its transaction well is kept here for a moment instead.
//! Its age and how long it may idle are the pool's to know: it goes back there within two seconds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;

/// How long a connection stays away from the pool, in use or not.
const AWAY: Duration = Duration::from_secs(1);

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
        // Dropped, it goes to the pool.
        if shelf.is_closed || lent.since.elapsed() >= AWAY {
            return;
        }
        shelf.lent.push(lent);
        if !shelf.is_watched {
            shelf.is_watched = true;
            tokio::spawn(self.clone().give_back());
        }
    }

    /// Gives the pool what it has not seen for long enough, until there is nothing left.
    async fn give_back(self) {
        loop {
            tokio::time::sleep(AWAY).await;
            let mut shelf = self.lock();
            shelf.lent.retain(|lent| lent.since.elapsed() < AWAY);
            if shelf.lent.is_empty() {
                shelf.is_watched = false;
                return;
            }
        }
    }

    /// Gives all of them back: one was found dead, and the others may be.
    pub(super) fn clear(&self) {
        self.lock().lent.clear();
    }

    /// The same, and keeps none from now on.
    pub(super) fn close(&self) {
        let mut shelf = self.lock();
        shelf.is_closed = true;
        shelf.lent.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        // A connection goes back in a task. Where nothing runs any more the process is about to end, and they with it.
        if tokio::runtime::Handle::try_current().is_err() {
            std::mem::forget(std::mem::take(&mut self.lent));
        }
    }
}
