//! Why the application cannot start.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::LockError;
use crate::alerts::InvalidAlerts;
use crate::db::DbError;
use crate::embedding::EmbedError;
use crate::redis::RedisAddressError;
use crate::tasks::ScheduleError;
use crate::upstream::ClientError;

/// Why the application cannot start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The data folder cannot be used.
    #[error("the data folder {} (server.data_dir) cannot be used", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another server uses the data folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// An alert that nobody can look for.
    #[error(transparent)]
    Alerts(#[from] InvalidAlerts),
    /// A database.
    #[error("a database in the data folder cannot be opened")]
    Db(#[from] DbError),
    /// The database server.
    #[error("the database of DATABASE_URL cannot be used; `ish doctor` says more")]
    Server(#[source] DbError),
    /// What instances share.
    #[error(transparent)]
    Redis(#[from] RedisAddressError),
    /// The HTTP client.
    #[error("the HTTP client cannot be made")]
    Upstream(#[from] ClientError),
    /// The embedder.
    #[error("the embedder cannot be started")]
    Embedder(#[from] EmbedError),
    /// A schedule of the product's own jobs.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Keys are needed.
    #[error(
        "server.listen = {listen} is not a loopback address, and there is no key: make one with `ish keys new --admin`, \
         name a file in ISH_ADMIN_KEY_FILE, or listen on 127.0.0.1"
    )]
    KeysNeeded {
        /// The address.
        listen: SocketAddr,
    },
    /// `server.local` on an address that others reach.
    #[error("server.local = true, but server.listen = {listen} is not a loopback address: local mode has no keys")]
    LocalExposed {
        /// The address.
        listen: SocketAddr,
    },
    /// The admin key file.
    #[error("the admin key file {} cannot be used: it must hold one key of at least 20 characters", path.display())]
    AdminKeyFile {
        /// The file.
        path: PathBuf,
    },
    /// The key in the admin key file is good no longer.
    #[error(
        "the key in the admin key file {} was revoked, or its time is over: put another one there, or leave the setting out",
        path.display()
    )]
    AdminKeyEnded {
        /// The file.
        path: PathBuf,
    },
}
