//! Keys of the last 60 observations, ascending, and the rank of each slot of their ring.
//!
//! A quantile is read off and never sorted for. To learn costs one count over the keys, one move of at most
//! 59 of them and one pass over the ranks, all without a branch on the data where keys have two bytes.
//!
//! Invariant: the first `len` keys ascend, and among equal ones by age, oldest first; `ranks` of the slots that
//! are known is a permutation of `0..len`.

use serde::{Serialize, Serializer};

/// How many observations are kept.
pub const CAPACITY: usize = 60;

/// So many ranks move at once: those that fit a register.
const LANES: usize = 16;

/// The same for keys of two bytes.
const KEY_LANES: usize = 8;

/// The rank of a slot that nothing was learned into: as a number with a sign below all others, so that it never moves.
const UNKNOWN_RANK: u8 = u8::MAX;

/// Bytes of the widest key.
const KEY_BYTES_MAX: usize = size_of::<u64>();

/// What observations are ranked by.
pub(super) trait Key: Copy + PartialEq {
    /// Above every key of an observation.
    const UNKNOWN: Self;

    /// Puts it into as many bytes as it has, little-endian.
    fn write(self, into: &mut [u8]);

    /// What was written into these bytes.
    fn read(from: &[u8]) -> Self;

    /// How many of `keys` are at most `key`.
    fn count_up_to(keys: &[Self; CAPACITY], key: Self) -> usize;

    /// Takes the key of rank `from` out of `keys`, which ascend, and puts `key` in, whose rank is `to` then.
    fn replace(keys: &mut [Self; CAPACITY], key: Self, ends: (usize, usize));
}

/// Counts in integers as wide as the key, so that as many compare at once as fit a register.
macro_rules! key {
    ($key:ty, $unknown:expr, $count:ty, $replace:ident) => {
        impl Key for $key {
            const UNKNOWN: Self = $unknown;

            #[inline(always)]
            fn write(self, into: &mut [u8]) {
                into.copy_from_slice(&self.to_le_bytes());
            }

            fn read(from: &[u8]) -> Self {
                let mut bytes = [0; size_of::<Self>()];
                bytes.copy_from_slice(from);
                Self::from_le_bytes(bytes)
            }

            fn count_up_to(keys: &[Self; CAPACITY], key: Self) -> usize {
                keys.iter().map(|&other| <$count>::from(other <= key)).sum::<$count>() as usize
            }

            #[inline(always)]
            fn replace(keys: &mut [Self; CAPACITY], key: Self, ends: (usize, usize)) {
                $replace(keys, key, ends);
            }
        }
    };
}

key!(f64, f64::INFINITY, u64, replace);
key!(i32, i32::MAX, u32, replace);
key!(i16, i16::MAX, u16, replace_at_once);

fn replace<K: Copy>(keys: &mut [K; CAPACITY], key: K, (from, to): (usize, usize)) {
    let up = from < to;
    let (first, count) = if up { (from + 1, to - from) } else { (to, from - to) };
    keys.copy_within(first..first + count, if up { from } else { to + 1 });
    keys[to] = key;
}

/// So many keys of two bytes.
type Few = [i16; KEY_LANES];

fn few(keys: &[i16], start: usize) -> Few {
    let mut few = [0; KEY_LANES];
    few.copy_from_slice(&keys[start..start + KEY_LANES]);
    few
}

/// Puts `others` in the place of those `keys` that are less than `span` above `least`.
#[inline(always)]
fn give_way(keys: Few, others: Few, (least, span): (i16, i16)) -> Few {
    let mut moved = keys;
    for (key, other) in moved.iter_mut().zip(others) {
        // Wraps around, so that one comparison tells both bounds.
        let above = key.wrapping_sub(least).wrapping_add(i16::MIN);
        *key = if above < span.wrapping_add(i16::MIN) { other } else { *key };
    }
    moved
}

/// Those between the key that leaves and the one that comes give way to their neighbours; which ones these are is told
/// by their values. To keys that are equal to one of both it makes no difference.
#[inline(always)]
fn replace_at_once(keys: &mut [i16; CAPACITY], key: i16, (from, to): (usize, usize)) {
    const LAST: usize = CAPACITY - 1;
    const TAIL: usize = LAST - KEY_LANES;
    let leaving = keys[from];
    let (between, after) = if leaving < key {
        ((leaving, key.wrapping_sub(leaving)), 2)
    } else {
        ((key.wrapping_add(1), leaving.wrapping_sub(key)), 0)
    };
    // The neighbour of a key.
    let beside = |keys: &[i16], start: usize| few(&keys[after..], start - 1);
    let ends = (keys[usize::from(from == 0)], keys[LAST - usize::from(from == LAST)]);
    // Some of the last ones move with those before, and are taken as they are now.
    let tail = give_way(few(keys, TAIL), beside(keys, TAIL), between);
    let mut others = beside(keys, 1);
    for start in (1..TAIL).step_by(KEY_LANES) {
        let next = beside(keys, TAIL.min(start + KEY_LANES));
        let moved = give_way(few(keys, start), others, between);
        keys[start..start + KEY_LANES].copy_from_slice(&moved);
        others = next;
    }
    keys[TAIL..LAST].copy_from_slice(&tail);
    (keys[0], keys[LAST]) = ends;
    keys[to] = key;
}

