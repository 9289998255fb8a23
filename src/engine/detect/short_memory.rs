//! The last 60 observations of a signal, in the smallest form that holds them exactly.
//!
//! Most metrics are counts, decimals or rates of counts: their values stand on a grid, and a
//! window takes 232 or 368 bytes instead of 544, and less time. Others have every bit of a float, and
//! are kept as such. Whatever the form, quantiles and deviations are those of a [`Window`] that learned the same, to
//! the last bit; mean and standard deviation may differ in the last digits that a sum of 60 floats has, where the
//! grid knows them better.
//!
//! The form follows from what was learned, so the same input still gives the same output. It becomes wider as
//! soon as a value asks for it; every 60 observations a narrower one is tried.

use serde::{Deserialize, Serialize};

use super::grid::Grid;
use super::gridded::{Gridded, Line};
use super::odd::ODD_MAX;
use super::summary::{self, Ascending, Summary};
use super::window::Window;
use crate::engine::prefetch::prefetch;

/// The last 60 observations of a signal.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct ShortMemory(Form);

#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
enum Form {
    /// Nothing was learned.
    #[default]
    Empty,
    /// On a grid, near each other.
    Narrow(Box<Gridded<i16>>),
    /// On a grid, farther from each other.
    Broad(Box<Gridded<i32>>),
    /// Any values.
    Full(Box<Window>),
}

impl ShortMemory {
    /// Takes a finite `value` in; the oldest leaves once 60 are known.
    #[inline]
    pub fn learn(&mut self, value: f64) {
        debug_assert!(value.is_finite(), "transform keeps {value} away from detectors");
        let (taken, begins_anew) = match &mut self.0 {
            Form::Empty => (false, false),
            Form::Narrow(it) => (it.learn(value), false),
            Form::Broad(it) => (it.learn(value), it.begins_anew() && may_be_narrow(it)),
            Form::Full(it) => {
                it.learn(value);
                (true, it.begins_anew() && may_be_on_grid(it))
            }
        };
        if !taken {
            self.widen(value);
        } else if begins_anew {
            self.narrow();
        }
    }

    /// Moves every observation by `distance`, unless one would not be finite: a new level was accepted.
    pub fn shift(&mut self, distance: f64) {
        let mut moved = self.by_age();
        moved.iter_mut().for_each(|value| *value += distance);
        if moved.iter().all(|value| value.is_finite()) {
            *self = Self::of(&moved);
        }
    }

    /// How many observations are known, at most 60.
    pub fn len(&self) -> usize {
        self.known().map_or(0, Ascending::len)
    }

    /// Whether nothing was learned yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that methods ask for; `None` below [`MIN_OBSERVATIONS`](summary::MIN_OBSERVATIONS).
    #[inline]
    pub fn summary(&self) -> Option<Summary> {
        match &self.0 {
            Form::Empty => None,
            Form::Narrow(it) => it.summary(),
            Form::Broad(it) => it.summary(),
            Form::Full(it) => it.summary(),
        }
    }

    /// The `q`-quantile, as [`Window::quantile`] has it; `None` when empty.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        summary::quantile(self.known()?, q)
    }

    /// The smallest and the greatest observation; `None` when empty.
    pub fn extremes(&self) -> Option<(f64, f64)> {
        let known = self.known()?;
        Some((known.at(0), known.at(known.len().checked_sub(1)?)))
    }

    /// Asks for the memory that everything else needs.
    pub(in crate::engine) fn prefetch(&self) {
        match &self.0 {
            Form::Empty => {}
            Form::Narrow(it) => prefetch(&**it),
            Form::Broad(it) => prefetch(&**it),
            Form::Full(it) => prefetch(&**it),
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Empty => 0,
            Form::Narrow(it) => size_of::<Gridded<i16>>() + it.heap_bytes(),
            Form::Broad(it) => size_of::<Gridded<i32>>() + it.heap_bytes(),
            Form::Full(_) => size_of::<Window>(),
        }
    }

    fn known(&self) -> Option<&dyn Ascending> {
        match &self.0 {
            Form::Empty => None,
            Form::Narrow(it) => Some(&**it),
            Form::Broad(it) => Some(&**it),
            Form::Full(it) => Some(&**it),
        }
    }

    /// What is known, oldest first.
    fn by_age(&self) -> Vec<f64> {
        match &self.0 {
            Form::Empty => Vec::new(),
            Form::Narrow(it) => it.by_age().collect(),
            Form::Broad(it) => it.by_age().collect(),
            Form::Full(it) => it.by_age().collect(),
        }
    }

    /// Takes `value` in by another form.
    #[cold]
    fn widen(&mut self, value: f64) {
        let mut known = self.by_age();
        known.push(value);
        *self = Self::of(&known[known.len().saturating_sub(super::window::CAPACITY)..]);
    }

    /// Takes a smaller form, where there is one.
    #[cold]
    fn narrow(&mut self) {
        let other = Self::of(&self.by_age());
        if other.heap_bytes() < self.heap_bytes() {
            *self = other;
        }
    }

    /// The smallest form of at most 60 finite `values`, oldest first.
    fn of(values: &[f64]) -> Self {
        let on_grid = Frame::around(values).and_then(|frame| {
            let narrow = frame.taught(values).map(Form::Narrow);
            narrow.or_else(|| frame.taught(values).map(Form::Broad))
        });
        Self(on_grid.unwrap_or_else(|| Form::Full(Box::new(Window::taught(values.iter().copied())))))
    }
}

