//! What promantis tells of itself: one table of metrics, and the handles to count with.
//!
//! Every name stands once, in [`TABLE`]; README's list is compared with it by a test. No label takes
//! a value that a sender controls.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Name, type, labels and help of one metric of our own, as it is exposed.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// As it is exposed, suffix included.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Label names, comma-separated; empty for none.
    pub labels: &'static str,
    /// One sentence without a full stop.
    pub help: &'static str,
}

macro_rules! table {
    ($($name:literal $kind:literal [$($label:literal),*] $help:literal;)*) => {
        /// All metrics of our own.
        pub const TABLE: &[Description] = &[$(Description {
            name: concat!("promantis_", $name),
            kind: $kind,
            labels: concat!($($label, ","),*),
            help: $help,
        }),*];
    };
}

table! {
    "build_info" "gauge" ["version"] "Constant 1, labelled with the version that runs";
    "config_last_reload_successful" "gauge" [] "Whether the last attempt to load the configuration succeeded";
    "config_last_reload_success_timestamp_seconds" "gauge" [] "When the configuration was last loaded successfully, Unix seconds";
    "connections" "gauge" [] "Open connections";
    "connections_refused_total" "counter" ["reason"] "Connections closed as they came, or because the head of a request was slow";
    "requests_received_total" "counter" ["protocol"] "Remote-write requests whose body was read";
    "requests_refused_total" "counter" ["reason"] "Remote-write requests answered with an error";
    "request_bytes_in_flight" "gauge" [] "Bytes of bodies that are being received and decoded";
    "samples_received_total" "counter" [] "Samples accepted into the journal";
    "samples_refused_total" "counter" ["reason"] "Samples refused with a 400 while the good ones beside them were accepted";
    "samples_judged_total" "counter" [] "Observations that were scored or learned from";
    "samples_skipped_total" "counter" ["reason"] "Accepted samples, or observations of them, that no detector saw";
    "series" "gauge" ["state"] "Series in the table: monitored ones, and ones known to match no monitor";
    "series_evicted_total" "counter" [] "Monitored series forgotten because they were idle";
    "signals_flagged" "gauge" [] "Signals whose flag is raised now";
    "flags_raised_total" "counter" [] "How often a flag went from 0 to 1";
    "level_shifts_accepted_total" "counter" [] "How often a lasting deviation was accepted as the new normal";
    "journal_bytes" "gauge" [] "Bytes of the journal that engines or targets still need, or that a start would";
    "journal_limit_bytes" "gauge" [] "Bytes at which the journal is full and requests are answered 503";
    "journal_waiting_bytes" "gauge" [] "Bytes of decoded requests that wait for an engine";
    "journal_writable" "gauge" [] "Whether the disk takes what is written to the journal; while it does not, requests are answered 503";
    "journal_errors_total" "counter" ["operation"] "Errors of the disk that has the journal";
    "journal_sync_seconds" "histogram" [] "How long it took to make the journal durable";
    "journal_cut_bytes_total" "counter" [] "Bytes that a crash left torn at the journal's end, cut at the start";
    "journal_damaged_records_total" "counter" [] "Places in the journal where records were damaged and passed over";
    "snapshot_last_success_timestamp_seconds" "gauge" [] "When the state of all engines was last saved, Unix seconds";
    "snapshot_bytes" "gauge" [] "Bytes of the newest snapshots of all engines";
    "snapshots_damaged_total" "counter" [] "Snapshots that could not be used at the start";
    "derived_samples_total" "counter" [] "Derived samples made, whether or not there is a target to take them";
    "derived_dropped_total" "counter" ["reason"] "Derived samples that no target will get";
    "remote_write_requests_total" "counter" ["target", "outcome"] "Requests sent, by how the target took them; forwarded ones that were dropped unsent, by the reason";
    "remote_write_samples_total" "counter" ["target"] "Derived samples that the target took";
    "remote_write_pending_bytes" "gauge" ["target"] "Bytes of the journal from the oldest request on that waits for the target";
    "remote_write_lag_seconds" "gauge" ["target"] "How long ago the request that the target is to take next was made";
    "remote_write_up" "gauge" ["target"] "Whether the last request was answered with success";
    "judgement_seconds" "histogram" [] "From the last byte of a request to its scores handed to the sender";
    "scrapes_total" "counter" ["outcome"] "Scrapes of scrape mode";
}