/// Whose turn it is: the slot that is written next, and how many are known.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Turn {
    /// The slot that is written next; once all are known, that of the oldest.
    next: u8,
    len: u8,
}

impl Turn {
    /// The turn before slot `next` is written for the first time.
    pub(super) fn before(next: u8) -> Self {
        debug_assert!(usize::from(next) < CAPACITY, "slot {next} is none of a ring");
        Self { next, len: 0 }
    }

    /// How many observations are known.
    pub(super) fn len(self) -> usize {
        usize::from(self.len)
    }

    /// The slot that is written next.
    pub(super) fn slot(self) -> usize {
        usize::from(self.next)
    }

    /// The slots that are known, oldest first.
    pub(super) fn by_age(self) -> impl Iterator<Item = usize> + Clone {
        let oldest = if self.len() < CAPACITY { 0 } else { self.slot() };
        (oldest..self.len()).chain(0..oldest)
    }

    /// The slot from which learning `len` observations leads to a ring that writes `next` next; `None` where
    /// learning leads to no such ring.
    pub(super) fn start(next: u8, len: usize) -> Option<Self> {
        match len {
            CAPACITY if usize::from(next) < CAPACITY => Some(Self::before(next)),
            0..CAPACITY if usize::from(next) == len => Some(Self::before(0)),
            _ => None,
        }
    }

    /// Whether the next slot is the first: every 60 observations.
    pub(super) fn begins_anew(self) -> bool {
        self.next == 0
    }

    fn advance(&mut self) {
        self.next = if self.slot() + 1 == CAPACITY { 0 } else { self.next + 1 };
        self.len += u8::from(self.len() < CAPACITY);
    }
}

/// What a key did that was put in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved<K> {
    /// The rank that was given up, which was the next where none left.
    pub(super) from: usize,
    /// Its own rank, after that.
    pub(super) to: usize,
    /// The key that left.
    pub(super) leaving: Option<K>,
}

/// Keys by value, where each slot's stands, and whose turn it is.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Ranked<K> {
    keys: [K; CAPACITY],
    ranks: [u8; CAPACITY],
    turn: Turn,
}

/// Moves `ranks` as those do that follow when `from` is given up and `to` is taken.
#[inline(always)]
fn move_ranks(ranks: &mut [u8; LANES], (from, to): (i8, i8)) {
    for rank in ranks {
        // An unknown rank is below all.
        let closed = *rank as i8 - i8::from(*rank as i8 > from);
        *rank = (closed + i8::from(closed >= to)) as u8;
    }
}

/// How many of `below`, ascending, are nearer to the middle than their counterparts in `above`, ascending, too: those
/// that lie in the half of all that is nearest to the middle. `is_nearer` compares one with its counterpart, and is
/// true from some rank on. Three comparisons tell which eight to count among; none waits for another, as in a search.
#[inline(always)]
pub(super) fn nearer_half<K: Copy>(keys: &[K; CAPACITY], is_nearer: impl Fn(K, K) -> bool) -> usize {
    const HALF: usize = CAPACITY / 2;
    const FEW: usize = 8;
    let (below, above) = keys.split_at(HALF);
    let before: usize =
        [7, 15, 23].iter().map(|&rank| usize::from(!is_nearer(below[rank], above[rank]))).sum();
    let start = (before * FEW).min(HALF - FEW);
    let few = below[start..start + FEW].iter().zip(&above[start..start + FEW]);
    let nearer = few.map(|(&one, &other)| u16::from(is_nearer(one, other))).sum::<u16>();
    HALF - FEW - start + usize::from(nearer)
}

/// Keys in the order of slots, serialised as bytes: each little-endian, as long as it is.
pub(super) struct BySlot {
    bytes: [u8; CAPACITY * KEY_BYTES_MAX],
    len: usize,
}

impl Serialize for BySlot {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.bytes[..self.len])
    }
}

/// The keys that [`Ranked::by_slot`] saved; `None` where bytes are left over.
pub(super) fn saved<K: Key>(bytes: &[u8]) -> Option<Vec<K>> {
    let keys = bytes.chunks_exact(size_of::<K>());
    keys.remainder().is_empty().then(|| keys.map(K::read).collect())
}

