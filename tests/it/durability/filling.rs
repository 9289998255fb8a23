//! A start after a while away, beside a Prometheus that has what was missed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use promantis::config;
use promantis::edge::disk::Folder;
use promantis::edge::journal::{self, Journal, Received, Rules};
use promantis::edge::limits::SyncMode;
use promantis::edge::log::Log;
use promantis::edge::telemetry::Metrics;
use promantis::engine::monitor::Plan;
use promantis::wire::decode::{self, Limits, Protocol};
use promantis::wire::prompb::v1::Label;

use super::{compressed, now, series};
use crate::support::peers::{Peer, Program, free_addr};
use crate::support::receiver::{Receiver, Reply};
use crate::support::stack;
use crate::support::stores::{try_query, write};
use crate::support::teller::{Teller, matrix};
use crate::support::until::until;

const PATIENCE: Duration = Duration::from_secs(30);
const STEP: i64 = 15_000;

/// A sample at `timestamp` of each of two hosts, with a label `cluster` where there is one.
fn load(cluster: &str, timestamp: i64) -> Vec<u8> {
    let series = |host: &str| {
        let mut series = series("load", host, timestamp);
        let cluster = Label { name: "cluster".into(), value: cluster.into() };
        series.labels.extend(Some(cluster).filter(|label| !label.value.is_empty()));
        series
    };
    compressed(vec![series("a"), series("b")])
}

/// A hard limit on what `select` takes: a score and a flag for each sample.
fn monitors(select: &str) -> String {
    format!("monitors: [{{name: one, select: '{select}', detectors: [static], static: {{upper: 5}}}}]\n")
}

/// The journal of a process that judged `bodies` by `monitors` as they came, and ended.
fn leave_behind(folder: &std::path::Path, monitors: &str, bodies: Vec<(i64, Vec<u8>)>) {
    let disk = Folder::make(&folder.join("journal")).expect("it can be made");
    let max_bytes = 64 << 20;
    let opened = Log::open(Arc::new(disk), journal::options(max_bytes, SyncMode::Batch)).expect("it opens");
    let settings = journal::Settings {
        max_bytes,
        waiting_max: 1 << 20,
        sync: SyncMode::Batch,
        readers: 0,
        lasting: true,
    };
    let journal = Journal::over(opened, &settings, Arc::new(Metrics::new())).expect("the disk is well");
    let plan = config::parse(monitors).expect("it is valid").plan;
    let rules = Rules { plan: Plan::clone(&plan), shards: 3, samples_per_request: 2000 };
    journal.append_rules(bodies[0].0, Arc::new(rules)).expect("the disk is well");
    for (timestamp, body) in bodies {
        let raw = snap::raw::Decoder::new().decompress_vec(&body).expect("it is compressed");
        let batch =
            decode::decode(Protocol::V1, raw, &Limits::default(), i64::MAX).expect("it is good").batch;
        let received =
            Received { protocol: Protocol::V1, body: body.into(), latest: i64::MAX, forward: true };
        journal.append_request(timestamp, Instant::now(), &received, batch).expect("there is room");
    }
    journal.sync().expect("the disk is well");
}

