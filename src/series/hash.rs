//! Identity of a series: a 128-bit hash of its label run.
//!
//! The table compares hashes and never labels. Of runs that have nothing in common two collide with a probability of
//! about 2^-123; of runs alike but for two words of eight bytes that meet in one multiplication, with about 2^-64 at worst.
//! Runs that differ in one word have different states there, for certain. Among 100 million series a collision is not
//! to be expected; two that collide would be judged as one, under the labels of the first.
//!
//! # Design
//! Words are multiplied with each other, both halves of the product kept, as in MUM (V. Makarov, 2016) and wyhash (Wang
//! Yi, 2019). Four lanes, so that one product does not wait for another; each begins with what the one before left, so
//! that order counts. Not cryptographic: who chooses labels can make some that collide, without a search.
//! About 200 instructions for a run of 320 bytes, 24 to 32 of them for each 64 bytes; none for those that are known to
//! be what a run before [began](Begun) with.

use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

use super::LabelRun;

/// Bytes that the four lanes take at once.
pub const STRIPE: usize = 64;

/// Numbers without a design: the fraction of pi.
const SEEDS: [u64; 12] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
    0xbe54_66cf_34e9_0c6c,
    0xc0ac_29b7_c97c_50dd,
    0x3f84_d5b5_b547_0917,
    0x9216_d5d9_8979_fb1b,
    0xd131_0ba6_98df_b5ac,
    0x2ffd_72db_d01a_dfb7,
    0xb8e1_afed_6a26_7e96,
];

/// The hash of a canonical label run. Serialised as its 16 bytes, the lowest first; kept in snapshots, so that another
/// function is another format of theirs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "[u8; 16]", from = "[u8; 16]")]
pub struct SeriesHash(pub u128);

impl From<SeriesHash> for [u8; 16] {
    fn from(hash: SeriesHash) -> Self {
        hash.0.to_le_bytes()
    }
}

impl From<[u8; 16]> for SeriesHash {
    fn from(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

impl SeriesHash {
    /// Hashes the bytes of `run`. Equal label sets have equal runs, whatever protocol brought them.
    #[inline(never)]
    pub fn of(run: LabelRun<'_>) -> Self {
        Self(hash(Begun::default(), run.as_bytes()))
    }

    /// The owner among `shards` engines. `shards` is at least 1.
    #[inline]
    pub fn shard(self, shards: usize) -> usize {
        let (high, shards) = ((self.0 >> 64) as u64, shards as u64);
        // What a mask can do takes a division twenty times as long.
        let shard = if shards.is_power_of_two() { high & (shards - 1) } else { high % shards };
        shard as usize
    }

    /// The low half, well mixed, for hash tables.
    pub fn low(self) -> u64 {
        self.0 as u64
    }
}

/// What a lane knows of the words that it took.
#[derive(Clone, Copy, Debug)]
struct Lane(u64, u64);

impl Lane {
    /// Takes two words: `(x + 1) * (y + 2^64)`, less 2^64, where these meet what was known. Neither factor is ever
    /// 0, so that no word makes another one forgotten, and another `x` alone, or another `y`, gives another product.
    #[inline(always)]
    fn take(self, one: u64, other: u64) -> Self {
        let (x, y) = (self.0 ^ one, self.1 ^ other);
        let product = u128::from(x) * u128::from(y);
        let sum = product.wrapping_add(u128::from(x) << 64 | u128::from(y));
        Self((sum >> 64) as u64, sum as u64)
    }

    /// The product of what is known, folded to 64 bits.
    #[inline(always)]
    fn fold(self, one: u64, other: u64) -> u64 {
        let product = u128::from(self.0 ^ one) * u128::from(self.1 ^ other);
        (product >> 64) as u64 ^ product as u64
    }
}

/// What hashing whole stripes came to: runs that begin alike need that once.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    lanes: [Lane; 4],
    stripes: usize,
}

impl Default for Begun {
    fn default() -> Self {
        let [a, b, c, d, e, f, g, h, ..] = SEEDS;
        Self { lanes: [Lane(a, b), Lane(c, d), Lane(e, f), Lane(g, h)], stripes: 0 }
    }
}

impl Begun {
    /// Hashes what runs begin with, of which each has at least one byte more.
    pub fn of(stripes: &[[u8; STRIPE]]) -> Self {
        let Self { lanes, .. } = Self::default();
        Self { lanes: stripes.iter().fold(lanes, take_stripe), stripes: stripes.len() }
    }

    /// How many stripes there are.
    #[inline]
    pub fn stripes(&self) -> usize {
        self.stripes
    }

