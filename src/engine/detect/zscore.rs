//! Z-score against the mean and standard deviation of everything learned.
//!
//! Good at a series that keeps its level for ever: the longer it is known, the steadier the judgement.
//! Blind to season, and to whatever is small beside the level shifts of the past, which widen the band
//! for good. 24 bytes per signal. Normal is within three standard deviations; source of the running
//! form: see [`moments`](super::moments).

use serde::{Deserialize, Serialize};

use super::moments::Moments;
use super::{Detector, Verdict};
use crate::series::Sample;

/// Mean and standard deviation of everything learned.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct ZScore {
    moments: Moments,
}

impl From<Moments> for ZScore {
    /// Judges by these.
    fn from(moments: Moments) -> Self {
        Self { moments }
    }
}

impl From<ZScore> for Moments {
    /// What it judges by.
    fn from(zscore: ZScore) -> Self {
        zscore.moments
    }
}

impl Detector for ZScore {
    /// `None` until two observations differ.
    #[inline]
    fn score(&self, sample: Sample) -> Option<Verdict> {
        Some(Verdict::of(sample.value, self.moments.band()?))
    }

    #[inline]
    fn learn(&mut self, sample: Sample) {
        self.moments.learn(sample.value);
    }
}

impl ZScore {
    /// The one value that all observations had, once there were `least` of them.
    pub fn constant(&self, least: usize) -> Option<f64> {
        let known = self.moments.count as usize >= least && self.moments.band().is_none();
        known.then_some(self.moments.mean)
    }

    /// Moves the mean by `distance`: a new level was accepted.
    pub fn shift(&mut self, distance: f64) {
        self.moments.shift(distance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Learns `past` and compares the score of `value`, to two places, and the band.
    fn check(past: &[f64], value: f64, expected: &str) {
        let mut zscore = ZScore::default();
        past.iter().for_each(|&value| zscore.learn(Sample { timestamp: 0, value }));
        let found = match zscore.score(Sample { timestamp: 0, value }) {
            Some(Verdict { score, band }) => format!("{score:.2} in {:.1}..{:.1}", band.lower, band.upper),
            None => "unknown".to_owned(),
        };
        assert_eq!(found, expected, "{value} after {past:?}");
    }

    #[test]
    fn judges_by_distance_from_the_mean_once_two_values_differ() {
        check(&[], 5.0, "unknown");
        check(&[5.0], 9.0, "unknown");
        check(&[5.0; 100], 9.0, "unknown"); // No spread: no band to be outside of.
        check(&[4.0, 6.0], 5.0, "0.00 in 2.0..8.0");
        check(&[4.0, 6.0, 4.0, 6.0], 8.0, "1.00 in 2.0..8.0");
        check(&[4.0, 6.0, 4.0, 6.0], -1.0, "-2.00 in 2.0..8.0");
    }
}