/// A Prometheus with the external label `cluster`, where that is not empty, has what was missed.
fn check(cluster: &str, select: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let label = if cluster.is_empty() { String::new() } else { format!("cluster: {cluster}") };
    let global = format!("global: {{external_labels: {{{label}}}}}\n");
    let prometheus = stack::prometheus(dir.path(), free_addr(), &global);
    let start = now() - 600_000;
    let timestamps: Vec<i64> = (0..39).map(|at| start + at * STEP).collect();
    for timestamp in &timestamps {
        let reply = prometheus.post("/api/v1/write", &load("", *timestamp));
        assert_eq!(reply.status, 204, "{reply:?}");
    }
    until(PATIENCE, "Prometheus has all", || {
        let found = try_query(&prometheus, "count_over_time(load[1h])").ok()?;
        (found.first()?.1 == timestamps.len() as f64).then_some(())
    });
    let (judged, missed) = timestamps.split_at(20);
    let came = judged.iter().map(|timestamp| (*timestamp, load(cluster, *timestamp))).collect();
    leave_behind(&dir.path().join("data"), &monitors(select), came);
    let runtime = tokio::runtime::Runtime::new().expect("threads are to be had");
    let target = runtime.block_on(Receiver::start(|_| Reply::Status(204)));
    let config = format!(
        "history: {{url: \"http://{}\", labels: {{{label}}}}}\nremote_write: [{{url: \"{}\"}}]\n{}",
        prometheus.addr,
        target.url(),
        monitors(select)
    );
    let addr = free_addr();
    // Of two hosts, a score and a flag each.
    let wanted = missed.len() * 4;
    for start in 0..2 {
        let mut promantis = stack::promantis(dir.path(), addr, &config);
        assert_eq!(promantis.log().contains("is filled from history"), start == 0, "{}", promantis.log());
        until(PATIENCE, "what was missed is judged", || (target.taken().len() >= wanted).then_some(()));
        promantis.signal("TERM");
        assert!(promantis.ended().success());
    }
    let mut taken: Vec<_> =
        target.taken().into_iter().map(|sample| (sample.series, sample.timestamp)).collect();
    assert_eq!(taken.len(), wanted);
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), wanted, "each sample once");
    assert!(taken.iter().all(|(_, timestamp)| missed.contains(timestamp)));
    let has_cluster = |series: &str| series.contains(",eu,");
    assert!(taken.iter().all(|(series, _)| has_cluster(series) == (cluster == "eu")), "{:?}", taken[0]);
}

#[test]
fn a_gap_is_filled_from_a_prometheus_once_and_judged_once() {
    check("", "load");
}

/// It adds them where it writes and not where it is asked: what was fetched stood beside the real series.
#[test]
fn a_gap_is_filled_for_the_series_that_come_with_external_labels() {
    check("eu", "load");
    check("eu", r#"load{cluster=~"e.", host!=""}"#);
}

/// A history whose first answer has a sample at `timestamp`, and whose second does not come before the sender is
/// dropped. Tells how often it was asked.
fn stuck(timestamp: i64) -> (Teller, Arc<AtomicUsize>, mpsc::Sender<()>) {
    let (free, held) = mpsc::channel();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let teller = Teller::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => matrix(&[(r#""__name__":"load","host":"a""#, &format!("[{},\"9\"]", timestamp / 1000))]),
        _ => {
            // Nobody sends anything: it ends with an error.
            let _ = held.recv();
            matrix(&[])
        }
    });
    (teller, asked, free)
}

/// A signal was looked at only after the start, which may take minutes, and what a start had not filled was never
/// asked for again: what it had filled was what came last.
#[test]
fn a_start_that_is_ended_while_it_fills_a_gap_leaves_it_to_the_next_one() {
    for signal in ["TERM", "KILL"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let last = now() - 1_500_000;
        leave_behind(&dir.path().join("data"), &monitors("load"), vec![(last, load("", last))]);
        let (teller, asked, free) = stuck(last + STEP);
        let config = format!("history: {{url: \"http://{}\"}}\n{}", teller.addr, monitors("load"));
        let addr = free_addr();
        let program = Program { name: env!("CARGO_BIN_EXE_promantis"), addr, ready: "/-/ready" };
        let file = write(dir.path(), "promantis.yml", &config);
        let arguments = ["serve".into(), format!("--config={file}"), format!("--listen={addr}")];
        let mut promantis = Peer::spawn(&program, dir.path(), &arguments);
        until(PATIENCE, "the second part is asked for", || {
            promantis.check();
            (asked.load(Ordering::Relaxed) == 2).then_some(())
        });
        promantis.signal(signal);
        let ended = promantis.ended();
        assert_eq!(ended.success(), signal == "TERM", "{ended:?} {}", promantis.log());
        assert_eq!(promantis.log().contains("stopped before it was ready"), signal == "TERM");

        drop(free);
        let mut promantis = stack::promantis(dir.path(), addr, &config);
        let queries = teller.queries();
        // Three parts of ten minutes, after the two that were asked for before.
        assert_eq!(queries.len(), 5, "{queries:?}");
        assert_eq!(queries[2..4], queries[..2]);
        promantis.signal("TERM");
        assert!(promantis.ended().success());
        let promantis = stack::promantis(dir.path(), addr, &config);
        assert_eq!(teller.queries().len(), 5, "it is filled: {}", promantis.log());
    }
}
