//! Outages: what was derived while a target was away reaches it afterwards, all of it and in order.
//!
//! The outage is one of event time: hours of samples are pushed as fast as they are taken.

use std::path::Path;
use std::time::{Duration, Instant};

use promantis::edge::clock::unix_ms;
use promantis::wire::prompb::v1::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message;

use super::stage::journal;
use super::support::peers::{Peer, free_addr};
use super::support::stores::{self, try_query};
use super::support::until::until;
use super::support::{alone, pass};

const SERIES: usize = 100;
/// Between two samples of a series, milliseconds.
const STEP: i64 = 15_000;
/// Samples of each series in one request.
const STEPS_PER_REQUEST: usize = 10;
/// What the target takes before it goes away, milliseconds.
const BEFORE: i64 = 2 * 60_000;
/// Samples of each series as soon as it is back.
const AFTER: usize = 3;
/// Derived samples of each sample: score and flag.
const DERIVED: usize = 2;
/// Event time through wall time, while what waited is delivered.
const DRAIN_RATIO: f64 = 20.0;
/// What memory may grow by after the first quarter of the outage, bytes.
const GROWTH: u64 = 64 << 20;
/// What the kernel calls the memory that a process has now.
const RESIDENT: &str = "VmRSS:";
const PATIENCE: Duration = Duration::from_secs(300);

/// A target that goes away.
struct Outage {
    /// How long, in event time.
    minutes: i64,
    /// `max_sample_age` for this target.
    age: &'static str,
    /// Starts the target, as often as need be.
    target: fn(&Path, std::net::SocketAddr) -> Peer,
}

/// promantis, its target, and what was sent.
struct Scene {
    promantis: Peer,
    /// Samples of each series.
    steps: usize,
}

