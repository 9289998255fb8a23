//! A window whose values stand on a grid: lines of the grid as small integers, and what is between lines aside.
//!
//! Nothing is lost: what it gives back are the very bits that were learned. With keys of two bytes it
//! takes 232 bytes, with four 368, where [`Window`](super::window::Window) takes 544. Mean and standard
//! deviation are read off sums of integers, which neither drift nor take a pass.
//!
//! Up to [`ODD_MAX`](super::odd::ODD_MAX) values may stand between lines; they have the key of the line below.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::grid::{Grid, LINE_MAX};
use super::odd::{ODD_MAX, Odd};
use super::ranked::{CAPACITY, Key, Moved, Ranked, Turn, nearer_half, saved};
use super::summary::{self, Ascending, Summary};
use super::sums::{Large, Small, Sums};

/// A line of the grid, counted from the base.
pub(super) trait Line: Key + Into<i64> + Into<f64> + TryFrom<i64> {
    /// No key is greater, above or below zero: 60 squares of it fit its sums.
    const MAX: i64;

    /// Where they are summed.
    type Sums: Sums;

    /// Of `keys`, all of which are known, how many of the half that is nearest to the median lie before it in rank.
    fn nearer_half(keys: &[Self; CAPACITY]) -> usize;

    /// The key of the line `distance` lines from the base; `None` beyond [`Self::MAX`].
    fn of(distance: i64) -> Option<Self> {
        Self::try_from(distance).ok().filter(|_| distance.unsigned_abs() <= Self::MAX.unsigned_abs())
    }
}

/// Distances are taken from the two in the middle, and as wide as keys: no two keys are farther from each other.
macro_rules! line {
    ($key:ty, $distance:ty, $sums:ty, $max:expr) => {
        impl Line for $key {
            const MAX: i64 = $max;
            type Sums = $sums;

            #[inline]
            fn nearer_half(keys: &[Self; CAPACITY]) -> usize {
                let [low, high] = [keys[CAPACITY / 2 - 1], keys[CAPACITY / 2]];
                let distance = |from: $key, to: $key| to.wrapping_sub(from) as $distance;
                nearer_half(keys, |below, above| distance(below, low) < distance(high, above))
            }
        }
    };
}

line!(i16, u16, Small, (1 << 15) - 2);
line!(i32, i32, Large, (1 << 29) - 1);

/// The last 60 observations, on a grid.
///
/// Invariant: `sums` are those of the keys of values on lines. An odd value lies above the line of its key and below
/// the next, and in rank after all values on that line.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Gridded<K: Line> {
    /// The line whose key is 0.
    base: i64,
    sums: K::Sums,
    /// Values between lines.
    odd: Odd,
    keys: Ranked<K>,
    grid: Grid,
}

impl<K: Line> Gridded<K> {
    /// An empty window around line `base` of `grid`.
    pub(super) fn new(grid: Grid, base: i64) -> Self {
        let (sums, odd, keys) = (K::Sums::default(), Odd::default(), Ranked::new(Turn::default()));
        Self { base, sums, odd, keys, grid }
    }

    /// Takes a finite `value` in, and says whether it could: not where it is too far from the base, or between
    /// lines where a finer grid had one or too many are.
    #[inline]
    pub(super) fn learn(&mut self, value: f64) -> bool {
        match self.grid.line(value) {
            Some(line) => self.learn_on_line(line),
            None => self.learn_between(value),
        }
    }

