//! Remote-write requests: read as prost and the rules read them, canonical, and counted to the last sample.

use promantis::series::{LabelRun, LabelRunBuf, METRIC_NAME, REPLICA, SeriesHash};
use promantis::wire::decode::{Decoded, Limits, Protocol, decode};
use promantis::wire::snappy::SnappyError;
use promantis::wire::{encode, snappy};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::cost::bounded;
use crate::oracle;

/// Bytes that a request may have decompressed.
const RAW_BYTES_MAX: usize = 32 << 20;

/// The latest timestamp accepted: in the middle of what inputs have.
const LATEST: i64 = 1_700_000_000_000;

/// How many seeds there are with snappy, and as many without.
const SEEDS: usize = 100;

/// Checks a request: as protobuf where the first byte is even, as a snappy block of it where it is odd.
///
/// # Panics
/// Where something does not hold.
pub fn check(protocol: Protocol, input: &[u8]) {
    let Some((form, body)) = input.split_first() else { return };
    let raw = match form % 2 {
        0 => body.to_vec(),
        _ => match decompress(body) {
            Some(raw) => raw,
            None => return,
        },
    };
    let copy = raw.clone();
    if let Ok(decoded) = bounded(|| decode(protocol, copy, &Limits::default(), LATEST)) {
        holds(&decoded);
    }
    if protocol == Protocol::V1 {
        cuts(&raw);
    }
    oracle::agrees(protocol, raw).unwrap_or_else(|difference| panic!("{difference}"));
}

/// Decompresses `body`, if it is a snappy block within bounds, and as the `snap` crate does.
fn decompress(body: &[u8]) -> Option<Vec<u8>> {
    // As where a request was before, so that what is not written would be seen.
    let mut room = vec![0xee; 1 << 16];
    match bounded(|| snappy::decompress_into(body, RAW_BYTES_MAX, &mut room)) {
        Ok(()) => {
            let theirs = snap::raw::Decoder::new().decompress_vec(body);
            assert!(theirs.as_ref() == Ok(&room), "decompressed, and by snap otherwise: {:?}", theirs.err());
            Some(room)
        }
        Err(SnappyError::Corrupt(ours)) => {
            assert_eq!(snap::raw::Decoder::new().decompress_vec(body), Err(ours));
            None
        }
        Err(_) => None,
    }
}

/// What must hold of every request that is accepted, whatever was sent.
fn holds(decoded: &Decoded) {
    let batch = &decoded.batch;
    let counted: usize = batch.iter().map(|series| series.samples.len()).sum();
    assert_eq!(counted, batch.samples().len(), "each sample has one series");
    assert_eq!(counted as u64, decoded.written.samples, "each sample in the batch is written");
    let is_refused = decoded.refused.tallies().next().is_some();
    assert_eq!(is_refused, decoded.refused.message().is_some(), "a refusal is said");
    for series in batch.iter() {
        assert!(!series.samples.is_empty(), "a series has a sample");
        assert!(series.samples.iter().all(|sample| sample.timestamp <= LATEST), "none is too far ahead");
        is_canonical(series.labels);
        assert_eq!(series.hash, SeriesHash::of(series.labels));
    }
}

fn is_canonical(labels: LabelRun<'_>) {
    let anew: LabelRunBuf = labels.iter().map(|label| (label.name, label.value)).collect();
    assert_eq!(*anew.encode(), *labels.as_bytes(), "labels are a canonical run");
    assert!(labels.get(METRIC_NAME).is_some(), "a series has a name");
    assert!(labels.get(REPLICA).is_none(), "both replicas are one series");
}

/// Requests of our own making come back from the disk and are cut: no bytes harm that, and halves are the whole.
fn cuts(raw: &[u8]) {
    let (count, first) = bounded(|| (encode::series_count(raw), encode::describe_first(raw)));
    let Some(count) = count else { return assert_eq!(first, None) };
    assert_eq!(first.is_some(), count > 0);
    let [left, right] = bounded(|| [0..count / 2, count / 2..count].map(|range| encode::slice(raw, range)));
    let halves = [left.expect("within the series"), right.expect("within the series")].concat();
    assert_eq!(encode::slice(raw, 0..count), Some(halves));
}

/// Requests as the property tests make them, sound and damaged, in both forms. Always the same ones.
pub fn seeds(protocol: Protocol) -> impl Iterator<Item = Vec<u8>> {
    let requests = match protocol {
        Protocol::V1 => oracle::a_v1_request().boxed(),
        Protocol::V2 => oracle::a_v2_request().boxed(),
    };
    let mut runner = TestRunner::deterministic();
    let mut make = move |strategy: &dyn Fn() -> proptest::strategy::BoxedStrategy<Vec<u8>>| {
        strategy().new_tree(&mut runner).expect("generators reject nothing").current()
    };
    (0..SEEDS).flat_map(move |number| {
        let raw = match number % 4 {
            3 => make(&|| oracle::damaged(requests.clone()).boxed()),
            _ => make(&|| requests.clone()),
        };
        [[&[0], &raw[..]].concat(), [&[1], &snappy::compress(&raw)[..]].concat()]
    })
}
