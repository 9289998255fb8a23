//! Limits that the user set, on the scale of the other methods.
//!
//! Good at what is known beforehand: a full disk, an agreed latency. Blind to everything between the
//! limits, where the score is 0. No bytes per signal.

use super::{Band, Verdict};
use crate::engine::monitor::StaticLimits;

/// The verdict of `limits` on `value`; `None` where none is set.
///
/// 0 within the limits, edges included. Outside, the score is 1 plus the distance from the crossed limit
/// in units of the limits' own size: their distance where both are set, else the limit's absolute value,
/// and 1 where that is zero. Expected is the nearest value within; a limit that is not set is infinite.
pub fn score(limits: StaticLimits, value: f64) -> Option<Verdict> {
    if limits == StaticLimits::default() {
        return None;
    }
    let lower = limits.lower.unwrap_or(f64::NEG_INFINITY);
    let upper = limits.upper.unwrap_or(f64::INFINITY);
    let (expected, score) = if value > upper {
        (upper, 1.0 + (value - upper) / size(upper, upper - lower))
    } else if value < lower {
        (lower, -1.0 - (lower - value) / size(lower, upper - lower))
    } else {
        (value, 0.0)
    };
    Some(Verdict { score, band: Band { expected, lower, upper } })
}

/// What one unit of excess over `limit` is.
fn size(limit: f64, distance: f64) -> f64 {
    let usable = |size: &f64| *size > 0.0 && size.is_finite();
    Some(distance).filter(usable).or(Some(limit.abs()).filter(usable)).unwrap_or(1.0)
}
