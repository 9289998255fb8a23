//! The last 60 observations of a signal, and their exact mean, quantiles and deviations.
//!
//! Rolling z-score, MAD and IQR share one. 544 bytes per signal, none of them allocated later. Beside
//! the ring stands the order of its slots by value, one byte each, so that a quantile is read off and
//! never sorted for. To learn costs two counts over the ring and one move of at most 59 bytes.
//!
//! Up to 60 observations, these are the quantiles of the whole history; later, exactly those of the last
//! 60. For steady normal noise the window's median then wanders around that of the whole history by 0.16
//! standard deviations (1.2533 / √60). However wrong 14 of the 60 are, the quartiles and the median stay
//! within the range of the other 46.
//!
//! Invariant: the first `len` entries of `order` are the slots `0..len`, ascending by value and, among
//! equal values, by age, oldest first. So the value that leaves stands before its equals, and counting
//! the smaller ones finds it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many observations are kept.
pub const CAPACITY: usize = 60;

/// Fewer observations than this are not judged by.
///
/// With ten, two values lie outside each quartile, so a single outlier among the first ones cannot
/// become the quartile that it is judged by.
pub const MIN_OBSERVATIONS: usize = 10;

/// Sums run in so many independent parts. Even, and a divisor of [`CAPACITY`].
const LANES: usize = 12;

/// The last [`CAPACITY`] observations.
#[derive(Clone, PartialEq, Debug)]
pub struct Window {
    /// Infinite where nothing was learned yet: never below or equal to an observation.
    ring: [f64; CAPACITY],
    order: [u8; CAPACITY],
    len: u8,
    /// The slot that is written next; once full, the oldest.
    next: u8,
}

impl Default for Window {
    fn default() -> Self {
        Self { ring: [f64::INFINITY; CAPACITY], order: [0; CAPACITY], len: 0, next: 0 }
    }
}

impl Serialize for Window {
    /// The slot that is written next, then what is known, in the order of slots: sums run in it. 8 bytes for each
    /// observation; ranks follow from the rest.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.next, &self.ring[..self.len()]).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (next, known) = <(u8, Vec<f64>)>::deserialize(from)?;
        Self::of(next, &known).ok_or_else(|| serde::de::Error::custom("window contradicts itself"))
    }
}

impl Window {
    /// The window whose slots hold `known`, and which writes to `next` next; `None` where learning leads to no such
    /// window.
    fn of(next: u8, known: &[f64]) -> Option<Self> {
        let full = known.len() == CAPACITY;
        let place = if full { usize::from(next) < CAPACITY } else { usize::from(next) == known.len() };
        if known.len() > CAPACITY || !place || !known.iter().all(|value| value.is_finite()) {
            return None;
        }
        let mut window = Self { len: known.len() as u8, next, ..Self::default() };
        window.ring[..known.len()].copy_from_slice(known);
        let ranks = &mut window.order[..known.len()];
        ranks.iter_mut().zip(0..).for_each(|(rank, slot)| *rank = slot);
        // By age, then, keeping that, by value. Only a full ring has its oldest elsewhere than first.
        ranks.rotate_left(if full { usize::from(next) } else { 0 });
        let ring = &window.ring;
        ranks.sort_by(|&one, &other| {
            ring[usize::from(one)].partial_cmp(&ring[usize::from(other)]).expect("known values are finite")
        });
        Some(window)
    }

    /// Takes a finite `value` in; the oldest leaves once [`CAPACITY`] are known.
    pub fn learn(&mut self, value: f64) {
        debug_assert!(value.is_finite(), "transform keeps {value} away from detectors");
        let slot = usize::from(self.next);
        let leaving = self.ring[slot];
        let len = usize::from(self.len);
        let (from, to) = if len < CAPACITY {
            (len, self.count(|other| other <= value))
        } else {
            let to = self.count(|other| other <= value) - usize::from(leaving <= value);
            (self.count(|other| other < leaving), to)
        };
        self.move_rank(from, to);
        self.order[to] = self.next;
        self.ring[slot] = value;
        self.len += u8::from(len < CAPACITY);
        self.next = if slot + 1 == CAPACITY { 0 } else { self.next + 1 };
    }

    /// Moves every observation by `distance`, unless one would not be finite: a new level was accepted.
    /// They are learned anew, oldest first, since rounding may make equals of neighbours.
    pub fn shift(&mut self, distance: f64) {
        let len = self.len();
        let oldest = if len < CAPACITY { 0 } else { usize::from(self.next) };
        let mut moved = Self::default();
        for index in 0..len {
            let value = self.ring[(oldest + index) % CAPACITY] + distance;
            if !value.is_finite() {
                return;
            }
            moved.learn(value);
        }
        *self = moved;
    }

