//! Running count, mean and variance of a stream, in 24 bytes.
//!
//! One division and four additions an observation; no old value is kept. Source: B. P. Welford, "Note on
//! a Method for Calculating Corrected Sums of Squares and Products", Technometrics 4(3), 1962, in the
//! form of Knuth, The Art of Computer Programming, volume 2, 4.2.2.

use super::Band;

/// How many standard deviations from the mean the edge of normal lies.
pub const SIGMAS: f64 = 3.0;

/// Share of the level below which a spread is rounding noise: 4500 units in the last place.
const NOISE: f64 = 1e-12;

/// Count, mean and sum of squared distances from the mean.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Moments {
    /// Observations so far.
    pub count: u32,
    /// Their mean; 0 without any.
    pub mean: f64,
    /// Sum of the squares of their distances from the mean.
    pub m2: f64,
}

impl Moments {
    /// Takes a finite `value` into account.
    ///
    /// Two kinds of values change nothing: those so large that a square overflows (beyond about 1e154),
    /// which would make every later mean unknown, and those after the 4,294,967,295th.
    pub fn learn(&mut self, value: f64) {
        debug_assert!(value.is_finite(), "transform keeps {value} away from detectors");
        let Some(count) = self.count.checked_add(1) else { return };
        let distance = value - self.mean;
        let mean = self.mean + distance / f64::from(count);
        let m2 = self.m2 + distance * (value - mean);
        if mean.is_finite() && m2.is_finite() {
            *self = Self { count, mean, m2 };
        }
    }

    /// Moves the mean by `distance` and leaves the spread, unless the mean would not be finite.
    pub fn shift(&mut self, distance: f64) {
        if (self.mean + distance).is_finite() {
            self.mean += distance;
        }
    }

    /// Standard deviation of the population (divided by the count, not by one less); 0 without observations.
    pub fn std(&self) -> f64 {
        (self.m2 / f64::from(self.count.max(1))).sqrt()
    }

    /// The band of [`SIGMAS`] standard deviations around the mean, or `None` without spread.
    pub fn band(&self) -> Option<Band> {
        Band::around(self.mean, SIGMAS * spread(self.std(), self.mean)?)
    }
}

/// The spread `size` of values around `level`, or `None` where it is no more than rounding noise.
///
/// A constant series whose sums do not round to the same constant has no spread, and so no band to be
/// outside of.
pub fn spread(size: f64, level: f64) -> Option<f64> {
    (size > NOISE * level.abs()).then_some(size)
}