    /// What is known, oldest first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = f64> + Clone {
        self.keys.turn().by_age().map(|slot| self.at(self.keys.rank(slot)))
    }

    /// Whether the next slot is the first: every 60 observations.
    pub(super) fn begins_anew(&self) -> bool {
        self.keys.turn().begins_anew()
    }

    /// All that methods ask for; `None` below [`MIN_OBSERVATIONS`](summary::MIN_OBSERVATIONS).
    #[inline]
    pub(super) fn summary(&self) -> Option<Summary> {
        match self.keys.len() {
            CAPACITY => summary::summary(&self.known(CAPACITY)),
            _ => self.summary_of_few(),
        }
    }

    #[inline(never)]
    fn summary_of_few(&self) -> Option<Summary> {
        summary::summary(&self.known(self.keys.len()))
    }

    /// Bytes on the heap beside its own.
    pub(super) fn heap_bytes(&self) -> usize {
        self.odd.heap_bytes()
    }

    #[inline]
    fn learn_on_line(&mut self, line: i64) -> bool {
        let distance = line - self.base;
        let Some(key) = K::of(distance) else { return false };
        let mut before = self.keys.count_up_to(key);
        while self.is_odd_before(before, key) {
            before -= 1;
        }
        self.put(key, before);
        self.sums.add(distance);
        true
    }

    #[cold]
    fn learn_between(&mut self, value: f64) -> bool {
        let line = self.grid.line_below(value).filter(|_| value != 0.0 && self.grid.with(value).is_none());
        let Some(key) = line.and_then(|line| K::of(line - self.base)) else { return false };
        let leaves = self.keys.leaving().is_some_and(|rank| self.odd.is_at(rank));
        if self.odd.len() - usize::from(leaves) == ODD_MAX {
            return false;
        }
        let mut before = self.keys.count_up_to(key);
        while self.is_odd_before(before, key) && self.odd.at(before - 1) > value {
            before -= 1;
        }
        let rank = self.put(key, before);
        self.odd.insert(rank, value);
        true
    }

    /// Whether the last of the first `count` values stands between line `key` and the next.
    fn is_odd_before(&self, count: usize, key: K) -> bool {
        count > 0 && self.odd.is_at(count - 1) && self.keys.key(count - 1) == key
    }

    /// Puts `key` after the first `before` ones, and takes what leaves out of the sums. Returns its rank.
    #[inline]
    fn put(&mut self, key: K, before: usize) -> usize {
        let Moved { from, to, leaving } = self.keys.put(key, before);
        if let Some(leaving) = leaving
            && !self.odd.remove(from)
        {
            self.sums.remove(leaving.into());
        }
        self.odd.turn(from, to);
        to
    }

    /// Sum of `count` values on lines, in lines, and the sum of their squared distances from their mean, times `count`.
    #[inline(always)]
    fn sum_and_squares(&self, count: usize) -> (f64, f64) {
        ((self.base * count as i64 + self.sums.sum()) as f64, self.sums.around_mean(count))
    }

    /// Mean and standard deviation, where some values stand between lines.
    #[inline(never)]
    fn mean_and_std_of_all(&self) -> (f64, f64) {
        let (per_unit, count) = (self.grid.per_unit(), (self.keys.len() - self.odd.len()).max(1));
        let (sum, squares) = self.sum_and_squares(count);
        self.odd.join(count, per_unit, (sum / (count as f64 * per_unit), squares))
    }

    fn known(&self, len: usize) -> Known<'_, K> {
        Known { window: self, len, base: self.base as f64, per_unit: self.grid.per_unit() }
    }
}

impl<K: Line> Ascending for Gridded<K> {
    fn len(&self) -> usize {
        self.keys.len()
    }

    fn at(&self, rank: usize) -> f64 {
        self.known(self.keys.len()).at(rank)
    }

    fn mean_and_std(&self) -> (f64, f64) {
        self.known(self.keys.len()).mean_and_std()
    }
}

/// So many observations as are known.
struct Known<'a, K: Line> {
    window: &'a Gridded<K>,
    len: usize,
    base: f64,
    per_unit: f64,
}

impl<K: Line> Known<'_, K> {
    fn key(&self, rank: usize) -> i64 {
        self.window.keys.key(rank).into()
    }

    /// What stands at the line of `rank`, or at the line below. Both of the sum and the sum itself are floats without
    /// rounding, and to make floats of keys takes less than of lines.
    #[inline(always)]
    fn line_at(&self, rank: usize) -> f64 {
        let key: f64 = self.window.keys.key(rank).into();
        (self.base + key) / self.per_unit
    }

    /// Observations of these ranks and the next, some of which stand between lines.
    #[cold]
    #[inline(never)]
    fn pairs_between<const N: usize>(&self, ranks: [usize; N]) -> [[f64; 2]; N] {
        let mut pairs = [[0.0; 2]; N];
        for (pair, rank) in pairs.iter_mut().zip(ranks) {
            *pair = [self.at(rank), self.at(rank + 1)];
        }
        pairs
    }

    /// What stands at the lines of `rank` and of the next: two together are computed in the time of one.
    #[inline(always)]
    fn lines_at(&self, rank: usize) -> [f64; 2] {
        let [one, other] = self.window.keys.pair(rank);
        let (one, other): (f64, f64) = (one.into(), other.into());
        [(self.base + one) / self.per_unit, (self.base + other) / self.per_unit]
    }
}

impl<K: Line> Ascending for Known<'_, K> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn at(&self, rank: usize) -> f64 {
        if self.window.odd.is_at(rank) { self.window.odd.at(rank) } else { self.line_at(rank) }
    }

    /// Where all stand on lines, a straight line of code.
    #[inline(always)]
    fn pairs<const N: usize>(&self, ranks: [usize; N]) -> [[f64; 2]; N] {
        if self.window.odd.is_in_pairs(&ranks) {
            return self.pairs_between(ranks);
        }
        let mut pairs = [[0.0; 2]; N];
        for (pair, rank) in pairs.iter_mut().zip(ranks) {
            *pair = self.lines_at(rank);
        }
        pairs
    }

    #[inline(always)]
    fn mean_and_std(&self) -> (f64, f64) {
        if !self.window.odd.is_empty() {
            return self.window.mean_and_std_of_all();
        }
        let (len, lines) = (self.len.max(1), self.len.max(1) as f64 * self.per_unit);
        let (sum, squares) = self.window.sum_and_squares(len);
        (sum / lines, squares.sqrt() / lines)
    }

    /// Half of the distance between two lines tells deviations apart; where they are equal, rounding may not.
    #[inline(always)]
    fn guess_below(&self, _median: f64) -> Option<usize> {
        if self.len == CAPACITY {
            return Some(K::nearer_half(self.window.keys.keys()));
        }
        let last = self.len - 1;
        let twice = self.key(last / 2) + self.key(last.div_ceil(2));
        Some(summary::search(self.len, |below, above| twice < self.key(below) + self.key(above)))
    }
}