    /// How many observations are known, at most [`CAPACITY`].
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether nothing was learned yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Mean and standard deviation of the population; both 0 when empty, not finite where sums overflow.
    ///
    /// Two passes over the ring, in the order of slots: exact to the rounding of 60 additions, whatever
    /// passed through the window before.
    pub fn mean_and_std(&self) -> (f64, f64) {
        let count = f64::from(self.len.max(1));
        let known = &self.ring[..self.len()];
        let mean = sum(known, |value| value) / count;
        let squares = sum(known, |value| (value - mean) * (value - mean));
        (mean, (squares / count).sqrt())
    }

    /// The `q`-quantile, `q` in [0, 1], interpolated linearly between the two nearest ranks; `None` when
    /// empty.
    ///
    /// Type 7 of R. J. Hyndman and Y. Fan, "Sample Quantiles in Statistical Packages", The American
    /// Statistician 50(4), 1996.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let last = self.len().checked_sub(1)?;
        let position = q.clamp(0.0, 1.0) * last as f64;
        let rank = position as usize;
        let (low, high) = (self.ranked(rank), self.ranked(last.min(rank + 1)));
        Some(low + (high - low) * (position - rank as f64))
    }

    /// The middle value, or the mean of the two middle ones; `None` when empty.
    pub fn median(&self) -> Option<f64> {
        let last = self.len().checked_sub(1)?;
        Some(f64::midpoint(self.ranked(last / 2), self.ranked(last.div_ceil(2))))
    }

    /// Median of the absolute deviations from `median`, which is [`Self::median`]; `None` when empty.
    ///
    /// Deviations grow on both sides of the median, so their median is found where the nearest half of
    /// all observations ends: a search of five steps over how many of them lie below.
    pub fn mad(&self, median: f64) -> Option<f64> {
        let last = self.len().checked_sub(1)?;
        let (lefts, nearest) = (self.len() / 2, last / 2 + 1);
        let left = |count: usize| match count {
            0 => 0.0,
            count if count > lefts => f64::INFINITY,
            count => median - self.ranked(lefts - count),
        };
        let right = |count: usize| match count {
            0 => 0.0,
            count if lefts + count > self.len() => f64::INFINITY,
            count => self.ranked(lefts + count - 1) - median,
        };
        let (mut taken, mut most) = (0, lefts);
        while taken < most {
            let middle = (taken + most) / 2;
            if left(middle + 1) < right(nearest - middle) { taken = middle + 1 } else { most = middle }
        }
        let low = left(taken).max(right(nearest - taken));
        let high = left(taken + 1).min(right(nearest - taken + 1));
        Some(if last % 2 == 0 { low } else { f64::midpoint(low, high) })
    }

    /// The observation of `rank`, 0 for the smallest. `rank` is below `len`.
    fn ranked(&self, rank: usize) -> f64 {
        self.ring[usize::from(self.order[rank])]
    }

    /// How many slots hold what is asked for.
    fn count(&self, asked: impl Fn(f64) -> bool) -> usize {
        self.ring.iter().map(|&value| u64::from(asked(value))).sum::<u64>() as usize
    }

    /// Makes room at rank `to` by closing the gap at rank `from`.
    fn move_rank(&mut self, from: usize, to: usize) {
        if from < to {
            self.order.copy_within(from + 1..=to, from);
        } else {
            self.order.copy_within(to..from, to + 1);
        }
    }
}

/// Sums `term` over `values`, in [`LANES`] parts that do not wait for each other.
fn sum(values: &[f64], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest: f64 = chunks.remainder().iter().map(|&value| term(value)).sum();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += term(value);
        }
    }
    let (left, right) = lanes.split_at(LANES / 2);
    left.iter().zip(right).map(|(left, right)| left + right).sum::<f64>() + rest
}

