//! How many sockets there may be: at all, from one address, with one key. A socket holds a seat from before its upgrade;
//! what it counts for is given back when the seat is dropped, wherever that happens.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use uuid::Uuid;

use crate::api::error::ApiError;
use crate::metrics::Metrics;

/// Bounds on sockets.
#[derive(Debug, Clone, Copy)]
pub struct SeatLimits {
    /// Sockets at once.
    pub all: NonZeroUsize,
    /// Sockets with one key.
    pub per_key: NonZeroUsize,
    /// Sockets from one address.
    pub per_address: NonZeroUsize,
}

/// All seats of a server. Cloning is cheap.
#[derive(Clone)]
pub struct Seats(Arc<Inner>);

struct Inner {
    limits: SeatLimits,
    metrics: Arc<Metrics>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_key: HashMap<Uuid, usize>,
    by_address: HashMap<IpAddr, usize>,
}

/// One socket's.
pub(super) struct Seat {
    seats: Seats,
    address: Option<IpAddr>,
    key: Option<Uuid>,
    is_open: bool,
}

impl Seats {
    /// None taken.
    pub fn new(limits: SeatLimits, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Inner { limits, metrics, taken: Mutex::default() }))
    }

    /// A seat for a socket from `address`, as far as that counts.
    pub(super) fn take(&self, address: Option<IpAddr>) -> Result<Seat, ApiError> {
        let address = address.map(network);
        let limits = self.0.limits;
        self.with(|taken| {
            if taken.all >= limits.all.get() {
                let message = format!("{} sockets are open already (server.max_connections)", limits.all);
                return Err(self.refused("all", StatusCode::SERVICE_UNAVAILABLE, message));
            }
            if let Some(address) = address
                && !add(&mut taken.by_address, address, limits.per_address)
            {
                let most = limits.per_address;
                let message =
                    format!("{most} sockets of this address are open already (server.max_connections_per_address)");
                return Err(self.refused("address", StatusCode::TOO_MANY_REQUESTS, message));
            }
            taken.all += 1;
            Ok(Seat { seats: self.clone(), address, key: None, is_open: false })
        })
    }

    fn refused(&self, reason: &str, status: StatusCode, message: String) -> ApiError {
        self.0.metrics.ws_refused.with_label_values(&[reason]).inc();
        ApiError::new(status, "too_many_connections", message)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Taken) -> T) -> T {
        work(&mut self.0.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Seat {
    /// The upgrade is done.
    pub(super) fn open(&mut self) {
        self.is_open = true;
        self.seats.0.metrics.ws_connections.inc();
    }

    /// Counts for this key from now on, and for no other; an error where too many do already, and nothing has changed.
    pub(super) fn change_key(&mut self, key: Uuid) -> Result<(), ApiError> {
        if self.key == Some(key) || key.is_nil() {
            return Ok(());
        }
        let most = self.seats.0.limits.per_key;
        let earlier = self.key;
        let is_counted = self.seats.with(|taken| {
            let is_counted = add(&mut taken.by_key, key, most);
            if is_counted && let Some(earlier) = earlier {
                remove(&mut taken.by_key, earlier);
            }
            is_counted
        });
        if !is_counted {
            let message = format!("{most} sockets with this key are open already (server.max_connections_per_key)");
            return Err(self.seats.refused("key", StatusCode::TOO_MANY_REQUESTS, message));
        }
        self.key = Some(key);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.is_open {
            self.seats.0.metrics.ws_connections.dec();
        }
        self.seats.with(|taken| {
            taken.all -= 1;
            if let Some(address) = self.address {
                remove(&mut taken.by_address, address);
            }
            if let Some(key) = self.key {
                remove(&mut taken.by_key, key);
            }
        });
    }
}

fn add<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K, most: NonZeroUsize) -> bool {
    let count = counts.entry(key).or_default();
    let is_free = *count < most.get();
    *count += usize::from(is_free);
    is_free
}

/// The last one takes the entry along, so that the table is as large as what is open.
fn remove<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let std::collections::hash_map::Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// An IPv6 client has a network of 2^64 addresses to itself: that counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::new_id;

    fn seats(all: usize, per_key: usize, per_address: usize) -> Seats {
        let most = |number| NonZeroUsize::new(number).unwrap();
        let limits = SeatLimits { all: most(all), per_key: most(per_key), per_address: most(per_address) };
        Seats::new(limits, Arc::new(Metrics::new()))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn each_bound_holds_by_itself_and_a_seat_is_given_back() {
        let seats = seats(3, 1, 2);
        let (mut first, _second) = (seats.take(Some(address(1))).unwrap(), seats.take(Some(address(1))).unwrap());
        assert_eq!(seats.take(Some(address(1))).err().unwrap().code(), "too_many_connections");
        let mut third = seats.take(Some(address(2))).unwrap();
        assert!(seats.take(Some(address(3))).is_err(), "three are all");
        let key = new_id();
        assert!(first.change_key(key).is_ok());
        assert!(third.change_key(key).is_err());
        assert!(first.change_key(new_id()).is_ok(), "a refresh");
        assert!(third.change_key(key).is_ok());
        drop(first);
        assert!(seats.take(Some(address(1))).is_ok());
        assert_eq!(seats.0.metrics.ws_refused.with_label_values(&["address"]).get(), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let seats = seats(9, 9, 1);
        let _first = seats.take(Some("2001:db8::1".parse().unwrap())).unwrap();
        assert!(seats.take(Some("2001:db8::2".parse().unwrap())).is_err());
        assert!(seats.take(Some("2001:db8:0:1::2".parse().unwrap())).is_ok());
        let _fourth = seats.take(Some("192.0.2.1".parse().unwrap())).unwrap();
        assert!(seats.take(Some("::ffff:192.0.2.1".parse().unwrap())).is_err(), "the same address in another form");
    }

    proptest! {
        /// However sockets come, change keys and go: the bounds hold, and nothing is counted once all have gone.
        #[test]
        fn counts_do_not_leak(steps in proptest::collection::vec((0u8..4, 0u8..3, 0usize..8), 1..80)) {
            let seats = seats(5, 2, 3);
            let keys = [new_id(), new_id(), new_id()];
            let mut held: Vec<Seat> = Vec::new();
            for (step, which, at) in steps {
                match step {
                    0 | 1 => held.extend(seats.take(Some(address(which)))),
                    2 if at < held.len() => drop(held.swap_remove(at)),
                    _ if at < held.len() => drop(held[at].change_key(keys[usize::from(which)])),
                    _ => {}
                }
                seats.with(|taken| {
                    assert_eq!(taken.all, held.len());
                    assert!(taken.all <= 5 && taken.by_key.values().all(|count| (1..=2).contains(count)));
                    assert!(taken.by_address.values().all(|count| (1..=3).contains(count)));
                });
            }
            held.clear();
            seats.with(|taken| assert!(taken.all == 0 && taken.by_key.is_empty() && taken.by_address.is_empty()));
        }
    }
}
