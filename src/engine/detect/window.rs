//! The last 60 observations of a signal, and their exact mean, quantiles and deviations.
//!
//! Rolling z-score, MAD and IQR share one. 544 bytes per signal, none of them allocated later. Values stand
//! in ascending order, beside them the rank of each slot of the ring, one byte each, so that a quantile is
//! read off and never sorted for; to learn costs one count over the keys, one move and one pass over the ranks.
//!
//! Up to 60 observations, these are the quantiles of the whole history; later, exactly those of the last
//! 60. For steady normal noise the window's median then wanders around that of the whole history by 0.16
//! standard deviations (1.2533 / √60). However wrong 14 of the 60 are, the quartiles and the median stay
//! within the range of the other 46.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use super::ranked::CAPACITY;
use super::ranked::{Ranked, Turn, nearer_half, saved};
pub use super::summary::MIN_OBSERVATIONS;
use super::summary::{self, Ascending, Summary};

/// Sums run in so many independent parts. Even, and a divisor of [`CAPACITY`].
const LANES: usize = 12;

/// The last [`CAPACITY`] observations.
#[derive(Clone, PartialEq, Debug)]
pub struct Window {
    values: Ranked<f64>,
}

impl Default for Window {
    fn default() -> Self {
        Self { values: Ranked::new(Turn::default()) }
    }
}

impl Serialize for Window {
    /// The slot that is written next, then what is known, in the order of slots. 8 bytes for each observation; ranks
    /// follow from the rest.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.values.turn().slot() as u8, self.values.by_slot()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (next, known) = <(u8, &[u8])>::deserialize(from)?;
        let window = saved(known).and_then(|known| Self::of(next, &known));
        window.ok_or_else(|| serde::de::Error::custom("window contradicts itself"))
    }
}

impl Window {
    /// The window whose slots hold `known`, and which writes to `next` next; `None` where learning leads to no such
    /// window.
    fn of(next: u8, known: &[f64]) -> Option<Self> {
        let turn = Turn::start(next, known.len())?;
        let mut window = Self { values: Ranked::new(turn) };
        let (newest, oldest) = known.split_at(turn.slot());
        for &value in oldest.iter().chain(newest) {
            value.is_finite().then(|| window.learn(value))?;
        }
        Some(window)
    }

    /// The window that learned `values`, in this order. They are finite.
    pub(super) fn taught(values: impl IntoIterator<Item = f64>) -> Self {
        let mut window = Self::default();
        values.into_iter().for_each(|value| window.learn(value));
        window
    }

    /// Takes a finite `value` in; the oldest leaves once [`CAPACITY`] are known.
    pub fn learn(&mut self, value: f64) {
        debug_assert!(value.is_finite(), "transform keeps {value} away from detectors");
        let before = self.values.count_up_to(value);
        self.values.put(value, before);
    }

    /// Moves every observation by `distance`, unless one would not be finite: a new level was accepted.
    /// They are learned anew, oldest first, since rounding may make equals of neighbours.
    pub fn shift(&mut self, distance: f64) {
        let moved = self.by_age().map(|value| value + distance);
        if moved.clone().all(f64::is_finite) {
            *self = Self::taught(moved);
        }
    }

    /// How many observations are known, at most [`CAPACITY`].
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing was learned yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Mean and standard deviation of the population; both 0 when empty, not finite where sums overflow.
    ///
    /// Two passes over the values, ascending: exact to the rounding of 60 additions, whatever passed through the
    /// window before and in whatever order.
    pub fn mean_and_std(&self) -> (f64, f64) {
        let count = self.len().max(1) as f64;
        let known = &self.values.keys()[..self.len()];
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
        summary::quantile(self, q)
    }

    /// The middle value, or the mean of the two middle ones; `None` when empty.
    pub fn median(&self) -> Option<f64> {
        summary::median(self)
    }

    /// Median of the absolute deviations from `median`, which is [`Self::median`]; `None` when empty.
    pub fn mad(&self, median: f64) -> Option<f64> {
        summary::mad(self, median)
    }

    /// All that methods ask for; `None` below [`MIN_OBSERVATIONS`].
    pub fn summary(&self) -> Option<Summary> {
        match self.len() {
            CAPACITY => summary::summary(&Known { window: self, len: CAPACITY }),
            len => summary::summary(&Known { window: self, len }),
        }
    }

    /// What is known, oldest first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = f64> + Clone {
        self.values.turn().by_age().map(|slot| self.values.in_slot(slot))
    }

    /// Whether the next slot is the first: every [`CAPACITY`] observations.
    pub(super) fn begins_anew(&self) -> bool {
        self.values.turn().begins_anew()
    }
}

/// So many observations as are known.
struct Known<'a> {
    window: &'a Window,
    len: usize,
}

impl Ascending for Known<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    fn at(&self, rank: usize) -> f64 {
        self.window.values.key(rank)
    }

    #[inline(always)]
    fn mean_and_std(&self) -> (f64, f64) {
        self.window.mean_and_std()
    }

    #[inline(always)]
    fn guess_below(&self, median: f64) -> Option<usize> {
        let keys = self.window.values.keys();
        (self.len == CAPACITY).then(|| nearer_half(keys, |below, above| median - below < above - median))
    }
}

impl Ascending for Window {
    fn len(&self) -> usize {
        self.values.len()
    }

    fn at(&self, rank: usize) -> f64 {
        self.values.key(rank)
    }

    fn mean_and_std(&self) -> (f64, f64) {
        self.mean_and_std()
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
            let known_bytes: Vec<u8> = known.iter().flat_map(|value| value.to_le_bytes()).collect();
            let bytes = postcard::to_allocvec(&(next, known_bytes)).unwrap();
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
            let mut ranks: Vec<_> = (0..window.len()).map(|slot| window.values.rank(slot)).collect();
            ranks.sort_unstable();
            assert!(ranks.iter().enumerate().all(|(index, &rank)| index == rank), "{ranks:?}");
            assert!(window.values.keys().is_sorted());
        }
    }
}
