//! From samples to observations: gauges stay, counters become rates.
//!
//! Here NaN, infinities, stale markers, repeated and out-of-order samples are met, so that no detector
//! ever sees one.

use serde::{Deserialize, Serialize};

use super::monitor::TransformChoice;
use crate::series::{MetricKind, Sample, is_stale_marker};

/// Suffixes of series that only rise, by the naming conventions of Prometheus and OpenMetrics.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_bucket", "_count", "_sum"];

/// Why an accepted sample was not judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    /// The source ended here.
    Stale,
    /// A NaN that is no stale marker.
    NotANumber,
    /// An infinity, or a rate that is one.
    Infinite,
    /// Not newer than the series' newest: older.
    OutOfOrder,
    /// Not newer than the series' newest: as old.
    Duplicate,
    /// The first sample of a counter: there is nothing yet to compare it with.
    FirstOfCounter,
    /// Its name starts with our prefix: promantis does not judge itself.
    OwnSeries,
    /// No monitor selects its series.
    Unmonitored,
    /// The series is new, and the table is at `limits.series_max`.
    SeriesLimit,
    /// The series is new, and too many were new lately.
    SeriesRate,
    /// Another replica is the one that counts for its cluster.
    Replica,
}

impl Skip {
    /// All reasons, in order.
    pub const ALL: [Self; 11] = [
        Self::Stale,
        Self::NotANumber,
        Self::Infinite,
        Self::OutOfOrder,
        Self::Duplicate,
        Self::FirstOfCounter,
        Self::OwnSeries,
        Self::Unmonitored,
        Self::SeriesLimit,
        Self::SeriesRate,
        Self::Replica,
    ];

    /// Value of the label `reason`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale_marker",
            Self::NotANumber => "nan",
            Self::Infinite => "infinite",
            Self::OutOfOrder => "out_of_order",
            Self::Duplicate => "duplicate",
            Self::FirstOfCounter => "first_of_counter",
            Self::OwnSeries => "own_series",
            Self::Unmonitored => "unmonitored",
            Self::SeriesLimit => "series_limit",
            Self::SeriesRate => "new_series_rate",
            Self::Replica => "replica",
        }
    }
}

/// What can be observed of a sample on its own and of the newest timestamp before it.
///
/// # Errors
/// The reason why it is not judged.
pub fn admit(sample: Sample, newest: Option<i64>) -> Result<(), Skip> {
    match newest {
        Some(newest) if sample.timestamp < newest => return Err(Skip::OutOfOrder),
        Some(newest) if sample.timestamp == newest => return Err(Skip::Duplicate),
        _ => {}
    }
    if sample.value.is_finite() {
        Ok(())
    } else if is_stale_marker(sample.value) {
        Err(Skip::Stale)
    } else if sample.value.is_nan() {
        Err(Skip::NotANumber)
    } else {
        Err(Skip::Infinite)
    }
}

/// How one signal is drawn from its series: as it is, or as increase per second since the sample before, which is
/// kept. 16 bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct Transform(Sample);

/// What a transform is serialised as.
#[derive(Serialize, Deserialize)]
enum Saved {
    Value,
    Rate(Option<Sample>),
}

impl From<Transform> for Saved {
    fn from(transform: Transform) -> Self {
        if transform.is_value() { Self::Value } else { Self::Rate(transform.previous()) }
    }
}

impl TryFrom<Saved> for Transform {
    type Error = &'static str;

    fn try_from(saved: Saved) -> Result<Self, Self::Error> {
        match saved {
            Saved::Value => Ok(Self::VALUE),
            Saved::Rate(None) => Ok(Self::RATE),
            Saved::Rate(Some(sample)) if sample.value.is_finite() => Ok(Self(sample)),
            Saved::Rate(Some(_)) => Err("a counter is not finite"),
        }
    }
}

impl Transform {
    // No sample that is kept has NaN.
    const VALUE: Self = Self(Sample { timestamp: 0, value: f64::NAN });
    const RATE: Self = Self(Sample { timestamp: 1, value: f64::NAN });

    /// Chooses for a series called `name` whose family is said to be `kind`.
    pub fn choose(choice: TransformChoice, name: &str, kind: MetricKind) -> Self {
        let rises = match choice {
            TransformChoice::Value => false,
            TransformChoice::Rate => true,
            TransformChoice::Auto => only_rises(name, kind),
        };
        if rises { Self::RATE } else { Self::VALUE }
    }

