//! Z-score against the mean and standard deviation of the last 60 observations.
//!
//! Good at sudden jumps, on any level. Blind to slow drift, which it follows, to season longer than the
//! window, and for a while after a jump, which widens its band. No bytes of its own: it reads the
//! [`Window`]. Normal is within three standard deviations.

use super::moments::{SIGMAS, spread};
use super::summary::Summary;
use super::window::Window;
use super::{Band, Verdict};

/// The verdict of `window` on `value`, which it has not learned yet.
///
/// `None` below [`MIN_OBSERVATIONS`](super::summary::MIN_OBSERVATIONS), and while all of them are equal.
pub fn score(window: &Window, value: f64) -> Option<Verdict> {
    judge(&window.summary()?, value)
}

/// The verdict on `value` of the window whose `summary` it is. `None` while all observations are equal.
#[inline]
pub fn judge(summary: &Summary, value: f64) -> Option<Verdict> {
    let band = Band::around(summary.mean, SIGMAS * spread(summary.std, summary.mean)?)?;
    Some(Verdict::of(value, band))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(past: &[f64], value: f64, expected: &str) {
        crate::engine::detect::window::check(score, past, value, expected);
    }

    #[test]
    fn judges_by_the_last_sixty_once_ten_are_known() {
        let steady = [4.0, 6.0].repeat(30);
        check(&steady[..9], 5.0, "unknown");
        check(&steady[..10], 8.0, "1.00 in 2.0..8.0");
        check(&[vec![900.0; 200], steady.clone()].concat(), 2.0, "-1.00 in 2.0..8.0");
        check(&[vec![5.0; 60]].concat(), 9.0, "unknown"); // No spread: no band to be outside of.
        check(&[steady, vec![0.1 + 0.2; 30], vec![0.3; 30]].concat(), 9.0, "unknown");
    }

    #[test]
    fn squares_that_overflow_are_not_known_until_they_left() {
        let mut past = [4.0, 6.0].repeat(5);
        past.push(1e308);
        check(&past, 5.0, "unknown");
        past.extend([4.0, 6.0].repeat(30));
        check(&past, 5.0, "0.00 in 2.0..8.0");
    }
}
