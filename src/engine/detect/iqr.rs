//! Fences around the quartiles of the last 60 observations.
//!
//! Good at skewed series: the band is wider on the side where values spread. Blind where half of the
//! window is one value, to season and to slow drift. No bytes of its own: it reads the [`Window`].
//! Source: J. W. Tukey, "Exploratory Data Analysis", Addison-Wesley, 1977: normal is from Q1 − 1.5 IQR
//! to Q3 + 1.5 IQR.

use super::moments::spread;
use super::window::{MIN_OBSERVATIONS, Window};
use super::{Band, Verdict};

/// How many interquartile ranges beyond a quartile the edge of normal lies.
pub const FENCE: f64 = 1.5;

/// The verdict of `window` on `value`, which it has not learned yet: the median is expected.
///
/// `None` below [`MIN_OBSERVATIONS`], and while both quartiles are equal.
pub fn score(window: &Window, value: f64) -> Option<Verdict> {
    if window.len() < MIN_OBSERVATIONS {
        return None;
    }
    let (q1, q3) = (window.quantile(0.25)?, window.quantile(0.75)?);
    let reach = FENCE * spread(q3 - q1, q1.abs().max(q3.abs()))?;
    let band = Band { expected: window.median()?, lower: q1 - reach, upper: q3 + reach };
    (band.lower.is_finite() && band.upper.is_finite()).then(|| Verdict::of(value, band))
}
