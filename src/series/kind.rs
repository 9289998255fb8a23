//! What a metric family is said to be.

use serde::{Deserialize, Serialize};

/// Type of a metric family as its metadata states it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum MetricKind {
    /// Nothing was said.
    #[default]
    Unknown,
    /// Only rises, and falls to zero at a reset.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count of observations.
    Histogram,
    /// A histogram whose buckets may fall.
    GaugeHistogram,
    /// Quantiles, sum and count of observations.
    Summary,
    /// Constant 1; the labels are the message.
    Info,
    /// One series per state, 0 or 1.
    StateSet,
}

impl MetricKind {
    /// Reads the number that remote write 1.0 and 2.0 share; unknown numbers say nothing.
    pub fn from_wire(number: u64) -> Self {
        match number {
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::GaugeHistogram,
            5 => Self::Summary,
            6 => Self::Info,
            7 => Self::StateSet,
            _ => Self::Unknown,
        }
    }

    /// The number that remote write 1.0 and 2.0 share.
    pub fn to_wire(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Counter => 1,
            Self::Gauge => 2,
            Self::Histogram => 3,
            Self::GaugeHistogram => 4,
            Self::Summary => 5,
            Self::Info => 6,
            Self::StateSet => 7,
        }
    }
}