/// Whether so few values are between lines that a grid may do, as far as the oldest tell.
fn may_be_on_grid(window: &Window) -> bool {
    window.by_age().take(ODD_MAX / 2 + 1).any(|value| Grid::default().with(value).is_some())
}

/// Whether all values could stand within reach of two bytes, as far as a few of them tell: their grid is the coarsest
/// that all may have.
fn may_be_narrow(window: &Gridded<i32>) -> bool {
    let some = window.by_age().take(ODD_MAX / 2 + 1).filter_map(|value| Grid::default().with(value));
    let coarsest = some.map(Grid::per_unit).fold(0.0, f64::max);
    let span = window.at(window.len().saturating_sub(1)) - window.at(0);
    span * coarsest <= i16::MAX as f64
}

/// Where keys are counted from, and how far they reach.
struct Frame {
    grid: Grid,
    base: i64,
    reach: i64,
}

impl Frame {
    /// The coarsest grid with lines at `values`, but for half of [`ODD_MAX`]; the base is in the middle.
    fn around(values: &[f64]) -> Option<Self> {
        let (mut grid, mut odd) = (Grid::default(), 0);
        for &value in values {
            match grid.with(value) {
                Some(finer) => grid = finer,
                None => odd += 1,
            }
            if odd > ODD_MAX / 2 {
                return None;
            }
        }
        let (mut least, mut most) = (i64::MAX, i64::MIN);
        for &value in values {
            let line = grid.line_below(value)?;
            (least, most) = (least.min(line), most.max(line));
        }
        let span = most.checked_sub(least)?;
        Some(Self { grid, base: least + span / 2, reach: span - span / 2 })
    }

    /// A window with keys of type `K`, where half of their range is enough: else a drift would soon leave it.
    fn taught<K: Line>(&self, values: &[f64]) -> Option<Box<Gridded<K>>> {
        let mut window = Box::new(Gridded::new(self.grid, self.base));
        let fits = self.reach <= K::MAX / 2 && values.iter().all(|&value| window.learn(value));
        fits.then_some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Learns `values` and compares the bytes that the memory has on the heap.
    #[track_caller]
    fn check(values: impl IntoIterator<Item = f64>, bytes: usize) {
        let mut memory = ShortMemory::default();
        values.into_iter().for_each(|value| memory.learn(value));
        assert_eq!(memory.heap_bytes(), bytes, "{memory:?}");
    }

    #[test]
    fn the_form_is_as_wide_as_the_values_ask_for() {
        assert_eq!(size_of::<ShortMemory>(), 16);
        check([], 0);
        check((0..100).map(f64::from), 232);
        check((0..100).map(|count| f64::from(count) / 15.0), 232);
        check((0..100).map(|cents| f64::from(1999 + cents) / 100.0), 232);
        check((0..100).map(|step| 8e9 + f64::from(step * 100_003)), 368);
        check((0..100).map(|step| f64::from(step).sqrt()), 544);
        check([1e300], 544);
        check([-0.0], 544);
    }

    #[test]
    fn a_few_values_between_lines_take_room_until_they_left() {
        let counts = (0..20).map(f64::from);
        let odd = |count: u32| (0..count).map(|step| 3.0 + 1.0 / f64::from(7 * (step + 1)));
        check(counts.clone().chain(odd(1)), 232 + 56);
        check(counts.clone().chain(odd(7)), 232 + 56);
        check(counts.clone().chain(odd(8)), 544);
        check(counts.clone().chain(odd(7)).chain([5.0; 60]), 232);
    }

    #[test]
    fn a_form_that_is_wider_than_needed_is_left_within_two_windows() {
        let quiet = |count| (0..count).map(|step: u32| f64::from(step % 9));
        check(quiet(60).chain([1e6]), 368);
        check(quiet(60).chain([1e300]), 544);
        check(quiet(30).chain([1e6]).chain(quiet(119)), 232);
        check(quiet(30).chain([1e300]).chain(quiet(119)), 232);
    }

    #[test]
    fn a_drift_does_not_ask_for_a_wider_form() {
        check((0..1_000_000).step_by(37).map(f64::from), 232);
        check((0..40_000).rev().map(|step| f64::from(step) * 1e5), 368);
    }

    #[test]
    fn mean_and_deviation_do_not_drift() {
        let mut memory = ShortMemory::default();
        (0..100_000_u32)
            .for_each(|step| memory.learn(f64::from(step.wrapping_mul(2_654_435_761) >> 16) / 10.0));
        (0..60).for_each(|step| memory.learn(f64::from(step % 2)));
        let summary = memory.summary().unwrap();
        assert_eq!((summary.mean, summary.std), (0.5, 0.5));
    }

    #[test]
    fn what_is_moved_beyond_the_largest_number_stays() {
        let mut memory = ShortMemory::default();
        [1.0, f64::MAX].into_iter().for_each(|value| memory.learn(value));
        memory.shift(f64::MAX);
        assert_eq!(memory.extremes(), Some((1.0, f64::MAX)));
    }
}