    /// Value of the label `stat`; `None` where it is `value` and not written.
    pub const fn stat(&self) -> Option<&'static str> {
        if self.is_value() { None } else { Some("rate") }
    }

    /// Observes a sample that [`admit`] let through.
    ///
    /// A counter that fell was reset: it counted from 0 again, so its value is the increase
    /// (Prometheus does the same in `increase`).
    ///
    /// # Errors
    /// [`Skip::FirstOfCounter`], or [`Skip::Infinite`] where the difference overflows.
    pub fn observe(&mut self, sample: Sample) -> Result<Sample, Skip> {
        if self.is_value() {
            return Ok(sample);
        }
        let before = self.previous();
        self.0 = sample;
        let Some(before) = before else { return Err(Skip::FirstOfCounter) };
        let increase = if sample.value < before.value { sample.value } else { sample.value - before.value };
        let seconds = sample.timestamp.abs_diff(before.timestamp) as f64 / 1000.0;
        let rate = increase / seconds;
        if rate.is_finite() { Ok(Sample { value: rate, ..sample }) } else { Err(Skip::Infinite) }
    }

    /// Forgets the sample before: the source ended.
    pub fn end(&mut self) {
        if !self.is_value() {
            *self = Self::RATE;
        }
    }

    const fn is_value(&self) -> bool {
        self.0.value.is_nan() && self.0.timestamp == Self::VALUE.0.timestamp
    }

    fn previous(&self) -> Option<Sample> {
        (!self.0.value.is_nan()).then_some(self.0)
    }
}

/// Whether a series only rises: what metadata says, else what its suffix says.
pub fn only_rises(name: &str, kind: MetricKind) -> bool {
    let suffix = COUNTER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    match kind {
        MetricKind::Counter => true,
        MetricKind::Histogram | MetricKind::Summary | MetricKind::Unknown => suffix,
        MetricKind::Gauge | MetricKind::GaugeHistogram | MetricKind::Info | MetricKind::StateSet => false,
    }
}

/// Names under which metadata may know the family of a series: its own, then without a suffix.
pub fn family_names(name: &str) -> impl Iterator<Item = &str> {
    let stripped = COUNTER_SUFFIXES.iter().filter_map(move |suffix| name.strip_suffix(suffix));
    std::iter::once(name).chain(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::stale_marker;

    fn rates(points: &[(i64, f64)]) -> Vec<Result<f64, Skip>> {
        let mut transform = Transform::RATE;
        points
            .iter()
            .map(|&(timestamp, value)| transform.observe(Sample { timestamp, value }).map(|s| s.value))
            .collect()
    }

    #[test]
    fn a_rate_is_the_increase_per_second_and_survives_a_reset() {
        let seen = rates(&[(0, 10.0), (10_000, 40.0), (20_000, 5.0), (30_000, 5.0)]);
        assert_eq!(seen, [Err(Skip::FirstOfCounter), Ok(3.0), Ok(0.5), Ok(0.0)]);
    }

    #[test]
    fn a_rate_that_overflows_is_skipped() {
        assert_eq!(rates(&[(0, -f64::MAX), (1, f64::MAX)])[1], Err(Skip::Infinite));
        assert_eq!(rates(&[(i64::MIN, 0.0), (i64::MAX, 0.0)])[1], Ok(0.0));
    }

    #[test]
    fn only_newer_finite_samples_are_admitted() {
        let admit = |timestamp, value| super::admit(Sample { timestamp, value }, Some(100));
        assert_eq!(admit(101, 1.0), Ok(()));
        assert_eq!(admit(100, 1.0), Err(Skip::Duplicate));
        assert_eq!(admit(99, 1.0), Err(Skip::OutOfOrder));
        assert_eq!(admit(101, stale_marker()), Err(Skip::Stale));
        assert_eq!(admit(101, f64::NAN), Err(Skip::NotANumber));
        assert_eq!(admit(101, f64::NEG_INFINITY), Err(Skip::Infinite));
        assert_eq!(admit(99, stale_marker()), Err(Skip::OutOfOrder));
    }

    #[test]
    fn metadata_outranks_the_suffix() {
        assert!(only_rises("jobs_total", MetricKind::Unknown));
        assert!(!only_rises("jobs_total", MetricKind::Gauge));
        assert!(only_rises("jobs", MetricKind::Counter));
        assert!(only_rises("latency_seconds_bucket", MetricKind::Histogram));
        assert!(!only_rises("latency_seconds", MetricKind::Summary));
        assert!(!only_rises("temperature", MetricKind::Unknown));
    }

    #[test]
    fn a_series_finds_its_family_with_and_without_a_suffix() {
        assert_eq!(family_names("a_total").collect::<Vec<_>>(), ["a_total", "a"]);
    }
}
