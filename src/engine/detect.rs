//! Detectors: each scores the observations of one signal on the common scale.
//!
//! 0 at the expected value, 1 at the edge of normal, above 1 outside. Score first, then learn: `score`
//! takes `&self`, so the compiler forbids a score that learns. What is not known is `None`, never 0.
//! Threshold, direction and protection from anomalies are not in here; they are decided once, for all
//! methods, in `decide`.

mod grid;
mod gridded;
pub mod iqr;
pub mod mad;
pub mod moments;
mod odd;
mod ranked;
pub mod rolling_zscore;
pub mod short_memory;
pub mod static_limits;
pub mod summary;
mod sums;
mod verdicts;
pub mod window;
pub mod zscore;

use serde::{Deserialize, Serialize};

use crate::series::Sample;
pub(in crate::engine) use verdicts::Verdicts;

/// The methods, in the order in which they are listed and explained.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum DetectorKind {
    /// Distance from the mean of everything seen.
    ZScore,
    /// Distance from the mean of the last 60 observations.
    RollingZScore,
    /// Distance from the median, by the median absolute deviation.
    Mad,
    /// Distance outside the quartiles.
    Iqr,
    /// Distance from what this hour of the week usually has.
    Baseline,
    /// Limits that the user set.
    Static,
}

impl DetectorKind {
    /// All of them, in order.
    pub const ALL: [Self; 6] =
        [Self::ZScore, Self::RollingZScore, Self::Mad, Self::Iqr, Self::Baseline, Self::Static];

    /// The name in configuration and in the label `detector`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ZScore => "zscore",
            Self::RollingZScore => "rolling_zscore",
            Self::Mad => "mad",
            Self::Iqr => "iqr",
            Self::Baseline => "baseline",
            Self::Static => "static",
        }
    }
}

/// What is normal at one instant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Band {
    /// What was expected, within the band.
    pub expected: f64,
    /// Lower edge of normal.
    pub lower: f64,
    /// Upper edge of normal.
    pub upper: f64,
}

impl Band {
    /// A band of `half_width` around `expected`, or `None` where it has no width or is not finite.
    #[inline]
    pub fn around(expected: f64, half_width: f64) -> Option<Self> {
        // What the edge is that is farther from zero, but for its sign: if it is finite, both are.
        let farther = expected.abs() + half_width;
        if half_width > 0.0 && farther <= f64::MAX {
            return Some(Self { expected, lower: expected - half_width, upper: expected + half_width });
        }
        None
    }

    /// Signed score of `value`: 0 at the expected value, 1 at the upper edge, −1 at the lower one.
    #[inline]
    pub fn score(self, value: f64) -> f64 {
        let distance = value - self.expected;
        let width = if distance >= 0.0 { self.upper - self.expected } else { self.expected - self.lower };
        if distance == 0.0 { 0.0 } else { distance / width }
    }
}

/// What one method thinks of one observation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Verdict {
    /// Signed score: the size is on the common scale, the sign says below (−) or above (+).
    pub score: f64,
    /// What it calls normal.
    pub band: Band,
}

impl Verdict {
    /// The verdict of a band on a value.
    #[inline]
    pub fn of(value: f64, band: Band) -> Self {
        Self { score: band.score(value), band }
    }
}

/// Judges the observations of one signal.
pub trait Detector {
    /// Returns the verdict on `sample`, or `None` while too little is known.
    fn score(&self, sample: Sample) -> Option<Verdict>;

    /// Takes `sample` into account from now on. It is finite.
    fn learn(&mut self, sample: Sample);
}
