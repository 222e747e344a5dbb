//! A part that is made when it is first needed, once, however many need it at the same time.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::Fault;
use super::part::Part;

type Making<T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send>>;

/// A part of type `T`. Cloning is cheap, and shares it.
pub struct Lazy<T> {
    part: Part,
    cell: Arc<OnceCell<T>>,
    make: Arc<dyn Fn() -> Making<T> + Send + Sync>,
}

impl<T> Clone for Lazy<T> {
    fn clone(&self) -> Self {
        Self { part: self.part.clone(), cell: Arc::clone(&self.cell), make: Arc::clone(&self.make) }
    }
}

impl<T> fmt::Debug for Lazy<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Lazy").field(&self.part).finish()
    }
}

/// A part could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{name} could not be started")]
pub struct NotStarted {
    name: &'static str,
    source: Fault,
}

impl<T: Send + Sync + 'static> Lazy<T> {
    pub(super) fn new<F, E>(part: Part, make: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let make = move || -> Making<T> {
            let making = make();
            Box::pin(async move { making.await.map_err(Fault::from) })
        };
        Self { part, cell: Arc::default(), make: Arc::new(make) }
    }

    /// The part, made by the first who asks; those who ask meanwhile wait. Where that one fails, or goes away, the next tries
    /// again.
    ///
    /// # Errors
    /// [`NotStarted`].
    pub async fn get(&self) -> Result<&T, NotStarted> {
        let made = self.cell.get_or_try_init(|| async {
            let start = self.part.start();
            match (self.make)().await {
                Ok(made) => {
                    start.ready();
                    Ok(made)
                }
                Err(fault) => {
                    start.failed(&*fault);
                    Err(fault)
                }
            }
        });
        made.await.map_err(|source| NotStarted { name: self.part.name(), source })
    }

    /// Whether it is there. Asking starts nothing.
    pub fn is_initialized(&self) -> bool {
        self.cell.initialized()
    }
}
