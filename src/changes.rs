//! The change log: what one instance writes to Postgres and every other one has to know, as an outbox. A change is a row in
//! the transaction of the write itself ([`note`]), so that neither is there without the other; every instance reads on
//! from where it is ([`Reader`]).
//!
//! Transactions commit in another order than they begin. A reader's position is therefore a transaction number below which
//! nothing can commit any more (`pg_snapshot_xmin`); what is committed beyond it is handed out at once all the same and
//! remembered, so that a transaction that stays open long neither hides a change nor delays the others. A change may be
//! handed out twice, and applying it twice must do no harm.
//!
//! Over Redis, where there is one, who has committed nudges the others to look at once ([`nudge`], [`Ear`]); so does who has
//! enqueued a task ([`tell`]).
//!
//! What a change means is its writer's and its appliers' business (`cache`, `keys`, `memo`).

mod postgres;
mod reader;
mod redis;
#[cfg(test)]
mod tests;

pub use self::redis::{Ear, nudge, tell};
pub use postgres::{commit_noting, note};
pub use reader::{Page, Reader};

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Entries of the cache were stored.
    Learned,
    /// Entries were evicted.
    Evicted,
    /// A pair of questions must never match again.
    Blocked,
    /// A key was made, changed or revoked, or a login with one was ended.
    Key,
    /// What values of `memo` depend on has changed.
    Fallen,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Learned, Self::Evicted, Self::Blocked, Self::Key, Self::Fallen];

    /// Its name in the table and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Evicted => "evicted",
            Self::Blocked => "blocked",
            Self::Key => "key",
            Self::Fallen => "fallen",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Which of the changes of keys are of logins alone.
const LOGIN: &str = "login";

/// What others have to know of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What has changed.
    pub kind: Kind,
    /// Whose; of a key, and of what has fallen, nobody's.
    pub tenant: Option<String>,
    /// The tenant's generation that begins with an eviction.
    pub generation: Option<u64>,
    /// What was meant to be evicted, or what has fallen, as JSON; of a key, that only a login with it is meant.
    pub selection: Option<String>,
    /// Digests in pairs, 64 bytes each pair.
    pub digests: Vec<u8>,
}

impl Change {
    /// A key is not what it was.
    pub fn key() -> Self {
        Self { kind: Kind::Key, tenant: None, generation: None, selection: None, digests: Vec::new() }
    }

    /// A login has ended, and its key is as it was.
    pub fn login() -> Self {
        Self { selection: Some(LOGIN.to_owned()), ..Self::key() }
    }

    /// Whether it is of a login alone.
    pub fn is_of_login(&self) -> bool {
        self.kind == Kind::Key && self.selection.as_deref() == Some(LOGIN)
    }

    /// These tags have fallen, as `memo` writes them.
    pub fn fallen(tags: String) -> Self {
        Self { kind: Kind::Fallen, selection: Some(tags), ..Self::key() }
    }

    /// Something of a tenant's.
    pub fn of(kind: Kind, tenant: &str, digests: Vec<u8>) -> Self {
        Self { kind, tenant: Some(tenant.to_owned()), generation: None, selection: None, digests }
    }
}

/// A change as read.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// What it says.
    pub change: Change,
    /// Whether this process wrote it.
    pub is_ours: bool,
    /// How long ago it was written, by the server's clock.
    pub age_s: f64,
}