    /// The hash of `run`, which begins with these stripes, and goes on.
    #[inline(never)]
    pub fn finish(&self, run: LabelRun<'_>) -> SeriesHash {
        SeriesHash(hash(*self, run.as_bytes()))
    }
}

/// In line in both of those who hash: where nothing is begun, the compiler knows so.
#[inline(always)]
fn hash(begun: Begun, bytes: &[u8]) -> u128 {
    let Some(last) = bytes.last_chunk() else { return hash_short(bytes) };
    let rest = bytes.get(begun.stripes * STRIPE..bytes.len() - 1).unwrap_or_default();
    hash_stripes(begun.lanes, (rest, last), bytes.len())
}

/// Fewer bytes than a stripe: zeros stand behind them, and the length tells them from others.
#[cold]
#[inline(never)]
fn hash_short(bytes: &[u8]) -> u128 {
    let mut last = [0; STRIPE];
    last[..bytes.len()].copy_from_slice(bytes);
    hash_stripes(Begun::default().lanes, (&[], &last), bytes.len())
}

/// Hashes the whole stripes of what is left, then the `last` one, which may have bytes of the stripe before it.
#[inline(always)]
fn hash_stripes(lanes: [Lane; 4], (rest, last): (&[u8], &[u8; STRIPE]), length: usize) -> u128 {
    let lanes = rest.as_chunks().0.iter().fold(lanes, take_stripe);
    let [a, b, c, d] = take_stripe(lanes, last);
    let (a, b) = (a.take(c.0, c.1 ^ length as u64), b.take(d.0, d.1));
    let all = a.take(b.0, b.1);
    let [.., e, f, g, h] = SEEDS;
    u128::from(all.fold(e, f)) | u128::from(all.fold(g, h)) << 64
}

/// Neighbours go to different lanes: what often differs together, as a number across two words, meets in no product.
#[inline(always)]
fn take_stripe([a, b, c, d]: [Lane; 4], stripe: &[u8; STRIPE]) -> [Lane; 4] {
    let (words, _) = stripe.as_chunks();
    let word = |at: usize| u64::from_le_bytes(words[at]);
    [a.take(word(0), word(4)), b.take(word(1), word(5)), c.take(word(2), word(6)), d.take(word(3), word(7))]
}

/// For hash tables whose keys are hashes already: what is known of a key is taken as it is.
pub type HashedAlready = BuildHasherDefault<PassOn>;

/// Passes numbers through; of 128 bits the low half.
#[derive(Clone, Copy, Default, Debug)]
pub struct PassOn(u64);

impl Hasher for PassOn {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::push_label;

    /// How many runs are compared with each other.
    const RUNS: u32 = 2_000_000;

    fn of(bytes: &[u8]) -> SeriesHash {
        SeriesHash::of(LabelRun::from_canonical(bytes))
    }

    /// Bytes without an order, the same each time.
    fn noise(length: usize) -> Vec<u8> {
        let mut dice = 1_u64;
        let throw = |_| {
            dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (dice >> 56) as u8
        };
        (0..length).map(throw).collect()
    }

    /// Labels as exporters write them, in which numbers are counted up.
    fn numbered(number: u32) -> Vec<u8> {
        let mut run = Vec::with_capacity(160);
        let mut push = |name: &str, value: &str| push_label(&mut run, name.as_bytes(), value.as_bytes());
        push("__name__", ["http_requests_total", "up", "node_cpu_seconds_total"][number as usize % 3]);
        push("code", &(200 + number % 7).to_string());
        push("instance", &format!("10.0.{}.{}:9100", number / 256 % 256, number % 256));
        push("pod", &format!("pod-{number}"));
        push("zone", &(number / 65_536).to_string());
        run
    }

    /// Runs that a weak hash would confuse: words and stripes in another order, what repeats, and lengths alone.
    fn odd_runs() -> Vec<Vec<u8>> {
        let mut runs = Vec::new();
        let base = noise(640);
        for block in [1, 4, 8, 16, 32, 64] {
            for first in 0..640 / block - 1 {
                let mut run = base.clone();
                let (one, other) = run[first * block..][..2 * block].split_at_mut(block);
                one.swap_with_slice(other);
                runs.push(run);
            }
            runs.extend((2..1_000).map(|times| base[..block].repeat(times)));
        }
        for byte in [0, 1, b' ', b'0', 0xff] {
            runs.extend((1..2_000).map(|length| vec![byte; length]));
            runs.extend((1..200).map(|more| [&base[..100], &vec![byte; more]].concat()));
        }
        runs
    }

    /// How many of `numbers` stand there already.
    fn repeated<N: Ord>(mut numbers: Vec<N>) -> usize {
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        all - numbers.len()
    }

