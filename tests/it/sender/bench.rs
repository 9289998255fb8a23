//! A journal, the targets that read it, and what they count.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use promantis::config;
use promantis::edge::disk::Folder;
use promantis::edge::journal::{self, Journal, Rules};
use promantis::edge::limits::SyncMode;
use promantis::edge::log::Log;
use promantis::edge::send::{Outgoing, Specs, TargetSpec, Targets};
use promantis::edge::telemetry::Metrics;
use promantis::engine::monitor::Plan;
use promantis::wire::prompb::v1::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message;

use crate::support::receiver::{Arrived, Receiver, Reply};

pub(crate) const OK: Reply = Reply::Status(204);

/// One sample of each series at `timestamp`.
pub(crate) fn request<'a>(series: impl IntoIterator<Item = &'a str>, timestamp: i64) -> Outgoing {
    let one = |name: &str| TimeSeries {
        labels: vec![Label { name: b"__name__".to_vec(), value: name.as_bytes().to_vec() }],
        samples: vec![Sample { value: timestamp as f64, timestamp }],
        ..TimeSeries::default()
    };
    let timeseries: Vec<_> = series.into_iter().map(one).collect();
    let samples = timeseries.len();
    let raw = WriteRequest { timeseries, ..WriteRequest::default() }.encode_to_vec();
    let body = Bytes::from(snap::raw::Encoder::new().compress_vec(&raw).expect("a request is short"));
    Outgoing { body, samples, oldest: timestamp, newest: timestamp }
}

pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("s{index}")).collect()
}

/// `count` series named `s0`, `s1`, …, one sample each.
pub(crate) fn wide(count: usize, timestamp: i64) -> Outgoing {
    request(names(count).iter().map(String::as_str), timestamp)
}

/// A target called `one` that is tried again soon, and is sent each request alone.
pub(crate) fn spec(url: hyper::Uri) -> TargetSpec {
    TargetSpec {
        max_samples_per_send: 1,
        max_sample_age: None,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(10),
        ..TargetSpec::new(url, "one")
    }
}

pub(crate) fn to(remote_write: Vec<TargetSpec>) -> Specs {
    Specs { remote_write, forward: Vec::new() }
}

/// Timestamps of what arrived of `series`, in the order of arrival.
pub(crate) fn timestamps(taken: &[Arrived], series: &str) -> Vec<i64> {
    taken.iter().filter(|sample| sample.series == series).map(|sample| sample.timestamp).collect()
}

/// A journal without engines that ends with its test.
pub(crate) fn in_memory(metrics: &Arc<Metrics>) -> Arc<Journal> {
    Journal::in_memory(256 << 20, 0, Arc::clone(metrics))
}

/// A journal without engines in a folder, as a start of the process finds it.
pub(crate) fn in_folder(path: &Path, metrics: &Arc<Metrics>) -> Arc<Journal> {
    let max_bytes = 16 << 20;
    let folder = Folder::make(path).expect("the folder can be made");
    let opened = Log::open(Arc::new(folder), journal::options(max_bytes, SyncMode::Never)).expect("it opens");
    let settings = journal::Settings {
        max_bytes,
        waiting_max: 1 << 20,
        sync: SyncMode::Never,
        readers: 0,
        lasting: true,
    };
    Arc::new(Journal::over(opened, &settings, Arc::clone(metrics)).expect("it can be written"))
}

/// Puts a number of shards in force; returns the sequence of the record.
pub(crate) fn set_shards(journal: &Journal, shards: u16) -> u64 {
    let plan = Plan::clone(&config::parse("").expect("every default is right").plan);
    let rules = Rules { plan, shards, samples_per_request: 2000 };
    journal.append_rules(0, Arc::new(rules)).expect("the journal is open")
}

/// Targets, what they read and what they count.
pub(crate) struct Sender {
    pub(crate) targets: Targets,
    pub(crate) journal: Arc<Journal>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) causes: AtomicU64,
}

impl Sender {
    /// Sends what one shard derives.
    pub(crate) fn start(specs: Vec<TargetSpec>) -> Self {
        let metrics = Arc::new(Metrics::new());
        Self::over(in_memory(&metrics), to(specs), metrics)
    }

    pub(crate) fn to(receiver: &Receiver) -> Self {
        Self::start(vec![spec(receiver.url())])
    }

    /// Sends from a journal that is there already.
    pub(crate) fn over(journal: Arc<Journal>, specs: Specs, metrics: Arc<Metrics>) -> Self {
        let targets = Targets::start(specs, Arc::clone(&journal), Arc::clone(&metrics));
        Self { targets, causes: AtomicU64::new(journal.end()), journal, metrics }
    }

    pub(crate) fn offer(&self, request: &Outgoing) {
        self.offer_to(0, request);
    }

    /// A request that the shard `stream` derived.
    pub(crate) fn offer_to(&self, stream: u16, request: &Outgoing) {
        let cause = self.causes.fetch_add(1, Ordering::Relaxed);
        assert!(self.journal.offer(stream, cause, 0, request), "the journal takes it");
    }

    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.metrics.derived_dropped.get_or_create(&vec![("reason", reason.to_owned())]).get()
    }

    pub(crate) fn requests(&self, outcome: &str) -> u64 {
        let labels = vec![("target", "one".to_owned()), ("outcome", outcome.to_owned())];
        self.metrics.remote_write_requests.get_or_create(&labels).get()
    }

    pub(crate) fn samples(&self, target: &str) -> u64 {
        self.metrics.remote_write_samples.get_or_create(&vec![("target", target.to_owned())]).get()
    }

    /// Bytes that wait for the target `one`, as they are told.
    pub(crate) fn pending(&self) -> i64 {
        self.targets.tell();
        self.metrics.remote_write_pending_bytes.get_or_create(&vec![("target", "one".to_owned())]).get()
    }

    /// Everything that was offered has been taken or dropped.
    pub(crate) async fn finish(&self) {
        assert_eq!(self.targets.drain(Duration::from_secs(30)).await, 0, "nothing is left");
    }
}
