//! Equal calls at the same time: the first one makes the value, the others wait for it. Who makes it does so in its own
//! task; where it is given up, another one of those who wait takes over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::tags::{Falls, Moment};
use super::tier::Shared;

/// How making a value ended.
#[derive(Clone)]
pub(super) enum Landed {
    /// With this.
    With(Shared),
    /// In an error, or a panic.
    Failed,
    /// Nobody waited for it any more who made it.
    Abandoned,
}

/// A value that is being made.
struct Flight {
    moment: Moment,
    landed: watch::Sender<Option<Landed>>,
}

/// Those of one process.
#[derive(Default)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<[u8; 32], Arc<Flight>>>,
}

/// What a call is to do.
pub(super) enum Place<'a> {
    /// Make it.
    Lead(Lead<'a>),
    /// Wait.
    Follow(Following),
}

impl Flights {
    /// Joins the call under way of that name, unless something it depends on has fallen since it began; else begins one.
    pub fn join(&self, name: [u8; 32], falls: &Falls, moment: &Moment) -> Place<'_> {
        let mut under_way = self.lock();
        if let Some(flight) = under_way.get(&name).filter(|flight| falls.is_current(&flight.moment)) {
            return Place::Follow(Following(flight.landed.subscribe()));
        }
        let flight = Arc::new(Flight { moment: moment.clone(), landed: watch::Sender::new(None) });
        under_way.insert(name, Arc::clone(&flight));
        Place::Lead(Lead { flights: self, name, flight })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Flight>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one who makes a value. Dropped, it has given up.
pub(super) struct Lead<'a> {
    flights: &'a Flights,
    name: [u8; 32],
    flight: Arc<Flight>,
}

impl Lead<'_> {
    /// Tells the others. What was made is held by then.
    pub fn land(self, landed: Landed) {
        self.flight.landed.send_replace(Some(landed));
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut under_way = self.flights.lock();
        if under_way.get(&self.name).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            under_way.remove(&self.name);
        }
        drop(under_way);
        let end = if std::thread::panicking() { Landed::Failed } else { Landed::Abandoned };
        self.flight.landed.send_if_modified(|landed| landed.is_none() && landed.replace(end).is_none());
    }
}

/// One who waits.
pub(super) struct Following(watch::Receiver<Option<Landed>>);

impl Following {
    /// How it ended.
    pub async fn landed(mut self) -> Landed {
        match self.0.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or(Landed::Abandoned),
            Err(_) => Landed::Abandoned,
        }
    }
}