/// What a window on a grid is serialised as: place of the grid, base, the slot that is written next, keys in the
/// order of slots, and slots and values between lines, ascending.
type Saved<'a> = (u8, i64, u8, &'a [u8], Vec<(u8, f64)>);

impl<K: Line> Serialize for Gridded<K> {
    /// As many bytes for each observation as its key has.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut odd = [(0, 0.0); ODD_MAX];
        for (into, (rank, value)) in odd.iter_mut().zip(self.odd.by_rank()) {
            *into = (self.keys.slot(rank) as u8, value);
        }
        let odd = &odd[..self.odd.len()];
        (self.grid.index(), self.base, self.keys.turn().slot() as u8, self.keys.by_slot(), odd).serialize(to)
    }
}

impl<'de, K: Line> Deserialize<'de> for Gridded<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let saved = Saved::deserialize(from)?;
        Self::restore(saved).ok_or_else(|| serde::de::Error::custom("window on a grid contradicts itself"))
    }
}

impl<K: Line> Gridded<K> {
    /// The window that was saved; `None` where learning leads to no such window.
    fn restore((grid, base, next, keys, odd): Saved<'_>) -> Option<Self> {
        let keys = saved::<K>(keys)?;
        let turn = Turn::start(next, keys.len())?;
        let mut window = Self { keys: Ranked::new(turn), ..Self::new(Grid::nth(grid)?, base) };
        if base.unsigned_abs() > LINE_MAX.unsigned_abs() || odd.len() > ODD_MAX {
            return None;
        }
        let start = turn.slot();
        for slot in (start..keys.len()).chain(0..start) {
            let between = odd.iter().find(|(other, _)| usize::from(*other) == slot);
            let key: i64 = keys[slot].into();
            let line = base + key;
            let value = between.map_or_else(|| window.grid.value(line), |(_, value)| *value);
            let fits =
                value.is_finite() && window.grid.line_below(value) == Some(line) && window.learn(value);
            fits.then_some(())?;
        }
        (window.odd.len() == odd.len()).then_some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window, its keys as numbers.
    type Window = (u8, i64, u8, Vec<i16>, Vec<(u8, f64)>);

    /// Whether a window of halves that saved this is read back.
    #[track_caller]
    fn check(saved: Window, fits: bool) {
        let (grid, base, next, keys, odd) = &saved;
        let keys: Vec<u8> = keys.iter().flat_map(|key| key.to_le_bytes()).collect();
        let bytes = postcard::to_allocvec(&(grid, base, next, keys, odd)).unwrap();
        let read = postcard::from_bytes::<Gridded<i16>>(&bytes);
        assert_eq!(read.is_ok(), fits, "{saved:?}");
        if let Ok(read) = read {
            assert_eq!(postcard::to_allocvec(&read).unwrap(), bytes);
        }
    }

    #[test]
    fn only_windows_that_can_be_learned_are_read_back() {
        let tenths = 2;
        check((tenths, 0, 0, vec![], vec![]), true);
        check((tenths, 7, 3, vec![1, -1, 1], vec![]), true);
        check((tenths, 7, 2, vec![1, -1, 1], vec![]), false);
        check((tenths, 7, 59, vec![5; 60], vec![]), true);
        check((tenths, 7, 60, vec![5; 60], vec![]), false);
        check((9, 0, 1, vec![1], vec![]), false);
        check((tenths, 0, 1, vec![32_766], vec![]), true);
        check((tenths, 0, 1, vec![32_767], vec![]), false);
        check((tenths, 0, 1, vec![-32_767], vec![]), false);
        check((tenths, LINE_MAX - 9, 1, vec![8], vec![]), true);
        check((tenths, LINE_MAX, 1, vec![0], vec![]), false);
        check((tenths, i64::MAX, 1, vec![0], vec![]), false);
    }

    #[test]
    fn only_values_between_lines_are_read_back_as_such() {
        let (tenths, thousandths) = (2, 0.143);
        check((tenths, 0, 3, vec![1, 1, 1], vec![(1, 1.0 / 7.0), (2, 1.0 / 7.0)]), true);
        check((tenths, 0, 3, vec![1, 1, 2], vec![(2, 1.0 / 7.0)]), false);
        check((tenths, 0, 1, vec![1], vec![(0, thousandths)]), false); // On a finer grid.
        check((tenths, 0, 1, vec![1], vec![(0, 0.1)]), false);
        check((tenths, 0, 1, vec![1], vec![(1, 1.0 / 7.0)]), false);
        check((tenths, 0, 1, vec![1], vec![(0, 1.0 / 7.0), (0, 1.0 / 7.0)]), false);
        check((tenths, 0, 1, vec![0], vec![(0, -0.0)]), false);
        check((tenths, 0, 1, vec![0], vec![(0, f64::NAN)]), false);
        check((tenths, 0, 8, vec![1; 8], (0..8).map(|slot| (slot, 1.0 / 7.0)).collect()), false);
    }
}
