//! Chance that a seed repeats: SplitMix64 (Steele, Lea and Flood, 2014), enough to toss coins and to spread things.

/// A source of it.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// What comes is decided by `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A coin.
    pub fn toss(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// From 0 to below 1, evenly.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
