//! Modified z-score: distance from the median of the last 60 observations, by their median absolute
//! deviation.
//!
//! Good at outliers among outliers: up to half of the window may be wrong. Blind where more than half
//! of the window is one value (there is no spread then), to season and to slow drift. No bytes of its
//! own: it reads the [`Window`]. Source: B. Iglewicz and D. C. Hoaglin, "How to Detect and Handle
//! Outliers", ASQC, 1993: normal is |0.6745 (x − median) / MAD| up to 3.5.

use super::moments::spread;
use super::summary::Summary;
use super::window::Window;
use super::{Band, Verdict};

/// Makes the median absolute deviation of normal noise comparable with its standard deviation: the
/// third quartile of the standard normal distribution.
pub const CONSISTENCY: f64 = 0.6745;

/// Modified z-score at the edge of normal.
pub const THRESHOLD: f64 = 3.5;

/// The verdict of `window` on `value`, which it has not learned yet.
///
/// `None` below [`MIN_OBSERVATIONS`](super::summary::MIN_OBSERVATIONS), and while the deviation is zero.
pub fn score(window: &Window, value: f64) -> Option<Verdict> {
    judge(&window.summary()?, value)
}

/// The verdict on `value` of the window whose `summary` it is. `None` while the deviation is zero.
#[inline]
pub fn judge(summary: &Summary, value: f64) -> Option<Verdict> {
    let mad = spread(summary.mad, summary.median)?;
    let band = Band::around(summary.median, THRESHOLD * mad / CONSISTENCY)?;
    Some(Verdict::of(value, band))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(past: &[f64], value: f64, expected: &str) {
        crate::engine::detect::window::check(score, past, value, expected);
    }

    #[test]
    fn judges_by_the_median_deviation_once_ten_are_known() {
        let steady = [4.0, 5.0, 6.0].repeat(20);
        check(&steady[..9], 5.0, "unknown");
        check(&steady, 5.0, "0.00 in -0.2..10.2");
        check(&steady, 5.0 + 3.5 / 0.6745, "1.00 in -0.2..10.2");
        check(&steady, 5.0 - 7.0 / 0.6745, "-2.00 in -0.2..10.2");
    }

    #[test]
    fn a_third_of_wrong_values_does_not_hide_the_next_one() {
        let past = [4.0, 5.0, 5.0, 6.0, 900.0, 900.0].repeat(10);
        check(&past, 900.0, "172.38 in 0.3..10.7");
    }

    #[test]
    fn is_silent_where_most_values_are_equal() {
        check(&[5.0, 5.0, 9.0].repeat(20), 9.0, "unknown");
        check(&[vec![0.3; 30], vec![0.1 + 0.2; 30]].concat(), 9.0, "unknown");
    }
}
