//! Disks that fail, folders that are taken, limits that are reached: what the whole makes of them.

mod disks;
mod filling;
mod limits;
mod moving;

use promantis::edge::clock::unix_ms;
use promantis::wire::prompb::v1::{Label, Sample, TimeSeries, WriteRequest};
use prost::Message;

/// A request with one sample at `timestamp` of each of `hosts`.
fn load(hosts: &[&str], timestamp: i64) -> Vec<u8> {
    let series = |host: &&str| series("load", host, timestamp);
    compressed(hosts.iter().map(series).collect())
}

fn series(name: &str, host: &str, timestamp: i64) -> TimeSeries {
    let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
    TimeSeries {
        labels: vec![label("__name__", name), label("host", host)],
        samples: vec![Sample { value: 1.0, timestamp }],
        ..TimeSeries::default()
    }
}

fn compressed(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    let raw = WriteRequest { timeseries, ..WriteRequest::default() }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&raw).expect("it is small")
}

/// Milliseconds since the Unix epoch, whole seconds.
fn now() -> i64 {
    unix_ms() / 1000 * 1000
}

/// A hard limit knows its verdict from the first sample on: a score and a flag for each sample.
const MONITORS: &str = "monitors: [{name: one, select: load, detectors: [static], static: {upper: 5}}]";
