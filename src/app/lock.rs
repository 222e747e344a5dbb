//! The lock of a data folder: one server at a time, and the way for the command line to find it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const NAME: &str = "ish.lock";

/// The folder is in use, or cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another server.
    #[error("another ish (process {pid}) uses the data folder {}: stop it, or set ISH_DATA_DIR to another folder", path.display())]
    Held {
        /// The folder.
        path: PathBuf,
        /// The other's process.
        pid: u32,
    },
    /// The file system.
    #[error("the lock file {} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A server that holds a data folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunningServer {
    /// Its process.
    pub pid: u32,
    /// Where it listens; `None` while it starts.
    pub address: Option<SocketAddr>,
    /// What the command line shows it.
    pub token: String,
}

impl RunningServer {
    /// The server that holds `folder` now, if one does.
    pub fn find(folder: &Path) -> Option<Self> {
        let mut file = File::open(folder.join(NAME)).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {}
            _ => return None,
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// The lock, held as long as this value lives; the system lets it go when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DataLock {
    file: File,
    path: PathBuf,
}

impl DataLock {
    pub(super) fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join(NAME);
        let io = |source| LockError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // It holds a token: for its owner only.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = RunningServer::find(folder).map_or(0, |server| server.pid);
                return Err(LockError::Held { path: folder.to_owned(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let lock = Self { file, path: path.clone() };
        lock.write(&RunningServer { pid: std::process::id(), address: None, token: String::new() }).map_err(io)?;
        Ok(lock)
    }

    /// Says where the server listens.
    pub(super) fn announce(&self, address: SocketAddr, token: &str) -> std::io::Result<()> {
        self.write(&RunningServer { pid: std::process::id(), address: Some(address), token: token.to_owned() })
    }

    fn write(&self, server: &RunningServer) -> std::io::Result<()> {
        let mut file = &self.file;
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(serde_json::to_string(server)?.as_bytes())
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // The file stays: removing it would let a third process lock another file of the same name.
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(%error, path = %self.path.display(), "the lock file could not be emptied");
        }
    }
}
