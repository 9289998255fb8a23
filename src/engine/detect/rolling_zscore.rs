//! Z-score against the mean and standard deviation of the last 60 observations.
//!
//! Good at sudden jumps, on any level. Blind to slow drift, which it follows, to season longer than the
//! window, and for a while after a jump, which widens its band. No bytes of its own: it reads the
//! [`Window`]. Normal is within three standard deviations.

use super::moments::{SIGMAS, spread};
use super::window::{MIN_OBSERVATIONS, Window};
use super::{Band, Verdict};

/// The verdict of `window` on `value`, which it has not learned yet.
///
/// `None` below [`MIN_OBSERVATIONS`], and while all of them are equal.
pub fn score(window: &Window, value: f64) -> Option<Verdict> {
    if window.len() < MIN_OBSERVATIONS {
        return None;
    }
    let (mean, std) = window.mean_and_std();
    let band = Band::around(mean, SIGMAS * spread(std, mean)?)?;
    Some(Verdict::of(value, band))
}
