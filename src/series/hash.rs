//! Identity of a series: a 128-bit hash of its label run.
//!
//! With 128 bits, two of 100 million series collide with a probability below 1e-22, so the table
//! compares hashes and never labels. About 4 ns dearer than 64 bits on a 320-byte run.

use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

use super::LabelRun;

/// XXH3-128 of a canonical label run (<https://xxhash.com>). Serialised as its 16 bytes, the lowest first.
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
    pub fn of(run: LabelRun<'_>) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(run.as_bytes()))
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
