//! Sign bits of vectors and the scan that counts where they differ.
//!
//! Leaves to `block` what a row is and to `partition` how many of the closest rows deserve an exact look.

use super::{DIMENSIONS, Vector};

const WORDS: usize = DIMENSIONS / 64;

/// Rows whose bits lie side by side: enough for a loop over full registers of any width.
pub(super) const LANES: usize = 64;

/// One vector's sign bits; bit `i` is set where component `i` is positive.
pub(super) type Signs = [u64; WORDS];

/// The sign bits of 64 rows, word by word, so that one register holds the same word of several rows.
pub(super) type SignGroup = [[u64; LANES]; WORDS];

/// A group before its first row.
pub(super) const EMPTY_GROUP: SignGroup = [[0; LANES]; WORDS];

/// A row of a scanned block and the number of its sign bits that differ from the query's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Close {
    pub(super) row: u16,
    pub(super) distance: u16,
}

/// The sign bits of `vector`.
pub(super) fn signs(vector: &Vector) -> Signs {
    let mut words = [0; WORDS];
    for (word, components) in words.iter_mut().zip(vector.chunks_exact(64)) {
        for (bit, component) in components.iter().enumerate() {
            *word |= u64::from(*component > 0.0) << bit;
        }
    }
    words
}

/// Appends to `close` every row of `groups` that differs from `query` in fewer than `limit` bits, in row order.
/// At most 65,536 rows are told apart, far more than a block has.
pub(super) fn scan(groups: &[SignGroup], query: &Signs, limit: u64, close: &mut Vec<Close>) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vpopcntdq") {
            // SAFETY: the processor has just said that it has the features the function is compiled for.
            return unsafe { scan_avx512(groups, query, limit, close) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
            // SAFETY: as above.
            return unsafe { scan_avx2(groups, query, limit, close) };
        }
    }
    scan_any(groups, query, limit, close);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn scan_avx512(groups: &[SignGroup], query: &Signs, limit: u64, close: &mut Vec<Close>) {
    scan_any(groups, query, limit, close);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn scan_avx2(groups: &[SignGroup], query: &Signs, limit: u64, close: &mut Vec<Close>) {
    scan_any(groups, query, limit, close);
}

/// The one loop behind all paths: inlined into each, the compiler turns it into that path's vector instructions.
/// It runs over the lanes with the words unrolled inside, because the other nesting is compiled into gathers.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the loop must be compiled with its caller's target features")]
fn scan_any(groups: &[SignGroup], query: &Signs, limit: u64, close: &mut Vec<Close>) {
    for (number, group) in groups.iter().enumerate() {
        let mut distances = [0_u64; LANES];
        let mut nearest = u64::MAX;
        for (lane, distance) in distances.iter_mut().enumerate() {
            for (words, asked) in group.iter().zip(query) {
                *distance += u64::from((words[lane] ^ asked).count_ones());
            }
            nearest = nearest.min(*distance);
        }
        // Almost no group has a row below the limit once a few blocks have been seen.
        if nearest < limit {
            keep(number * LANES, &distances, limit, close);
        }
    }
}

#[cold]
fn keep(first_row: usize, distances: &[u64; LANES], limit: u64, close: &mut Vec<Close>) {
    for (lane, &distance) in distances.iter().enumerate() {
        if distance < limit {
            close.push(Close { row: (first_row + lane) as u16, distance: distance as u16 });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mixed(seed: u64) -> u64 {
        let spread = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (spread ^ (spread >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn group() -> impl Strategy<Value = SignGroup> {
        any::<u64>().prop_map(|seed| {
            std::array::from_fn(|word| std::array::from_fn(|lane| mixed(seed ^ (word * LANES + lane) as u64)))
        })
    }

    proptest! {
        #[test]
        fn every_path_equals_counting_bit_by_bit(
            groups in prop::collection::vec(group(), 0..4),
            query in prop::array::uniform6(any::<u64>()),
            limit in 150_u64..250,
        ) {
            let mut expected = Vec::new();
            for row in 0..groups.len() * LANES {
                let distance: u32 = (0..WORDS)
                    .map(|word| (groups[row / LANES][word][row % LANES] ^ query[word]).count_ones())
                    .sum();
                if u64::from(distance) < limit {
                    expected.push(Close { row: row as u16, distance: distance as u16 });
                }
            }
            let mut close = Vec::new();
            scan(&groups, &query, limit, &mut close);
            prop_assert_eq!(&close, &expected);
            close.clear();
            scan_any(&groups, &query, limit, &mut close);
            prop_assert_eq!(&close, &expected);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_middle_path_equals_the_plain_one() {
        if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("popcnt") {
            eprintln!("SKIPPED: this processor has no AVX2");
            return;
        }
        let groups: Vec<SignGroup> =
            (1..40_u64).map(|n| [[n.wrapping_mul(0x9e37_79b9_7f4a_7c15); LANES]; WORDS]).collect();
        let (mut wide, mut plain) = (Vec::new(), Vec::new());
        // SAFETY: the processor has just said that it has the features.
        unsafe { scan_avx2(&groups, &[0x5555; WORDS], 190, &mut wide) };
        scan_any(&groups, &[0x5555; WORDS], 190, &mut plain);
        assert_eq!(wide, plain);
    }

    #[test]
    fn a_bit_is_set_where_the_component_is_positive() {
        let mut vector = [-0.5; DIMENSIONS];
        vector[0] = 0.5;
        vector[65] = 0.5;
        vector[66] = 0.0;
        assert_eq!(signs(&vector), [1, 2, 0, 0, 0, 0]);
    }
}
