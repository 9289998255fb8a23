//! What answers look like as JSON. An edge of a band that is infinite, because there is no limit on that side, is
//! `null`; a time that is infinite is text, as Prometheus writes it.

use std::collections::VecDeque;

use serde::{Serialize, Serializer};

use crate::edge::recent::{Labels, Point, SignalView};
use crate::edge::telemetry::Metrics;
use crate::engine::forecast::{Breach, Limit};

/// Version and counts.
#[derive(Serialize)]
pub(super) struct Status {
    version: &'static str,
    samples_received: u64,
    samples_judged: u64,
    derived_samples: u64,
    series_monitored: i64,
    signals_flagged: i64,
    flags_raised: u64,
    journal_waiting_bytes: i64,
}

impl Status {
    pub(super) fn of(metrics: &Metrics) -> Self {
        let monitored = metrics.series.get_or_create_owned(&vec![("state", "monitored".to_owned())]);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            samples_received: metrics.samples_received.get(),
            samples_judged: metrics.samples_judged.get(),
            derived_samples: metrics.derived_samples.get(),
            series_monitored: monitored.get(),
            signals_flagged: metrics.signals_flagged.get(),
            flags_raised: metrics.flags_raised.get(),
            journal_waiting_bytes: metrics.journal_waiting_bytes.get(),
        }
    }
}

/// One signal.
#[derive(Serialize)]
pub(super) struct SeriesView<'a> {
    labels: &'a Labels,
    observations: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<i64>,
    last: Option<&'a Point>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    forecast: Vec<ForecastView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    breach: Vec<BreachView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    points: Option<&'a VecDeque<Point>>,
}

#[derive(Serialize)]
struct ForecastView<'a> {
    horizon: &'a str,
    expected: f64,
    lower: f64,
    upper: f64,
}

#[derive(Serialize)]
struct BreachView {
    threshold: &'static str,
    limit: f64,
    #[serde(serialize_with = "finite_or_text")]
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<&'static str>,
}

impl<'a> SeriesView<'a> {
    pub(super) fn of(view: &'a SignalView, points: bool) -> Self {
        Self {
            labels: &view.labels,
            observations: view.observations,
            ended: view.ended,
            last: view.points.back(),
            forecast: forecasts(view),
            breach: breaches(view),
            points: points.then_some(&view.points),
        }
    }
}

fn forecasts(view: &SignalView) -> Vec<ForecastView<'_>> {
    let (Some(line), Some(last), Some(spec)) = (view.line, view.points.back(), &view.monitor.forecast) else {
        return Vec::new();
    };
    let each = spec.horizons.iter().map(|horizon| {
        let band = line.at(last.timestamp.saturating_add(horizon.ms));
        ForecastView {
            horizon: &horizon.label,
            expected: band.expected,
            lower: band.lower,
            upper: band.upper,
        }
    });
    each.collect()
}

fn breaches(view: &SignalView) -> Vec<BreachView> {
    let (Some(line), Some(last), Some(spec)) = (view.line, view.points.back(), &view.monitor.forecast) else {
        return Vec::new();
    };
    let each = spec.sides().map(|(limit, threshold)| {
        let Breach { seconds, confidence } = line.breach(limit, last.timestamp, spec.farthest_ms());
        let (Limit::Upper(value) | Limit::Lower(value)) = limit;
        let confidence = confidence.map(|it| it.name());
        BreachView { threshold: threshold.name(), limit: value, seconds, confidence }
    });
    each.collect()
}

fn finite_or_text<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.is_finite() {
        serializer.serialize_f64(*number)
    } else {
        serializer.serialize_str(if *number > 0.0 { "+Inf" } else { "-Inf" })
    }
}
