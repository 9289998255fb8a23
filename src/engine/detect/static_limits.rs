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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lower: Option<f64>, upper: Option<f64>, value: f64, expected: &str) {
        let found = match score(StaticLimits { upper, lower }, value) {
            Some(Verdict { score, band }) => {
                format!("{score} of {} in {}..{}", band.expected, band.lower, band.upper)
            }
            None => "unknown".to_owned(),
        };
        assert_eq!(found, expected, "{value} within {lower:?}..{upper:?}");
    }

    #[test]
    fn without_limits_nothing_is_known() {
        check(None, None, 1e300, "unknown");
    }

    #[test]
    fn within_the_limits_the_score_is_zero() {
        check(Some(10.0), Some(20.0), 15.0, "0 of 15 in 10..20");
        check(Some(10.0), Some(20.0), 20.0, "0 of 20 in 10..20");
        check(Some(10.0), None, 10.0, "0 of 10 in 10..inf");
        check(None, Some(20.0), -1e300, &format!("0 of {} in -inf..20", -1e300));
    }

    #[test]
    fn outside_it_grows_with_the_distance_in_units_of_the_limits() {
        check(Some(10.0), Some(20.0), 25.0, "1.5 of 20 in 10..20");
        check(Some(10.0), Some(20.0), 0.0, "-2 of 10 in 10..20");
        check(None, Some(20.0), 30.0, "1.5 of 20 in -inf..20");
        check(Some(-4.0), None, -6.0, "-1.5 of -4 in -4..inf");
        check(None, Some(0.0), 3.0, "4 of 0 in -inf..0");
        check(Some(20.0), Some(20.0), 30.0, "1.5 of 20 in 20..20");
    }
}
