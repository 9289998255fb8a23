//! A set of hashes in 18 to 22 bytes each, where there are thousands; no more than 32 KiB where there are few.
//!
//! Open addressing with linear probing, in which the hashes stand in ascending order (O. Amble, D. E. Knuth, "Ordered hash
//! tables", The Computer Journal 17(2), 1974): so a search ends at the first that is greater, tables can be nearly full,
//! and grow by a sixth in one pass over both. There are 64 of them, which do not grow at once.

use crate::series::SeriesHash;

const PARTS: usize = 64;

/// Homes are no less than these.
const HOMES_MIN: usize = 16;

/// Hashes, apart by their first bits.
#[derive(Debug)]
pub(super) struct Hashes {
    parts: [Part; PARTS],
    len: usize,
}

/// Hashes that begin with the same bits.
///
/// Invariant: they ascend; each stands at its home, or behind it without a gap between.
#[derive(Default, Debug)]
struct Part {
    /// Homes, and room for what is displaced behind the last; [`EMPTY`] where there is none.
    slots: Vec<u128>,
    homes: usize,
    len: usize,
}

/// No hash that is kept.
const EMPTY: u128 = 0;

impl Default for Hashes {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| Part::default()), len: 0 }
    }
}

impl Hashes {
    pub(super) fn contains(&self, hash: SeriesHash) -> bool {
        let key = key(hash);
        let part = &self.parts[part(key)];
        part.slots.get(part.place(key)) == Some(&key) && key != EMPTY
    }

    /// Whether the hash was not there. Hash 0, which there is one chance in 2^128 to meet, is never kept.
    pub(super) fn insert(&mut self, hash: SeriesHash) -> bool {
        let key = key(hash);
        let new = key != EMPTY && self.parts[part(key)].insert(key);
        self.len += usize::from(new);
        new
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = SeriesHash> {
        self.parts.iter().flat_map(Part::iter).map(|key| SeriesHash(key.rotate_left(64)))
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.slots.capacity() * size_of::<u128>()).sum()
    }
}

/// The low half first: shards are told apart by the other.
fn key(hash: SeriesHash) -> u128 {
    hash.0.rotate_left(64)
}

fn part(key: u128) -> usize {
    (key >> (u128::BITS - PARTS.ilog2())) as usize
}

/// The home of a key among so many, by the bits behind those of its part.
fn home(key: u128, homes: usize) -> usize {
    let bits = (key << PARTS.ilog2() >> 64) as u64;
    ((u128::from(bits) * homes as u128) >> 64) as usize
}

impl Part {
    /// Where a key stands, or would.
    fn place(&self, key: u128) -> usize {
        let home = home(key, self.homes);
        let behind = self.slots.iter().skip(home);
        home + behind.take_while(|&&other| other != EMPTY && other < key).count()
    }

    fn insert(&mut self, key: u128) -> bool {
        if self.slots.get(self.place(key)) == Some(&key) {
            return false;
        }
        if self.len >= self.homes / 8 * 7 {
            self.grow();
        }
        let place = self.place(key);
        let behind = self.slots[place..].iter().position(|&other| other == EMPTY);
        let end = behind.map_or(self.slots.len(), |behind| place + behind);
        if end == self.slots.len() {
            self.slots.reserve_exact(1);
            self.slots.push(EMPTY);
        }
        self.slots.copy_within(place..end, place + 1);
        self.slots[place] = key;
        self.len += 1;
        true
    }

    /// Makes a third more homes than hashes.
    fn grow(&mut self) {
        let homes = (self.len * 4 / 3).max(HOMES_MIN);
        let mut slots = Vec::with_capacity(homes + HOMES_MIN);
        for key in self.iter() {
            let place = home(key, homes).max(slots.len());
            slots.resize(place, EMPTY);
            slots.push(key);
        }
        slots.resize(slots.len().max(homes), EMPTY);
        (self.slots, self.homes) = (slots, homes);
    }

    fn iter(&self) -> impl Iterator<Item = u128> {
        self.slots.iter().copied().filter(|&key| key != EMPTY)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn hashes_are_kept_once_however_near_each_other() {
        let (mut hashes, mut plain) = (Hashes::default(), BTreeSet::new());
        let mut dice = 1_u128;
        for step in 0..30_000_u32 {
            dice = dice.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
            let hash = match step % 10 {
                0 => SeriesHash(dice >> 120), // All in one part, most of them twice.
                1 => SeriesHash(u128::MAX << 64 | u128::from(u64::MAX << (step % 64))), // At the end.
                _ => SeriesHash(dice),
            };
            assert_eq!(hashes.contains(hash), plain.contains(&hash), "{step}");
            assert_eq!(hashes.insert(hash), hash.0 != 0 && plain.insert(hash), "{step}");
            assert_eq!(hashes.len(), plain.len());
        }
        assert!(hashes.iter().collect::<BTreeSet<_>>() == plain);
        assert!(plain.iter().all(|&hash| hashes.contains(hash)));
        hashes.clear();
        assert_eq!((hashes.len(), hashes.iter().count()), (0, 0));
    }

    #[test]
    fn a_hash_never_takes_more_than_is_said() {
        let mut hashes = Hashes::default();
        for number in 1..200_000_u128 {
            hashes.insert(SeriesHash(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)));
            if number > 20_000 && number % 1000 == 0 {
                let bytes = hashes.heap_bytes() as f64 / number as f64;
                assert!((18.0..23.0).contains(&bytes), "{bytes} at {number}");
            }
        }
    }
}
