//! A monitor as the engine takes it: checked, complete, immutable.
//!
//! Which series, what is observed of them, how it is judged, what is written back. Configuration makes
//! these; nothing in here can be invalid.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::detect::DetectorKind;
use super::forecast::{Limit, Threshold};
use super::select::Matchers;

/// Everything that configuration tells an engine. Replaced as a whole. In a serialised form,
/// selectors stand as their text, which is read again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// In the order of the file. Their names are unique.
    #[serde(with = "shared")]
    pub monitors: Vec<Arc<Monitor>>,
    /// What bounds the series table.
    pub limits: SeriesLimits,
}

/// Bounds of the series table, for the whole process; each shard takes an equal part, rounded up.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct SeriesLimits {
    /// Monitored series at most.
    pub series_max: usize,
    /// Monitored series admitted per second of arrival time. A minute's worth may come at once: a Prometheus that
    /// starts to send has all its series in one scrape interval.
    pub new_series_per_second: u32,
    /// A series without a sample for so many milliseconds of arrival time is forgotten.
    pub idle_eviction_ms: i64,
}

impl SeriesLimits {
    /// A series without a sample for so long, a quarter of the time to eviction, is taken to have ended: its
    /// derived series end while receivers still take the markers; what was learned stays until eviction.
    pub fn quiet_ms(&self) -> i64 {
        self.idle_eviction_ms / 4
    }
}

/// A named entry of the configuration.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Monitor {
    /// Value of the label `monitor` on everything that is written back.
    pub name: Box<str>,
    /// Which series.
    pub select: Matchers,
    /// What is observed of them.
    pub transform: TransformChoice,
    /// Which methods vote.
    pub detectors: Vec<DetectorKind>,
    /// Hard limits beside what was learned.
    pub static_limits: StaticLimits,
    /// From votes to a flag.
    pub policy: Policy,
    /// What is foreseen.
    pub forecast: Option<ForecastSpec>,
    /// What is written back.
    pub emit: Emit,
}

/// How samples become observations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TransformChoice {
    /// Counters become rates, everything else stays; the type decides.
    Auto,
    /// The value as it is.
    Value,
    /// Increase per second, safe across resets.
    Rate,
}

/// Limits that hold whatever was learned.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct StaticLimits {
    /// Above it is anomalous.
    pub upper: Option<f64>,
    /// Below it is anomalous.
    pub lower: Option<f64>,
}

/// Which side of the band matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Direction {
    /// Only values above.
    Above,
    /// Only values below.
    Below,
    /// Both.
    Both,
}

/// From votes to a flag.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Which side of the band matters.
    pub direction: Direction,
    /// A smaller distance from the expected value is never anomalous. In units of the signal, >= 0.
    pub min_deviation_absolute: f64,
    /// The same as a share of the expected value: 0.1 is 10 %. >= 0.
    pub min_deviation_relative: f64,
    /// How many observations to see before a flag may be raised.
    pub warm_up: u32,
    /// Length of the window in which samples outside the band are counted. 0: each sample decides alone.
    pub trigger_ms: i64,
    /// Share of the window's samples that must be outside, in (0, 1].
    pub fraction: f64,
    /// How long all samples must be inside before the flag falls. 0: the first one inside is enough.
    pub recovery_ms: i64,
    /// After being flagged for so long, the level is taken for the new normal.
    pub accept_after_ms: i64,
}

/// What is foreseen of a signal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ForecastSpec {
    /// How far ahead, ascending, at least one.
    pub horizons: Vec<Horizon>,
    /// Limits whose crossing is foretold.
    pub limits: StaticLimits,
}

impl ForecastSpec {
    /// The limits that are set, the upper one first, and the value of the label `threshold` for each.
    pub fn sides(&self) -> impl Iterator<Item = (Limit, Threshold)> {
        let upper = self.limits.upper.map(|limit| (Limit::Upper(limit), Threshold::Upper));
        let lower = self.limits.lower.map(|limit| (Limit::Lower(limit), Threshold::Lower));
        upper.into_iter().chain(lower)
    }

    /// The farthest horizon, in milliseconds.
    pub fn farthest_ms(&self) -> i64 {
        self.horizons.last().map_or(0, |horizon| horizon.ms)
    }
}

/// How far ahead, and how the user wrote it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Horizon {
    /// Milliseconds, > 0.
    pub ms: i64,
    /// Value of the label `horizon`: `4h`.
    pub label: Box<str>,
}

/// What is written back of a monitor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Emit {
    /// `ml_anomaly_score`.
    pub score: bool,
    /// `ml_anomaly_flag`.
    pub flag: bool,
    /// `ml_anomaly_direction`.
    pub direction: bool,
    /// `ml_detector_score`, one for each method.
    pub detectors: bool,
    /// `ml_expected`, `ml_expected_lower`, `ml_expected_upper`.
    pub expected: bool,
    /// `ml_forecast` and its limits, for each horizon, and the breach series.
    pub forecast: bool,
}

/// Monitors are serialised whole, and shared anew when they come back.
mod shared {
    use super::{Arc, Deserialize, Monitor};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(monitors: &[Arc<Monitor>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(monitors.iter().map(Arc::as_ref))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Arc<Monitor>>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().map(Arc::new).collect())
    }
}
