//! Keys of the last 60 observations, ascending, and the rank of each slot of their ring.
//!
//! A quantile is read off and never sorted for. To learn costs one count over the keys, one move of at most
//! 59 of them and one pass over the ranks, all without a branch on the data.
//!
//! Invariant: the first `len` keys ascend, and among equal ones by age, oldest first; `ranks` of the slots that
//! are known is a permutation of `0..len`.

/// How many observations are kept.
pub const CAPACITY: usize = 60;

/// So many ranks move at once: those that fit a register.
const LANES: usize = 16;

/// The rank of a slot that nothing was learned into: outside of every range of ranks that moves.
const UNKNOWN_RANK: u8 = u8::MAX;

/// What observations are ranked by.
pub(super) trait Key: Copy + PartialEq {
    /// Above every key of an observation.
    const UNKNOWN: Self;

    /// How many of `keys` are at most `key`.
    fn count_up_to(keys: &[Self; CAPACITY], key: Self) -> usize;
}

/// Counts in integers as wide as the key, so that as many compare at once as fit a register.
macro_rules! key {
    ($key:ty, $unknown:expr, $count:ty) => {
        impl Key for $key {
            const UNKNOWN: Self = $unknown;

            fn count_up_to(keys: &[Self; CAPACITY], key: Self) -> usize {
                keys.iter().map(|&other| <$count>::from(other <= key)).sum::<$count>() as usize
            }
        }
    };
}

key!(f64, f64::INFINITY, u64);
key!(i32, i32::MAX, u32);
key!(i16, i16::MAX, u16);

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

/// Moves those of `ranks` by `step` that are among the `count` from `first` on.
#[inline(always)]
fn move_ranks(ranks: &mut [u8; LANES], (first, count, step): (u8, u8, u8)) {
    for rank in ranks {
        *rank = rank.wrapping_add(if count <= rank.wrapping_sub(first) { 0 } else { step });
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

    /// The key of `rank`, 0 for the smallest; [`Key::UNKNOWN`] for one that nobody has. `rank` is below
    /// [`CAPACITY`].
    pub(super) fn key(&self, rank: usize) -> K {
        self.keys[rank]
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
        self.move_between(from, to);
        self.keys[to] = key;
        self.ranks[slot] = to as u8;
        self.turn.advance();
        Moved { from, to, leaving }
    }

    /// Makes room at rank `to` by closing the gap at rank `from`.
    #[inline]
    fn move_between(&mut self, from: usize, to: usize) {
        let up = from < to;
        let (first, count) = if up { (from + 1, to - from) } else { (to, from - to) };
        self.keys.copy_within(first..first + count, if up { from } else { to + 1 });
        let (first, count, step) = (first as u8, count as u8, if up { u8::MAX } else { 1 });
        let (whole, tail) = (CAPACITY / LANES * LANES, CAPACITY - LANES);
        // The last ones overlap with others, and are taken as they were before.
        let mut last = [0; LANES];
        last.copy_from_slice(&self.ranks[tail..]);
        for ranks in self.ranks[..whole].as_chunks_mut().0 {
            move_ranks(ranks, (first, count, step));
        }
        move_ranks(&mut last, (first, count, step));
        self.ranks[tail..].copy_from_slice(&last);
    }
}
