//! Whose buckets these are: of keys, and of client addresses. Both tables are bounded: what is full again is as good as
//! new and is forgotten first; where that makes no room, new addresses share one bucket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::nanos::Nanos;
use uuid::Uuid;

use super::Standing;
use crate::bucket::{Bucket, Rate, Ticks};

/// Keys remembered before those whose buckets are full are forgotten. More than that are as many as admins made.
const KEYS: usize = 10_000;

/// Addresses remembered.
const ADDRESSES: usize = 65_536;

/// Between two searches for addresses that can be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The rates of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    /// By requests.
    pub requests: Option<Rate>,
    /// By tokens.
    pub tokens: Option<Rate>,
}

/// The buckets of one key.
#[derive(Debug)]
pub struct Meter {
    rates: Rates,
    /// Which reading of the key its rates are of.
    as_of: AtomicU64,
    /// By requests.
    pub requests: Option<Bucket>,
    /// By tokens.
    pub tokens: Option<Bucket>,
}

impl Meter {
    fn new(rates: Rates, as_of: u64, ticks: &Ticks) -> Self {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, ticks.clone()));
        Self { rates, as_of: as_of.into(), requests: bucket(rates.requests), tokens: bucket(rates.tokens) }
    }

    /// The same key's at other rates: what was used stays used.
    fn at_rates(&self, rates: Rates, as_of: u64, ticks: &Ticks) -> Self {
        let carried = |old: Option<&Bucket>, rate: Option<Rate>| {
            rate.map(|rate| old.map_or_else(|| Bucket::new(rate, ticks.clone()), |old| old.at_rate(rate)))
        };
        let (requests, tokens) = (self.requests.as_ref(), self.tokens.as_ref());
        let (requests, tokens) = (carried(requests, rates.requests), carried(tokens, rates.tokens));
        Self { rates, as_of: as_of.into(), requests, tokens }
    }

    /// Whether its rates are what a reading of the key says, or newer.
    fn holds(&self, rates: Rates, as_of: u64) -> bool {
        if self.rates == rates {
            self.as_of.fetch_max(as_of, Ordering::Relaxed);
            return true;
        }
        as_of < self.as_of.load(Ordering::Relaxed)
    }

    /// How full its buckets are.
    pub fn standing(&self) -> Standing {
        let level = |bucket: &Option<Bucket>| bucket.as_ref().map(Bucket::level);
        Standing { requests: level(&self.requests), tokens: level(&self.tokens) }
    }

    fn is_full(&self) -> bool {
        self.requests.iter().chain(&self.tokens).all(Bucket::is_full)
    }
}

/// The buckets of all keys.
#[derive(Debug)]
pub struct KeyMeters {
    ticks: Ticks,
    known: RwLock<HashMap<Uuid, Arc<Meter>>>,
}

impl KeyMeters {
    /// None yet.
    pub fn new(ticks: Ticks) -> Self {
        Self { ticks, known: RwLock::default() }
    }

    /// The buckets of `key`, whose reading number `as_of` gives it these rates. One key has one rule, that of its newest
    /// reading: a socket that has not heard of a change yet neither undoes it nor has buckets of its own.
    pub fn of(&self, key: Uuid, rates: Rates, as_of: u64) -> Option<Arc<Meter>> {
        match self.known(key) {
            None if rates == Rates::default() => return None,
            Some(meter) if meter.holds(rates, as_of) => return Some(meter),
            _ => {}
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(&key).cloned();
        // Another request of this key may have been here meanwhile.
        if let Some(meter) = before.as_ref().filter(|meter| meter.holds(rates, as_of)) {
            return Some(Arc::clone(meter));
        }
        if known.len() >= KEYS {
            known.retain(|_, meter| !meter.is_full());
        }
        let meter = match before {
            Some(before) => before.at_rates(rates, as_of, &self.ticks),
            None => Meter::new(rates, as_of, &self.ticks),
        };
        let meter = Arc::new(meter);
        known.insert(key, Arc::clone(&meter));
        Some(meter)
    }

    /// The buckets that `key` has now.
    pub fn known(&self, key: Uuid) -> Option<Arc<Meter>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The buckets of all client addresses, at the same rates.
#[derive(Debug)]
pub struct AddressMeters {
    rates: Rates,
    ticks: Ticks,
    capacity: usize,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    meters: HashMap<IpAddr, Meter>,
    /// For those that find no room.
    shared: Meter,
    swept_at: Nanos,
}

impl AddressMeters {
    /// None yet.
    pub fn new(rates: Rates, ticks: Ticks) -> Self {
        Self::of_capacity(ADDRESSES, rates, ticks)
    }

    fn of_capacity(capacity: usize, rates: Rates, ticks: Ticks) -> Self {
        let shared = Meter::new(rates, 0, &ticks);
        let known = Known { meters: HashMap::new(), shared, swept_at: Nanos::default() };
        Self { rates, ticks, capacity, known: Mutex::new(known) }
    }

    /// What all addresses may.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// What comes of a look at the buckets of `address`.
    pub fn at<T>(&self, address: IpAddr, look: impl FnOnce(&Meter) -> T) -> T {
        let address = network_of(address);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = known.meters.get(&address) {
            return look(meter);
        }
        let now = self.ticks.now();
        let is_due = now.duration_since(known.swept_at) >= SWEEP_EVERY.into();
        if known.meters.len() >= self.capacity && is_due {
            known.swept_at = now;
            known.meters.retain(|_, meter| !meter.is_full());
        }
        if known.meters.len() >= self.capacity {
            return look(&known.shared);
        }
        look(known.meters.entry(address).or_insert_with(|| Meter::new(self.rates, 0, &self.ticks)))
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).meters.len()
    }
}

/// Who counts as one: an IPv4 address, whichever way it is written, or an IPv6 network of 64 bits, since a single
/// household has all addresses of that.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn rate(per_minute: u32, burst: u32) -> Rate {
        Rate::new(NonZeroU32::new(per_minute).unwrap(), NonZeroU32::new(burst))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn take_of(meters: &AddressMeters, address: IpAddr) -> Result<(), Duration> {
        meters.at(address, |meter| meter.requests.as_ref().unwrap().take_one())
    }

