//! A window whose values stand on a grid: lines of the grid as small integers, and what is between lines aside.
//!
//! Nothing is lost: what it gives back are the very bits that were learned. With keys of two bytes it
//! takes 216 bytes, with four 344, where [`Window`](super::window::Window) takes 544. Mean and standard
//! deviation are read off sums of integers, which neither drift nor take a pass.
//!
//! Up to [`ODD_MAX`] values may stand between lines, such as the edge that is learned in place of an
//! outlier; they have 64 bytes of their own while there are any, and the key of the line below.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::grid::{Grid, LINE_MAX};
use super::ranked::{CAPACITY, Key, Ranked, Turn};
use super::summary::{self, Ascending, Summary};

/// So many values may stand between lines.
pub(super) const ODD_MAX: usize = 7;

/// A line of the grid, counted from the base.
pub(super) trait Line: Key + Into<i64> + TryFrom<i64> {
    /// No key is greater, above or below zero: 60 squares of it fit 64 bits.
    const MAX: i64;

    /// The key of the line `distance` lines from the base; `None` beyond [`Self::MAX`].
    fn of(distance: i64) -> Option<Self> {
        Self::try_from(distance).ok().filter(|_| distance.unsigned_abs() <= Self::MAX.unsigned_abs())
    }
}

impl Line for i16 {
    const MAX: i64 = (1 << 15) - 2;
}

impl Line for i32 {
    const MAX: i64 = (1 << 29) - 1;
}

/// The last 60 observations, on a grid.
///
/// Invariant: `sum` and `squares` are those of the keys of values on lines. An odd value lies above the line of
/// its key and below the next, and in rank after all values on that line.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Gridded<K> {
    /// The line whose key is 0.
    base: i64,
    sum: i64,
    squares: u64,
    odd: Option<Box<Odd>>,
    keys: Ranked<K>,
    grid: Grid,
}

/// Values between lines, and their slots, oldest first: sums run in this order.
#[derive(Clone, PartialEq, Default, Debug)]
struct Odd {
    values: [f64; ODD_MAX],
    slots: [u8; ODD_MAX],
    len: u8,
}

impl<K: Line> Gridded<K> {
    /// An empty window around line `base` of `grid`.
    pub(super) fn new(grid: Grid, base: i64) -> Self {
        Self { base, sum: 0, squares: 0, odd: None, keys: Ranked::new(Turn::default()), grid }
    }

    /// Takes a finite `value` in, and says whether it could: not where it is too far from the base, or between
    /// lines where a finer grid had one or too many are.
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
    pub(super) fn summary(&self) -> Option<Summary> {
        let lines = |len| Lines { window: self, len, per_unit: self.grid.per_unit() };
        match (&self.odd, self.keys.len()) {
            (None, CAPACITY) => summary::summary(&lines(CAPACITY)),
            (None, len) => summary::summary(&lines(len)),
            (Some(odd), CAPACITY) => summary::summary(&Mixed::new(lines(CAPACITY), odd)),
            (Some(odd), len) => summary::summary(&Mixed::new(lines(len), odd)),
        }
    }

    /// Bytes on the heap beside its own.
    pub(super) fn heap_bytes(&self) -> usize {
        self.odd.as_ref().map_or(0, |_| size_of::<Odd>())
    }

    fn learn_on_line(&mut self, line: i64) -> bool {
        let distance = line - self.base;
        let Some(key) = K::of(distance) else { return false };
        let between = self.odd().filter(|&(slot, _)| self.keys.in_slot(slot) == key).count();
        let before = self.keys.count_up_to(key) - between;
        self.put(key, before);
        self.sum += distance;
        self.squares += distance.unsigned_abs().pow(2);
        true
    }

    fn learn_between(&mut self, value: f64) -> bool {
        let line = self.grid.line_below(value).filter(|_| value != 0.0 && self.grid.with(value).is_none());
        let Some(key) = line.and_then(|line| K::of(line - self.base)) else { return false };
        if self.odd().filter(|&(slot, _)| slot != self.keys.turn().slot()).count() == ODD_MAX {
            return false;
        }
        let above = self.odd().filter(|&(slot, other)| self.keys.in_slot(slot) == key && other > value);
        let before = self.keys.count_up_to(key) - above.count();
        let slot = self.keys.turn().slot();
        self.put(key, before);
        self.odd.get_or_insert_default().insert(slot, value);
        true
    }

