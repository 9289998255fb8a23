//! Bodies that brought other receivers to gigabytes, against the real program.

use std::time::{Duration, Instant};

use crate::support::peers::{Peer, free_addr};
use crate::support::stack;

/// An attack is answered within this.
const ANSWER_WITHIN: Duration = Duration::from_millis(100);
/// An attack costs no more memory than this, bytes.
const MEMORY_MAX: u64 = 32 << 20;
/// The machine may be busy with other tests: one answer of so many has to be quick.
const TRIES: usize = 20;

/// A fresh process answers `body` with 400, quickly, in little memory, and lives on.
#[track_caller]
fn check(body: &[u8], complaint: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let promantis = stack::promantis(dir.path(), free_addr(), "");
    let before = promantis.peak_memory();
    let first = attack(&promantis, body, complaint);
    let grown = promantis.peak_memory() - before;
    assert!(grown < MEMORY_MAX, "peak memory grew by {grown} bytes");
    let quickest = (0..TRIES).map(|_| attack(&promantis, body, complaint)).fold(first, Duration::min);
    assert!(quickest < ANSWER_WITHIN, "answered after {quickest:?}");
    // The allocator keeps a heap for each thread that answers; beyond them, attacks do not add up.
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let grown = promantis.peak_memory() - before;
    assert!(grown < threads * MEMORY_MAX, "peak memory grew by {grown} bytes in {TRIES} attacks");

    let good = snap::raw::Encoder::new().compress_vec(&one_sample()).expect("it is small");
    assert_eq!(promantis.post("/api/v1/write", &good).status, 204, "it serves afterwards");
    assert_eq!(promantis.metric("promantis_samples_received_total"), Some(1.0));
}

#[track_caller]
fn attack(promantis: &Peer, body: &[u8], complaint: &str) -> Duration {
    let start = Instant::now();
    let reply = promantis.post("/api/v1/write", body);
    let time = start.elapsed();
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(reply.body.contains(complaint), "{reply:?}");
    time
}

/// A request with one sample of `up`, stamped 1 s after the epoch.
fn one_sample() -> Vec<u8> {
    use promantis::wire::prompb::v1::{Label, Sample, TimeSeries, WriteRequest};
    use prost::Message;
    let label = Label { name: b"__name__".to_vec(), value: b"up".to_vec() };
    let sample = Sample { value: 1.0, timestamp: 1000 };
    let series = TimeSeries { labels: vec![label], samples: vec![sample], ..TimeSeries::default() };
    WriteRequest { timeseries: vec![series], ..WriteRequest::default() }.encode_to_vec()
}

#[test]
fn a_small_body_that_declares_gigabytes_costs_nothing() {
    // From the report of the flaw in other receivers, prometheus/client_golang issue 1917.
    let hex =
        "97eab4890a170a085f5f6e616d655f5f120b746573745f6d6574726963121009000000000000f03f10d48fc9b2a333";
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    let body: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
    assert_eq!(body.len(), 47);
    check(&body, "2704094487");
}

#[test]
fn eight_million_empty_series_cost_little() {
    let raw = [0x0a, 0x00].repeat(8 << 20);
    let body = snap::raw::Encoder::new().compress_vec(&raw).expect("it is below 4 GiB");
    assert!(body.len() < 800_000, "{} bytes", body.len());
    check(&body, "series");
}
