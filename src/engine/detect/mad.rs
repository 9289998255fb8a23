//! Modified z-score: distance from the median of the last 60 observations, by their median absolute
//! deviation.
//!
//! Good at outliers among outliers: up to half of the window may be wrong. Blind where more than half
//! of the window is one value (there is no spread then), to season and to slow drift. No bytes of its
//! own: it reads the [`Window`]. Source: B. Iglewicz and D. C. Hoaglin, "How to Detect and Handle
//! Outliers", ASQC, 1993: normal is |0.6745 (x − median) / MAD| up to 3.5.

use super::moments::spread;
use super::window::{MIN_OBSERVATIONS, Window};
use super::{Band, Verdict};

/// Makes the median absolute deviation of normal noise comparable with its standard deviation: the
/// third quartile of the standard normal distribution.
pub const CONSISTENCY: f64 = 0.6745;

/// Modified z-score at the edge of normal.
pub const THRESHOLD: f64 = 3.5;

/// The verdict of `window` on `value`, which it has not learned yet.
///
/// `None` below [`MIN_OBSERVATIONS`], and while the deviation is zero.
pub fn score(window: &Window, value: f64) -> Option<Verdict> {
    if window.len() < MIN_OBSERVATIONS {
        return None;
    }
    let median = window.median()?;
    let mad = spread(window.mad(median)?, median)?;
    let band = Band::around(median, THRESHOLD * mad / CONSISTENCY)?;
    Some(Verdict::of(value, band))
}