    /// Puts `key` after the first `before` ones, and takes what leaves out of the sums.
    fn put(&mut self, key: K, before: usize) {
        let slot = self.keys.turn().slot();
        let Some(leaving) = self.keys.put(key, before) else { return };
        if let Some(odd) = &mut self.odd
            && odd.remove(slot)
        {
            self.odd = self.odd.take().filter(|odd| odd.len > 0);
            return;
        }
        let distance: i64 = leaving.into();
        self.sum -= distance;
        self.squares -= distance.unsigned_abs().pow(2);
    }

    /// Slots and values between lines.
    fn odd(&self) -> impl Iterator<Item = (usize, f64)> + Clone {
        self.odd.iter().flat_map(|odd| odd.iter())
    }

    /// Sum of squared distances of the keys of `count` values on lines from their mean, times `count`. Both terms are
    /// whole, so it is exact up to the last rounding.
    fn squares_around_mean(&self, count: usize) -> f64 {
        let squares = u128::from(self.squares) * count as u128 - u128::from(self.sum.unsigned_abs()).pow(2);
        i64::try_from(squares).map_or_else(|_| squares as f64, |squares| squares as f64)
    }
}

impl Odd {
    /// Mean and standard deviation of these and of `count` others, with that mean and sum of squared distances.
    fn join(&self, mut count: f64, mut mean: f64, mut squares: f64) -> (f64, f64) {
        for (_, value) in self.iter() {
            count += 1.0;
            let distance = value - mean;
            mean += distance / count;
            squares += distance * (value - mean);
        }
        (mean, (squares / count.max(1.0)).sqrt())
    }

    fn iter(&self) -> impl Iterator<Item = (usize, f64)> + Clone {
        self.slots.iter().zip(self.values).take(self.len.into()).map(|(&slot, value)| (slot.into(), value))
    }

    /// Adds a value. There is room for it.
    fn insert(&mut self, slot: usize, value: f64) {
        let index = usize::from(self.len);
        (self.slots[index], self.values[index]) = (slot as u8, value);
        self.len += 1;
    }

    /// Whether the value of `slot` was among these; it no longer is.
    fn remove(&mut self, slot: usize) -> bool {
        let Some(index) = self.iter().position(|(other, _)| other == slot) else { return false };
        self.slots.copy_within(index + 1.., index);
        self.values.copy_within(index + 1.., index);
        self.len -= 1;
        let end = usize::from(self.len);
        (self.slots[end], self.values[end]) = (0, 0.0);
        true
    }
}

impl<K: Line> Ascending for Gridded<K> {
    fn len(&self) -> usize {
        self.keys.len()
    }

    fn at(&self, rank: usize) -> f64 {
        let odd = self.odd().find(|&(slot, _)| self.keys.rank(slot) == rank);
        odd.map_or_else(|| self.grid.value(self.base + self.keys.key(rank).into()), |(_, value)| value)
    }

    fn mean_and_std(&self) -> (f64, f64) {
        let len = self.keys.len();
        let lines = Lines { window: self, len, per_unit: self.grid.per_unit() };
        match &self.odd {
            None => Lines { len: len.max(1), ..lines }.mean_and_std(),
            Some(odd) => Mixed::new(lines, odd).mean_and_std(),
        }
    }
}

/// So many observations as stand all on lines, or are taken to.
struct Lines<'a, K> {
    window: &'a Gridded<K>,
    len: usize,
    per_unit: f64,
}

impl<K: Line> Lines<'_, K> {
    fn key(&self, rank: usize) -> i64 {
        self.window.keys.key(rank).into()
    }
}