/// Learns `past` and compares the score of `value`, to two places, and the band, for every method that reads a window.
#[cfg(test)]
pub(super) fn check(
    score: fn(&Window, f64) -> Option<super::Verdict>,
    past: &[f64],
    value: f64,
    expected: &str,
) {
    let mut window = Window::default();
    past.iter().for_each(|&value| window.learn(value));
    let found = match score(&window, value) {
        Some(super::Verdict { score, band }) => {
            format!("{score:.2} in {:.1}..{:.1}", band.lower, band.upper)
        }
        None => "unknown".to_owned(),
    };
    assert_eq!(found, expected, "{value} after {past:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taught(values: &[f64]) -> Window {
        let mut window = Window::default();
        values.iter().for_each(|&value| window.learn(value));
        window
    }

    /// Learns `values` and compares 1st quartile, median, 3rd quartile and median absolute deviation.
    fn check(values: &[f64], expected: [f64; 4]) {
        let window = taught(values);
        let median = window.median().unwrap();
        let quartiles = [window.quantile(0.25).unwrap(), median, window.quantile(0.75).unwrap()];
        let [q1, q2, q3] = quartiles;
        assert_eq!([q1, q2, q3, window.mad(median).unwrap()], expected, "{values:?}");
    }

    #[test]
    fn quantiles_stand_between_ranks() {
        check(&[3.0], [3.0, 3.0, 3.0, 0.0]);
        check(&[3.0, 1.0], [1.5, 2.0, 2.5, 1.0]);
        check(&[9.0, 1.0, 2.0], [1.5, 2.0, 5.5, 1.0]);
        check(&[4.0, 1.0, 2.0, 3.0], [1.75, 2.5, 3.25, 1.0]);
        check(&[5.0, 5.0, 5.0, 5.0, 900.0], [5.0, 5.0, 5.0, 0.0]);
        check(&[1.0, 1.0, 2.0, 2.0, 4.0, 6.0, 9.0], [1.5, 2.0, 5.0, 1.0]);
    }

    #[test]
    fn an_empty_window_knows_nothing() {
        let window = Window::default();
        assert!(window.is_empty());
        assert_eq!((window.median(), window.quantile(0.5), window.mad(0.0)), (None, None, None));
        assert_eq!(window.mean_and_std(), (0.0, 0.0));
    }

    #[test]
    fn the_sixty_first_value_replaces_the_first() {
        let values: Vec<_> = (0..61).map(f64::from).collect();
        let window = taught(&values);
        assert_eq!(window.len(), 60);
        assert_eq!((window.quantile(0.0), window.quantile(1.0)), (Some(1.0), Some(60.0)));
        assert_eq!(window.mean_and_std().0, 30.5);
    }

    #[test]
    fn quantiles_outside_zero_and_one_are_the_extremes() {
        let window = taught(&[1.0, 2.0, 3.0]);
        assert_eq!((window.quantile(-1.0), window.quantile(7.0)), (Some(1.0), Some(3.0)));
    }

    /// Learns `past`, reads the window back from bytes, and compares both then and after 70 values more.
    #[track_caller]
    fn check_read_back(past: impl Iterator<Item = f64>) {
        let mut window = Window::default();
        past.for_each(|value| window.learn(value));
        let mut read = postcard::from_bytes(&postcard::to_allocvec(&window).unwrap()).unwrap();
        assert_eq!(window, read);
        for step in 0..70 {
            let value = f64::from(step % 5);
            window.learn(value);
            read.learn(value);
        }
        assert_eq!(window, read);
    }

    #[test]
    fn a_window_that_is_read_back_ranks_equals_by_age_as_before() {
        check_read_back([].into_iter());
        check_read_back([3.0, -0.0, 0.0, 3.0, -1.0].into_iter());
        for count in [59, 60, 61, 100, 119, 120] {
            check_read_back((0..count).map(|step| f64::from(step * 7 % 5)));
        }
    }

    #[test]
    fn only_windows_that_can_be_learned_are_read_back() {
        let check = |next: u8, known: &[f64], fits: bool| {
            let bytes = postcard::to_allocvec(&(next, known)).unwrap();
            assert_eq!(postcard::from_bytes::<Window>(&bytes).is_ok(), fits, "{next} {known:?}");
        };
        check(0, &[], true);
        check(1, &[], false);
        check(2, &[1.0, -0.0], true);
        check(0, &[1.0, 2.0], false);
        check(2, &[1.0, f64::NAN], false);
        check(2, &[1.0, f64::INFINITY], false);
        check(59, &[1.0; 60], true);
        check(60, &[1.0; 60], false);
        check(61, &[1.0; 61], false);
    }

    #[test]
    fn order_stays_a_sorted_permutation_whatever_leaves() {
        let mut window = Window::default();
        for step in 0..500_u32 {
            // Runs of equal values, so that the one that leaves must be told from its equals.
            window.learn(f64::from(step.wrapping_mul(2_654_435_761) >> 29));
            let order = &window.order[..window.len()];
            let mut slots = order.to_vec();
            slots.sort_unstable();
            assert!(slots.iter().enumerate().all(|(index, &slot)| index == usize::from(slot)), "{slots:?}");
            assert!(
                order
                    .windows(2)
                    .all(|pair| window.ring[usize::from(pair[0])] <= window.ring[usize::from(pair[1])])
            );
        }
    }
}