impl Scene {
    fn start(dir: &Path, target: std::net::SocketAddr, age: &str) -> Self {
        let config = format!(
            "journal: {}
remote_write: [{{name: target, url: \"http://{target}/api/v1/write\", max_sample_age: {age}}}]
monitors: [{{name: hard, select: load, detectors: [static], static: {{upper: 5}}}}]\n",
            journal()
        );
        Self { promantis: stores::promantis(dir, free_addr(), &config), steps: 0 }
    }

    /// Has a sample of each series taken for each of `timestamps`, milliseconds.
    fn send(&mut self, timestamps: &[i64]) {
        let reply = self.promantis.post("/api/v1/write", &body(timestamps));
        assert_eq!(reply.status, 204, "{}", reply.body);
        self.steps += timestamps.len();
    }

    /// Waits until all that was sent was judged.
    fn wait_until_judged(&self) {
        self.wait_for("promantis_derived_samples_total");
    }

    /// Waits until the target took all that was derived.
    fn wait_until_taken(&self) {
        self.wait_for("promantis_remote_write_samples_total{target=\"target\"}");
    }

    #[track_caller]
    fn wait_for(&self, metric: &str) {
        let wanted = (self.steps * SERIES * DERIVED) as f64;
        until(PATIENCE, &format!("{metric} is {wanted}"), || {
            (self.promantis.metric(metric) == Some(wanted)).then_some(())
        });
    }

    /// The sum of the counters whose series begins with `name` and has `label`.
    fn sum(&self, name: &str, label: &str) -> f64 {
        let page = self.promantis.get("/metrics").body;
        let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}

/// A request with a sample of each series at each of `timestamps`.
fn body(timestamps: &[i64]) -> Vec<u8> {
    let series = |index: usize| {
        let labels = [("__name__", "load".to_owned()), ("host", format!("h{index}"))];
        TimeSeries {
            labels: labels.map(|(name, value)| Label { name: name.into(), value: value.into() }).into(),
            samples: timestamps.iter().map(|&timestamp| Sample { value: 1.0, timestamp }).collect(),
            ..TimeSeries::default()
        }
    };
    let request = WriteRequest { timeseries: (0..SERIES).map(series).collect(), ..WriteRequest::default() };
    snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).expect("it is small")
}

/// Every step from `from` up to `to`, milliseconds.
fn steps(from: i64, to: i64) -> Vec<i64> {
    (from..to).step_by(STEP as usize).collect()
}

#[track_caller]
fn check(outage: &Outage) {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let addr = free_addr();
    let mut target = (outage.target)(dir.path(), addr);
    let mut scene = Scene::start(dir.path(), addr, outage.age);
    let gone = unix_ms() - outage.minutes * 60_000;
    scene.send(&steps(gone - BEFORE, gone));
    scene.wait_until_taken();
    target.signal("TERM");
    // What it exits with is its own matter.
    let _ended = target.ended();
    send_while_away(&mut scene, gone);
    let back = Instant::now();
    let target = (outage.target)(dir.path(), addr);
    // What is new must not overtake what waits.
    for _ in 0..AFTER {
        scene.send(&[unix_ms()]);
        pass(Duration::from_millis(20));
    }
    scene.wait_until_taken();
    let (drained, minutes) = (back.elapsed(), outage.minutes);
    let ratio = (minutes * 60) as f64 / drained.as_secs_f64();
    println!("{minutes} min of {SERIES} series drained in {drained:.1?}, {ratio:.0} × real time");
    assert_nothing_is_missing(&scene, &target);
    assert!(ratio >= DRAIN_RATIO, "drained at {ratio:.1} × real time");
}

/// Pushes the event time from `gone` until now, and watches the memory.
fn send_while_away(scene: &mut Scene, gone: i64) {
    let times = steps(gone, unix_ms());
    let requests: Vec<_> = times.chunks(STEPS_PER_REQUEST).collect();
    let mut quarter = 0;
    for (sent, timestamps) in requests.iter().enumerate() {
        scene.send(timestamps);
        if sent == requests.len() / 4 {
            quarter = scene.promantis.status_bytes(RESIDENT);
        }
    }
    scene.wait_until_judged();
    let [quarter, end, peak] =
        [quarter, scene.promantis.status_bytes(RESIDENT), scene.promantis.peak_memory()]
            .map(|bytes| bytes >> 10);
    println!("memory: {quarter} KiB after a quarter, {end} KiB at the end, {peak} KiB at most");
    assert!(end.saturating_sub(quarter) <= GROWTH >> 10, "memory grows while the target is away");
}

#[track_caller]
fn assert_nothing_is_missing(scene: &Scene, target: &Peer) {
    for name in ["ml_anomaly_score", "ml_anomaly_flag"] {
        let whole = until(Duration::from_secs(30), &format!("every {name} is there"), || {
            // A Prometheus that compacts just now may have no answer.
            let counts = try_query(target, &format!("count_over_time({name}[26h])")).ok()?;
            let whole = counts.iter().filter(|(_, count)| *count == scene.steps as f64).count();
            (whole == SERIES).then_some(counts.len())
        });
        assert_eq!(whole, SERIES, "no other series of {name}");
    }
    assert_eq!(scene.sum("promantis_derived_dropped_total", ""), 0.0, "nothing was dropped");
    let rejected = scene.sum("promantis_remote_write_requests_total", "outcome=\"rejected\"");
    assert_eq!(rejected, 0.0, "no request was rejected");
}

#[test]
fn outage_replay_prometheus() {
    // Without a window it takes what is at most an hour older than its newest sample.
    let target = |dir: &Path, addr| stores::prometheus(dir, addr, "");
    check(&Outage { minutes: 55, age: "58m", target });
}

#[test]
fn outage_replay_prometheus_window() {
    let target = |dir: &Path, addr| {
        stores::prometheus(dir, addr, "storage: {tsdb: {out_of_order_time_window: 25h}}\n")
    };
    check(&Outage { minutes: 24 * 60, age: "0", target });
}

#[test]
fn outage_replay_victoria() {
    check(&Outage { minutes: 24 * 60, age: "0", target: stores::victoria_metrics });
}