impl<K: Line> Ascending for Lines<'_, K> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn at(&self, rank: usize) -> f64 {
        (self.window.base + self.key(rank)) as f64 / self.per_unit
    }

    #[inline(always)]
    fn mean_and_std(&self) -> (f64, f64) {
        let scale = self.len as f64 * self.per_unit;
        let mean = (self.window.base * self.len as i64 + self.window.sum) as f64 / scale;
        (mean, self.window.squares_around_mean(self.len).sqrt() / scale)
    }

    /// Half of the distance between two lines tells deviations apart; where they are equal, rounding may not.
    #[inline(always)]
    fn guess_below(&self) -> Option<usize> {
        let last = self.len - 1;
        let twice = self.key(last / 2) + self.key(last.div_ceil(2));
        Some(summary::search(self.len, |below, above| twice < self.key(below) + self.key(above)))
    }
}

/// Observations of which some stand between lines.
struct Mixed<'a, K> {
    lines: Lines<'a, K>,
    odd: &'a Odd,
    /// A bit for each rank of a value between lines.
    ranks: u64,
}

impl<'a, K: Line> Mixed<'a, K> {
    fn new(lines: Lines<'a, K>, odd: &'a Odd) -> Self {
        let ranks = odd.iter().fold(0, |ranks, (slot, _)| ranks | 1 << lines.window.keys.rank(slot));
        Self { lines, odd, ranks }
    }

    #[cold]
    fn between(&self, rank: usize) -> f64 {
        let found = self.odd.iter().find(|&(slot, _)| self.lines.window.keys.rank(slot) == rank);
        found.expect("a rank between lines has a value").1
    }
}

impl<K: Line> Ascending for Mixed<'_, K> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.lines.len
    }

    #[inline(always)]
    fn at(&self, rank: usize) -> f64 {
        if self.ranks >> rank & 1 == 0 { self.lines.at(rank) } else { self.between(rank) }
    }

    #[inline(always)]
    fn mean_and_std(&self) -> (f64, f64) {
        let len = self.lines.len - usize::from(self.odd.len);
        let Lines { window, per_unit, .. } = self.lines;
        let (mean, std) = Lines { window, per_unit, len: len.max(1) }.mean_and_std();
        self.odd.join(len as f64, mean, std * std * len as f64)
    }

    /// By the lines below.
    #[inline(always)]
    fn guess_below(&self) -> Option<usize> {
        self.lines.guess_below()
    }
}

/// What a window on a grid is serialised as: place of the grid, base, the slot that is written next, keys in the
/// order of slots, and slots and values between lines.
type Saved = (u8, i64, u8, Vec<i32>, Vec<(u8, f64)>);

impl<K: Line> Serialize for Gridded<K> {
    /// One to five bytes for each observation, as its distance from the base needs.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let key = |slot| {
            let key: i64 = self.keys.in_slot(slot).into();
            key as i32
        };
        let keys = (0..self.keys.len()).map(key).collect();
        let odd = self.odd().map(|(slot, value)| (slot as u8, value)).collect();
        let saved: Saved = (self.grid.index(), self.base, self.keys.turn().slot() as u8, keys, odd);
        saved.serialize(to)
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
    fn restore((grid, base, next, keys, odd): Saved) -> Option<Self> {
        let turn = Turn::start(next, keys.len())?;
        let mut window = Self { keys: Ranked::new(turn), ..Self::new(Grid::nth(grid)?, base) };
        if base.unsigned_abs() > LINE_MAX.unsigned_abs() || odd.len() > ODD_MAX {
            return None;
        }
        let start = turn.slot();
        for slot in (start..keys.len()).chain(0..start) {
            let between = odd.iter().find(|(other, _)| usize::from(*other) == slot);
            let line = base + i64::from(keys[slot]);
            let value = between.map_or_else(|| window.grid.value(line), |(_, value)| *value);
            let fits =
                value.is_finite() && window.grid.line_below(value) == Some(line) && window.learn(value);
            fits.then_some(())?;
        }
        (window.odd().count() == odd.len()).then_some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a window of halves that saved this is read back.
    #[track_caller]
    fn check(saved: Saved, fits: bool) {
        let bytes = postcard::to_allocvec(&saved).unwrap();
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
