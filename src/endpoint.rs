//! What `#[fast_endpoint]` calls: how a function's answers are cached, and whose they are. The caching itself is
//! [`crate::memo`]'s.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::keys::Principal;
use crate::memo::{CacheKey, Key, Memo, Scope};

/// How a function's answers are cached: its `META`.
///
/// ```
/// # #[tokio::main]
/// # async fn main() {
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use ish::endpoint::Endpoint;
/// use ish::memo::{Memo, Scope};
///
/// const SQUARE: Endpoint = Endpoint::new("shop::square", Duration::from_secs(300));
/// let (memo, key) = (Memo::in_process(), SQUARE.key(Scope::Public, &7_u64));
/// assert_eq!(SQUARE.answer(&memo, &key, async { Ok::<u64, Infallible>(49) }).await, Ok(49));
/// assert_eq!(SQUARE.answer(&memo, &key, async { unreachable!() }).await, Ok::<u64, Infallible>(49));
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The function's path: what its keys begin with.
    pub name: &'static str,
    /// Of what is stored: another one finds nothing that was stored before.
    pub version: u32,
    /// How long an answer is served.
    pub ttl: Duration,
    /// How long after that it may stand in for an error.
    pub stale_if_error: Duration,
}

impl Endpoint {
    /// Answers of `name` are served for `ttl`, and never after.
    pub const fn new(name: &'static str, ttl: Duration) -> Self {
        Self { name, version: 1, ttl, stale_if_error: Duration::ZERO }
    }

    /// The same, with answers that may stand in for an error for so long after their time.
    #[must_use]
    pub const fn stale_if_error(self, stale_if_error: Duration) -> Self {
        Self { stale_if_error, ..self }
    }

    /// The same, with answers of that form.
    #[must_use]
    pub const fn version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    /// Under which the answer to `arguments` is kept.
    pub fn key(&self, scope: Scope<'_>, arguments: &impl CacheKey) -> Key {
        Key::of(self.name, self.version, scope, arguments)
    }

    /// The answer as it is kept, else as `op` gives it, where that is `Ok`. Of equal calls at the same time one asks for all.
    ///
    /// # Errors
    /// Those of `op`.
    pub async fn answer<T, E, F>(&self, memo: &Memo, key: &Key, op: F) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
        F: Future<Output = Result<T, E>>,
    {
        memo.with(key).ttl(self.ttl).stale_if_error(self.stale_if_error).run(move || op).await
    }
}

/// Who asks: what is answered to one is not answered to another.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say whose an answer is",
    label = "not `Scoped`",
    note = "take `caller: Caller`, implement `ish::endpoint::Scoped` for `{Self}`, or write `public` if everybody may have the answer"
)]
pub trait Scoped {
    /// Whose answers these are.
    fn scope(&self) -> Scope<'_>;
}

impl Scoped for Principal {
    fn scope(&self) -> Scope<'_> {
        Scope::of(&self.tenant, self.user)
    }
}

impl<T: Scoped + ?Sized> Scoped for &T {
    fn scope(&self) -> Scope<'_> {
        (**self).scope()
    }
}

/// An argument, as it goes into a key.
pub fn part<T: CacheKey + ?Sized>(argument: &T) -> &T {
    argument
}