    /// Whether counts are as even as chance would have them, within six standard deviations of chi-square.
    fn are_even(counts: &[u32]) -> bool {
        let mean = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
        let chi: f64 = counts.iter().map(|&count| (f64::from(count) - mean).powi(2) / mean).sum();
        let free = (counts.len() - 1) as f64;
        (chi - free).abs() < 6.0 * (2.0 * free).sqrt().max(1.0)
    }

    #[test]
    fn a_run_has_the_hash_that_snapshots_know() {
        let bytes = noise(320);
        let known = KNOWN.map(|(length, _)| (length, of(&bytes[..length]).0));
        assert!(known == KNOWN, "{known:#x?}");
    }

    #[test]
    fn a_run_that_begins_as_one_before_has_the_same_hash() {
        for length in [1, 63, 64, 65, 128, 129, 320, 321] {
            let bytes = noise(length);
            let whole = bytes[..length - 1].as_chunks().0;
            for stripes in 0..=whole.len() {
                let begun = Begun::of(&whole[..stripes]);
                assert_eq!(begun.stripes(), stripes);
                let hash = begun.finish(LabelRun::from_canonical(&bytes));
                assert_eq!(hash, of(&bytes), "{stripes} stripes of {length} bytes");
            }
        }
    }

    #[test]
    fn each_bit_of_a_run_changes_each_of_the_hash_half_the_time() {
        for length in [3, 15, 16, 40, 64, 65, 128, 150, 320] {
            let mut flips = [0_u32; 128];
            let mut run = noise(length + 1999);
            let mut tries = 0;
            while tries < 4000 {
                for bit in 0..length * 8 {
                    let start = tries as usize % 1999;
                    let run = &mut run[start..start + length];
                    let before = of(run).0;
                    run[bit / 8] ^= 1 << (bit % 8);
                    let flipped = before ^ of(run).0;
                    assert!((25..=103).contains(&flipped.count_ones()), "{bit} of {length}: {flipped:x}");
                    (0..128).for_each(|at| flips[at] += (flipped >> at & 1) as u32);
                    tries += 1;
                }
            }
            for (at, flips) in flips.into_iter().enumerate() {
                let share = f64::from(flips) / f64::from(tries);
                assert!((0.45..0.55).contains(&share), "bit {at} at {length}: {share}");
            }
        }
    }

    #[test]
    fn runs_alike_collide_in_no_half_and_spread_evenly() {
        let odd = odd_runs();
        let count = RUNS - odd.len() as u32;
        let hashes: Vec<_> = (0..count).map(numbered).chain(odd).map(|run| of(&run)).collect();
        // Some of the odd ones are the same run.
        let same = repeated(odd_runs());
        for half in [0, 64] {
            assert_eq!(repeated(hashes.iter().map(|hash| (hash.0 >> half) as u64).collect()), same);
        }
        for part in [0, 32, 64, 96] {
            // 465 by chance.
            let parts = hashes.iter().map(|hash| (hash.0 >> part) as u32).collect();
            let collisions = repeated(parts) - same;
            assert!((350..=600).contains(&collisions), "{collisions} from bit {part}");
        }
        for shards in [2, 3, 4, 7, 16, 100] {
            let mut counts = vec![0; shards];
            hashes.iter().for_each(|hash| counts[hash.shard(shards)] += 1);
            assert!(are_even(&counts), "{shards}: {counts:?}");
        }
        // Places in tables go by the lowest bits of the low half, tags and parts by its highest.
        for from in [0, 8, 52, 57 - 8] {
            let mut counts = vec![0; 4096];
            hashes.iter().for_each(|hash| counts[(hash.low() >> from) as usize % 4096] += 1);
            assert!(are_even(&counts), "bits from {from}");
        }
    }

    /// Lengths of a run, and its hash.
    const KNOWN: [(usize, u128); 7] = [
        (0, 0xcf41_f914_0b6f_8d75_6fdb_9e71_653a_e8ef),
        (1, 0x86e8_f19e_e890_c443_4f9a_3dd2_dc1c_dcce),
        (16, 0x0f7b_6157_8844_c738_5600_b4d6_4525_0e11),
        (63, 0x6ca8_8de1_b5a0_261e_0d9d_0047_c739_3072),
        (64, 0xdc0f_d186_444b_4d47_da63_d442_5da9_9a89),
        (65, 0x833b_1f80_1c47_7923_6c86_3600_9bf5_43bd),
        (320, 0x1280_ef32_5297_2f68_fffd_d897_244c_9a7a),
    ];
}