impl<K: Key> Ranked<K> {
    /// An empty ring whose turn it is.
    pub(super) fn new(turn: Turn) -> Self {
        Self { keys: [K::UNKNOWN; CAPACITY], ranks: [UNKNOWN_RANK; CAPACITY], turn }
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> Turn {
        self.turn
    }

    /// How many keys are known.
    pub(super) fn len(&self) -> usize {
        self.turn.len()
    }

    /// The key in a known slot.
    pub(super) fn in_slot(&self, slot: usize) -> K {
        self.keys[self.rank(slot)]
    }

    /// The slot of a rank that somebody has.
    pub(super) fn slot(&self, rank: usize) -> usize {
        let slot = self.ranks.iter().position(|other| usize::from(*other) == rank);
        slot.expect("ranks are a permutation")
    }

    /// The keys in the order of slots, to be saved.
    pub(super) fn by_slot(&self) -> BySlot {
        let (mut bytes, width) = ([0; CAPACITY * KEY_BYTES_MAX], size_of::<K>());
        // Room for every rank that six bits can say, so that none has to be checked.
        let mut keys = [K::UNKNOWN; 1 << 6];
        keys[..CAPACITY].copy_from_slice(&self.keys);
        for (into, rank) in bytes.chunks_exact_mut(width).zip(&self.ranks[..self.len()]) {
            keys[usize::from(*rank) % keys.len()].write(into);
        }
        BySlot { bytes, len: self.len() * width }
    }

    /// The key of `rank`, 0 for the smallest; [`Key::UNKNOWN`] for one that nobody has. `rank` is below
    /// [`CAPACITY`].
    pub(super) fn key(&self, rank: usize) -> K {
        self.keys[rank]
    }

    /// The keys of `rank` and of the next, both below [`CAPACITY`].
    #[inline(always)]
    pub(super) fn pair(&self, rank: usize) -> [K; 2] {
        let pair = &self.keys[rank..rank + 2];
        [pair[0], pair[1]]
    }

    /// The rank of a known slot.
    pub(super) fn rank(&self, slot: usize) -> usize {
        usize::from(self.ranks[slot])
    }

    /// The keys, ascending; after the known ones, unknown ones.
    pub(super) fn keys(&self) -> &[K; CAPACITY] {
        &self.keys
    }

    /// How many known keys are at most `key`, which is below [`Key::UNKNOWN`].
    pub(super) fn count_up_to(&self, key: K) -> usize {
        K::count_up_to(&self.keys, key)
    }

    /// The rank of the key that leaves next, once all are known.
    pub(super) fn leaving(&self) -> Option<usize> {
        (self.len() == CAPACITY).then(|| self.rank(self.turn.slot()))
    }

    /// Puts `key` in the slot whose turn it is, after the first `before` keys.
    #[inline]
    pub(super) fn put(&mut self, key: K, before: usize) -> Moved<K> {
        let (slot, rank) = (self.turn.slot(), self.leaving());
        let from = rank.unwrap_or(self.len());
        let leaving = rank.map(|rank| self.keys[rank]);
        let to = before - usize::from(from < before);
        K::replace(&mut self.keys, key, (from, to));
        self.move_ranks(from, to);
        self.ranks[slot] = to as u8;
        self.turn.advance();
        Moved { from, to, leaving }
    }

    /// Closes the gap at rank `from`, and makes room at rank `to`.
    #[inline]
    fn move_ranks(&mut self, from: usize, to: usize) {
        let ends = (from as i8, to as i8);
        let (whole, tail) = (CAPACITY / LANES * LANES, CAPACITY - LANES);
        // The last ones overlap with others, and are taken as they were before.
        let mut last = [0; LANES];
        last.copy_from_slice(&self.ranks[tail..]);
        for ranks in self.ranks[..whole].as_chunks_mut().0 {
            move_ranks(ranks, ends);
        }
        move_ranks(&mut last, ends);
        self.ranks[tail..].copy_from_slice(&last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_move_at_once_stand_as_if_they_were_moved() {
        let mut dice = 7_u32;
        let mut throw = |sides: u32| {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (dice >> 16) % sides
        };
        // With few sides nearly all are equal.
        for sides in [1, 2, 5, 40, 65_533] {
            let mut key = || (throw(sides) as i32 - sides as i32 / 2) as i16;
            for known in [0, 1, 30, CAPACITY - 1, CAPACITY].repeat(40) {
                let mut keys = [i16::UNKNOWN; CAPACITY];
                keys[..known].fill_with(&mut key);
                keys.sort_unstable();
                let key = key();
                let (less, up_to) =
                    (keys.partition_point(|&other| other < key), i16::count_up_to(&keys, key));
                let leaves = if known < CAPACITY { known..known + 1 } else { 0..CAPACITY };
                for (from, before) in leaves.flat_map(|from| (less..=up_to).map(move |before| (from, before)))
                {
                    let to = before - usize::from(from < before);
                    let (mut moved, mut at_once) = (keys, keys);
                    replace(&mut moved, key, (from, to));
                    replace_at_once(&mut at_once, key, (from, to));
                    assert_eq!(at_once, moved, "{key} from {from} to {to} in {keys:?}");
                }
            }
        }
    }
}
