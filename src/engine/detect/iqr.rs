//! Fences around the quartiles of the last 60 observations.
//!
//! Good at skewed series: the band is wider on the side where values spread. Blind where half of the
//! window is one value, to season and to slow drift. No bytes of its own: it reads the [`Window`].
//! Source: J. W. Tukey, "Exploratory Data Analysis", Addison-Wesley, 1977: normal is from Q1 − 1.5 IQR
//! to Q3 + 1.5 IQR.

use super::moments::spread;
use super::summary::Summary;
use super::window::Window;
use super::{Band, Verdict};

/// How many interquartile ranges beyond a quartile the edge of normal lies.
pub const FENCE: f64 = 1.5;

/// The verdict of `window` on `value`, which it has not learned yet: the median is expected.
///
/// `None` below [`MIN_OBSERVATIONS`](super::summary::MIN_OBSERVATIONS), and while both quartiles are equal.
pub fn score(window: &Window, value: f64) -> Option<Verdict> {
    judge(&window.summary()?, value)
}

/// The verdict on `value` of the window whose `summary` it is. `None` while both quartiles are equal.
#[inline]
pub fn judge(summary: &Summary, value: f64) -> Option<Verdict> {
    let &Summary { q1, median, q3, .. } = summary;
    let (low, high) = (q1.abs(), q3.abs());
    let reach = FENCE * spread(q3 - q1, if low > high { low } else { high })?;
    let band = Band { expected: median, lower: q1 - reach, upper: q3 + reach };
    if band.lower.abs() <= f64::MAX && band.upper.abs() <= f64::MAX {
        return Some(Verdict::of(value, band));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(past: &[f64], value: f64, expected: &str) {
        crate::engine::detect::window::check(score, past, value, expected);
    }

    #[test]
    fn judges_by_fences_around_the_quartiles_once_ten_are_known() {
        let steady = [1.0, 2.0, 3.0, 4.0, 5.0].repeat(12);
        check(&steady[..9], 3.0, "unknown");
        check(&steady, 3.0, "0.00 in -1.0..7.0");
        check(&steady, 7.0, "1.00 in -1.0..7.0");
        check(&steady, -5.0, "-2.00 in -1.0..7.0");
    }

    #[test]
    fn the_band_is_wider_on_the_side_where_values_spread() {
        let skewed = [1.0, 1.0, 2.0, 6.0, 6.0].repeat(12);
        check(&skewed, 13.5, "1.00 in -6.5..13.5");
        check(&skewed, -6.5, "-1.00 in -6.5..13.5");
        check(&skewed, 7.75, "0.50 in -6.5..13.5");
    }

    #[test]
    fn is_silent_where_half_of_the_values_are_equal() {
        check(&[0.0, 5.0, 5.0, 5.0, 9.0].repeat(12), 100.0, "unknown");
        check(&[vec![0.3; 30], vec![0.1 + 0.2; 30]].concat(), 9.0, "unknown");
    }

    #[test]
    fn fences_beyond_the_largest_number_are_not_known() {
        check(&[-1e308, 0.0, 1e308].repeat(20), 0.0, "unknown");
    }
}