/// Upper edges of the buckets of `judgement_seconds`. Fine around 2 and 10 ms, since from a quiet machine to a busy one
/// that is where it is.
const JUDGEMENT_EDGES: [f64; 26] = [
    0.000_25, 0.000_5, 0.000_75, 0.001, 0.001_25, 0.001_5, 0.002, 0.002_5, 0.003, 0.004, 0.005, 0.006, 0.008,
    0.01, 0.0125, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0,
];

/// Labels of one metric: names are constants, values come from closed sets or from the configuration.
pub type LabelSet = Vec<(&'static str, String)>;

/// Handles to all metrics of our own. Counting is an atomic addition, done per batch.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Whether the last attempt to load the configuration succeeded.
    pub config_last_reload_successful: Gauge,
    /// When that was, Unix seconds.
    pub config_last_reload_success_timestamp: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Connections closed early, by reason.
    pub connections_refused: Family<LabelSet, Counter>,
    /// Requests whose body was read, by protocol.
    pub requests_received: Family<LabelSet, Counter>,
    /// Requests answered with an error, by reason.
    pub requests_refused: Family<LabelSet, Counter>,
    /// Bytes being received and decoded.
    pub request_bytes_in_flight: Gauge,
    /// Samples accepted.
    pub samples_received: Counter,
    /// Samples refused, by reason.
    pub samples_refused: Family<LabelSet, Counter>,
    /// Observations judged.
    pub samples_judged: Counter,
    /// Accepted samples that no detector saw, by reason.
    pub samples_skipped: Family<LabelSet, Counter>,
    /// Series in the table, by state.
    pub series: Family<LabelSet, Gauge>,
    /// Monitored series forgotten.
    pub series_evicted: Counter,
    /// Signals flagged now.
    pub signals_flagged: Gauge,
    /// Flags raised.
    pub flags_raised: Counter,
    /// New normals accepted.
    pub level_shifts_accepted: Counter,
    /// Bytes waiting in the journal.
    pub journal_bytes: Gauge,
    /// Their limit.
    pub journal_limit_bytes: Gauge,
    /// Bytes that wait for an engine.
    pub journal_waiting_bytes: Gauge,
    /// Whether the disk takes what is written.
    pub journal_writable: Gauge,
    /// Errors of the disk, by operation.
    pub journal_errors: Family<LabelSet, Counter>,
    /// How long syncs took.
    pub journal_sync_seconds: Histogram,
    /// Bytes cut at the journal's end.
    pub journal_cut_bytes: Counter,
    /// Damaged places.
    pub journal_damaged_records: Counter,
    /// When the state was last saved, Unix seconds.
    pub snapshot_last_success_timestamp: Gauge,
    /// Bytes of the newest snapshots.
    pub snapshot_bytes: Gauge,
    /// Snapshots that could not be used.
    pub snapshots_damaged: Counter,
    /// Derived samples made.
    pub derived_samples: Counter,
    /// Derived samples lost, by reason.
    pub derived_dropped: Family<LabelSet, Counter>,
    /// Requests sent, by target and outcome.
    pub remote_write_requests: Family<LabelSet, Counter>,
    /// Samples taken, by target.
    pub remote_write_samples: Family<LabelSet, Counter>,
    /// Bytes of the journal that wait, by target.
    pub remote_write_pending_bytes: Family<LabelSet, Gauge>,
    /// Age of the oldest that waits, by target.
    pub remote_write_lag: Family<LabelSet, Gauge<f64, AtomicU64>>,
    /// Whether the last request succeeded, by target.
    pub remote_write_up: Family<LabelSet, Gauge>,
    /// From last byte to scores handed over.
    pub judgement_seconds: Histogram,
    /// Scrapes, by outcome.
    pub scrapes: Family<LabelSet, Counter>,
}

