//! Z-score against the mean and standard deviation of everything learned.
//!
//! Good at a series that keeps its level for ever: the longer it is known, the steadier the judgement.
//! Blind to season, and to whatever is small beside the level shifts of the past, which widen the band
//! for good. 24 bytes per signal. Normal is within three standard deviations; source of the running
//! form: see [`moments`](super::moments).

use super::moments::Moments;
use super::{Detector, Verdict};
use crate::series::Sample;

/// Fewer observations have no standard deviation.
pub const MIN_OBSERVATIONS: u32 = 2;

/// Mean and standard deviation of everything learned.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct ZScore {
    moments: Moments,
}

impl Detector for ZScore {
    /// `None` until [`MIN_OBSERVATIONS`], and while all of them are equal.
    fn score(&self, sample: Sample) -> Option<Verdict> {
        if self.moments.count < MIN_OBSERVATIONS {
            return None;
        }
        Some(Verdict::of(sample.value, self.moments.band()?))
    }

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