    #[test]
    fn a_network_counts_as_one() {
        let meters = AddressMeters::new(rates(Some(rate(60, 1))), Ticks::manual());
        assert_eq!(take_of(&meters, address("2001:db8:1:2::1")), Ok(()));
        assert_ne!(take_of(&meters, address("2001:db8:1:2:ffff::9")), Ok(()));
        assert_eq!(take_of(&meters, address("2001:db8:1:3::1")), Ok(()));
        assert_eq!(take_of(&meters, address("192.0.2.1")), Ok(()));
        assert_ne!(take_of(&meters, address("::ffff:192.0.2.1")), Ok(()));
        assert_eq!(take_of(&meters, address("192.0.2.2")), Ok(()));
        assert_eq!(meters.len(), 4);
    }

    #[test]
    fn an_address_that_owes_tokens_is_not_forgotten_for_its_requests() {
        let ticks = Ticks::manual();
        let both = Rates { requests: Some(rate(60, 1)), tokens: Some(rate(60, 10)) };
        let meters = AddressMeters::of_capacity(1, both, ticks.clone());
        meters.at(address("10.0.0.1"), |meter| meter.tokens.as_ref().unwrap().charge(25));
        ticks.advance(Duration::from_secs(10));
        let tokens = |of: &str| meters.at(address(of), |meter| meter.standing().tokens.unwrap());
        assert_eq!(tokens("10.0.0.2").remaining, 10, "it shares what is for those without room");
        assert_eq!(tokens("10.0.0.1").remaining, 0);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_nobody_who_is_limited() {
        let ticks = Ticks::manual();
        let meters = AddressMeters::of_capacity(100, rates(Some(rate(60, 2))), ticks.clone());
        for number in 0..100_u8 {
            assert_eq!(take_of(&meters, IpAddr::from([10, 0, 0, number])), Ok(()));
        }
        let served = (0..1_000_u16).filter(|number| {
            let [high, low] = number.to_be_bytes();
            take_of(&meters, IpAddr::from([10, 1, high, low])) == Ok(())
        });
        assert_eq!(served.count(), 2, "those without room share one bucket");
        assert_eq!(meters.len(), 100);
        assert_eq!(take_of(&meters, address("10.0.0.7")), Ok(()), "its own bucket is still there");
        ticks.advance(Duration::from_millis(1_500));
        assert_eq!(take_of(&meters, address("10.2.0.0")), Ok(()));
        assert_eq!(meters.len(), 2, "the new one, and the one that is not full again");
    }

    fn rates(requests: Option<Rate>) -> Rates {
        Rates { requests, tokens: None }
    }

    fn take(meters: &KeyMeters, key: Uuid, rate: Rate, as_of: u64) -> Result<(), Duration> {
        meters.of(key, rates(Some(rate)), as_of).unwrap().requests.as_ref().unwrap().take_one()
    }

    #[test]
    fn a_key_has_buckets_of_its_own_and_a_change_fills_none() {
        let meters = KeyMeters::new(Ticks::manual());
        let (key, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(take(&meters, key, rate(1, 1), 1), Ok(()));
        assert_ne!(take(&meters, key, rate(1, 1), 1), Ok(()));
        assert_eq!(take(&meters, other, rate(1, 1), 1), Ok(()));
        assert_ne!(take(&meters, key, rate(1, 5), 2), Ok(()), "nothing was left");
        assert!(meters.of(Uuid::from_u128(3), Rates::default(), 3).is_none());
        assert_eq!(meters.len(), 2);
    }

    #[test]
    fn of_two_readings_of_a_key_the_newer_one_holds() {
        let meters = KeyMeters::new(Ticks::manual());
        let (key, old, new) = (Uuid::from_u128(1), rate(1, 10), rate(1, 4));
        assert_eq!(take(&meters, key, old, 1), Ok(()));
        let served = (0..20).filter(|round| {
            // A socket that was greeted before the change, and a request after it, in turn.
            let (rate, as_of) = if round % 2 == 0 { (new, 2) } else { (old, 1) };
            take(&meters, key, rate, as_of) == Ok(())
        });
        assert_eq!(served.count(), 3, "nine tenths of four, whoever takes them");
        assert_eq!(meters.of(key, Rates::default(), 1).unwrap().rates, rates(Some(new)), "the older one limits nobody");
        assert!(meters.of(key, Rates::default(), 3).unwrap().requests.is_none(), "the newest one limits nobody");
        assert_eq!(meters.of(key, rates(Some(old)), 1).unwrap().rates, Rates::default());
    }
}