impl Metrics {
    /// Registers every metric of [`TABLE`].
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("promantis");
        let build: Family<LabelSet, Gauge> = family(&mut registry, "build_info");
        build.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        let judgement_seconds = Histogram::new(JUDGEMENT_EDGES);
        registry.register("judgement_seconds", help("judgement_seconds"), judgement_seconds.clone());
        let journal_sync_seconds = Histogram::new(exponential_buckets(0.000_25, 2.0, 14));
        let help_of_syncs = help("journal_sync_seconds");
        registry.register("journal_sync_seconds", help_of_syncs, journal_sync_seconds.clone());
        let r = &mut registry;
        Self {
            config_last_reload_successful: gauge(r, "config_last_reload_successful"),
            config_last_reload_success_timestamp: gauge(r, "config_last_reload_success_timestamp_seconds"),
            connections: gauge(r, "connections"),
            connections_refused: family(r, "connections_refused_total"),
            requests_received: family(r, "requests_received_total"),
            requests_refused: family(r, "requests_refused_total"),
            request_bytes_in_flight: gauge(r, "request_bytes_in_flight"),
            samples_received: counter(r, "samples_received_total"),
            samples_refused: family(r, "samples_refused_total"),
            samples_judged: counter(r, "samples_judged_total"),
            samples_skipped: family(r, "samples_skipped_total"),
            series: family(r, "series"),
            series_evicted: counter(r, "series_evicted_total"),
            signals_flagged: gauge(r, "signals_flagged"),
            flags_raised: counter(r, "flags_raised_total"),
            level_shifts_accepted: counter(r, "level_shifts_accepted_total"),
            journal_bytes: gauge(r, "journal_bytes"),
            journal_limit_bytes: gauge(r, "journal_limit_bytes"),
            journal_waiting_bytes: gauge(r, "journal_waiting_bytes"),
            journal_writable: gauge(r, "journal_writable"),
            journal_errors: family(r, "journal_errors_total"),
            journal_cut_bytes: counter(r, "journal_cut_bytes_total"),
            journal_damaged_records: counter(r, "journal_damaged_records_total"),
            snapshot_last_success_timestamp: gauge(r, "snapshot_last_success_timestamp_seconds"),
            snapshot_bytes: gauge(r, "snapshot_bytes"),
            snapshots_damaged: counter(r, "snapshots_damaged_total"),
            derived_samples: counter(r, "derived_samples_total"),
            derived_dropped: family(r, "derived_dropped_total"),
            remote_write_requests: family(r, "remote_write_requests_total"),
            remote_write_samples: family(r, "remote_write_samples_total"),
            remote_write_pending_bytes: family(r, "remote_write_pending_bytes"),
            remote_write_lag: family(r, "remote_write_lag_seconds"),
            remote_write_up: family(r, "remote_write_up"),
            scrapes: family(r, "scrapes_total"),
            judgement_seconds,
            journal_sync_seconds,
            registry: Mutex::new(registry),
        }
    }

    /// All metrics in OpenMetrics text.
    pub fn render(&self) -> String {
        let mut page = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing to a `String` cannot fail.
        let _ = text::encode(&mut page, &registry);
        page
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds `count` under `label="value"`; adds nothing, not even the series, for 0.
pub fn count(family: &Family<LabelSet, Counter>, label: &'static str, value: &str, count: u64) {
    if count > 0 {
        family.get_or_create(&vec![(label, value.to_owned())]).inc_by(count);
    }
}

fn help(name: &str) -> &'static str {
    let described = TABLE.iter().find(|one| one.name.strip_prefix("promantis_") == Some(name));
    described.expect("every metric stands in the table").help
}

fn register<M: prometheus_client::registry::Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    metric: M,
) -> M {
    let bare = name.strip_suffix("_total").unwrap_or(name);
    registry.register(bare, help(name), metric.clone());
    metric
}

fn gauge(registry: &mut Registry, name: &str) -> Gauge {
    register(registry, name, Gauge::default())
}

fn counter(registry: &mut Registry, name: &str) -> Counter {
    register(registry, name, Counter::default())
}

fn family<M>(registry: &mut Registry, name: &str) -> Family<LabelSet, M>
where
    M: Default + prometheus_client::encoding::EncodeMetric + prometheus_client::metrics::TypedMetric,
    Family<LabelSet, M>: prometheus_client::registry::Metric + Clone,
{
    register(registry, name, Family::default())
}
