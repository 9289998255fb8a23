//! Running count, mean and variance of a stream, in 24 bytes.
//!
//! One division and four additions an observation; no old value is kept. Source: B. P. Welford, "Note on
//! a Method for Calculating Corrected Sums of Squares and Products", Technometrics 4(3), 1962, in the
//! form of Knuth, The Art of Computer Programming, volume 2, 4.2.2.

use serde::{Deserialize, Serialize};

use super::Band;

/// How many standard deviations from the mean the edge of normal lies.
pub const SIGMAS: f64 = 3.0;

/// Share of the level below which a spread is rounding noise: 4500 units in the last place.
pub(super) const NOISE: f64 = 1e-12;

/// Count, mean and sum of squared distances from the mean.
///
/// Invariant: mean and squares are finite, and squares not negative, also when read back from bytes.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(try_from = "(u32, f64, f64)", into = "(u32, f64, f64)")]
pub struct Moments {
    /// Observations so far.
    pub count: u32,
    /// Their mean; 0 without any.
    pub mean: f64,
    /// Sum of the squares of their distances from the mean.
    pub m2: f64,
    here: Here,
}

/// One byte that has one value, where there would be padding: so an `Option` of moments takes no more than moments.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
#[repr(u8)]
enum Here {
    #[default]
    Here = 1,
}

impl From<Moments> for (u32, f64, f64) {
    fn from(moments: Moments) -> Self {
        (moments.count, moments.mean, moments.m2)
    }
}

impl TryFrom<(u32, f64, f64)> for Moments {
    type Error = &'static str;

    fn try_from((count, mean, m2): (u32, f64, f64)) -> Result<Self, Self::Error> {
        let known = mean.is_finite() && m2.is_finite() && m2 >= 0.0;
        known.then_some(Self::of(count, mean, m2)).ok_or("moments are not finite, or squares negative")
    }
}

impl Moments {
    /// Those of `count` observations. `mean` and `m2` are finite, `m2` is not negative.
    pub fn of(count: u32, mean: f64, m2: f64) -> Self {
        Self { count, mean, m2, here: Here::Here }
    }

    /// Takes a finite `value` into account.
    ///
    /// Two kinds of values change nothing: those so large that a square overflows (beyond about 1e154),
    /// which would make every later mean unknown, and those after the 4,294,967,295th.
    #[inline]
    pub fn learn(&mut self, value: f64) {
        debug_assert!(value.is_finite(), "transform keeps {value} away from detectors");
        let Some(count) = self.count.checked_add(1) else { return };
        let distance = value - self.mean;
        let mean = self.mean + distance / f64::from(count);
        let m2 = self.m2 + distance * (value - mean);
        // With a mean that is not finite, squares are not either.
        if m2.is_finite() {
            *self = Self::of(count, mean, m2);
        }
    }

    /// Moves the mean by `distance` and leaves the spread, unless the mean would not be finite.
    pub fn shift(&mut self, distance: f64) {
        if (self.mean + distance).is_finite() {
            self.mean += distance;
        }
    }

    /// Standard deviation of the population (divided by the count, not by one less); 0 without observations.
    #[inline]
    pub fn std(&self) -> f64 {
        (self.m2 / f64::from(self.count.max(1))).sqrt()
    }

    /// The band of [`SIGMAS`] standard deviations around the mean, or `None` without spread: before two observations
    /// differ.
    #[inline]
    pub fn band(&self) -> Option<Band> {
        Band::around(self.mean, SIGMAS * spread(self.std(), self.mean)?)
    }
}

/// The spread `size` of values around `level`, or `None` where it is no more than rounding noise.
///
/// A constant series whose sums do not round to the same constant has no spread, and so no band to be
/// outside of.
#[inline]
pub fn spread(size: f64, level: f64) -> Option<f64> {
    if size > NOISE * level.abs() { Some(size) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taught(values: impl IntoIterator<Item = f64>) -> Moments {
        let mut moments = Moments::default();
        values.into_iter().for_each(|value| moments.learn(value));
        moments
    }

    #[test]
    fn mean_and_deviation_are_those_of_the_population() {
        let moments = taught([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((moments.count, moments.mean, moments.std()), (8, 5.0, 2.0));
        assert_eq!((Moments::default().mean, Moments::default().std()), (0.0, 0.0));
    }

    #[test]
    fn moments_that_may_be_missing_take_no_more_room() {
        assert_eq!((size_of::<Moments>(), size_of::<Option<Moments>>()), (24, 24));
    }

    #[test]
    fn moments_that_no_values_have_are_not_read_back() {
        let check = |mean: f64, m2: f64, fits: bool| {
            assert_eq!(Moments::try_from((3, mean, m2)).is_ok(), fits, "{mean} {m2}");
        };
        check(-1.0, 0.0, true);
        check(1.0, -1e-50, false);
        check(1.0, f64::NAN, false);
        check(f64::INFINITY, 1.0, false);
    }

    #[test]
    fn rounding_noise_is_no_spread() {
        assert_eq!(spread(0.0, 0.0), None);
        assert_eq!(spread(f64::NAN, 1.0), None);
        assert_eq!(spread(1e-10, 100.0), None);
        assert_eq!(spread(1e-9, 100.0), Some(1e-9));
        assert_eq!(spread(1e-300, 0.0), Some(1e-300));
        // 0.1 + 0.2 is not 0.3, and a series that has both is still constant.
        let moments = taught((0..100).map(|index| if index % 2 == 0 { 0.3 } else { 0.1 + 0.2 }));
        assert!(moments.std() > 0.0);
        assert_eq!(moments.band(), None);
    }

    #[test]
    fn a_small_spread_survives_a_high_level() {
        let moments = taught((0..1000).map(|index| 1e9 + f64::from(index % 2)));
        assert!((moments.std() - 0.5).abs() < 1e-9, "{}", moments.std());
    }

    #[test]
    fn a_value_whose_square_overflows_is_not_learned() {
        let moments = taught([1.0, 3.0]);
        assert_eq!(taught([1.0, 3.0, 1e200, -1e308, f64::MAX]), moments);
        assert_eq!(moments.count, 2);
    }

    #[test]
    fn learning_ends_where_the_count_does() {
        let mut moments = Moments::of(u32::MAX, 1.0, 1.0);
        moments.learn(9.0);
        assert_eq!(moments, Moments::of(u32::MAX, 1.0, 1.0));
    }
}
