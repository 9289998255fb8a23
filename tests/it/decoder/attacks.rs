//! Small bodies that would be large requests.

use promantis::wire::decode::{LABELS_ABSURD, Limits, Malformed, Protocol, decode};
use promantis::wire::prompb::{v1, v2};
use promantis::wire::snappy::{SnappyError, compress, decompress};
use prost::Message;

const RAW_MAX: usize = 32 << 20;
const LATEST: i64 = 1_700_000_000_000;

fn unpacked(body: &[u8]) -> Vec<u8> {
    decompress(body, RAW_MAX).expect("body within the limits")
}

/// One sample was sent; it is refused for `expected`, or the whole request is as absurd.
fn check(protocol: Protocol, raw: Vec<u8>, expected: &str) {
    match decode(protocol, raw, &Limits::default(), LATEST) {
        Ok(decoded) => assert_eq!(decoded.refused.iter().collect::<Vec<_>>(), [(expected, 1)]),
        Err(malformed) => {
            assert_eq!((malformed, expected), (Malformed::AbsurdSeries { max: 1_000 }, "absurd"));
        }
    }
}

/// Seen against Prometheus and VictoriaMetrics (CVE-2026-42154, GHSA-66jq-2c23-2xh5): 47 bytes that
/// declare 2.5 GB, which both allocated.
#[test]
fn a_declared_length_is_refused_before_it_is_allocated() {
    let hex =
        "97eab4890a170a085f5f6e616d655f5f120b746573745f6d6574726963121009000000000000f03f10d48fc9b2a333";
    let body: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    assert_eq!(body.len(), 47);
    assert!(matches!(decompress(&body, RAW_MAX), Err(SnappyError::TooLarge { declared: 2_704_094_487, .. })));
    assert!(matches!(decompress(&body, usize::MAX), Err(SnappyError::Ratio { declared: 2_704_094_487, .. })));
}

#[test]
fn millions_of_empty_series_end_at_the_limit() {
    for (protocol, entry) in [(Protocol::V1, [0x0a, 0]), (Protocol::V2, [0x2a, 0])] {
        let body = compress(&entry.repeat(8 << 20));
        assert!(body.len() < 1 << 20);
        let outcome = decode(protocol, unpacked(&body), &Limits::default(), LATEST);
        assert_eq!(outcome.unwrap_err(), Malformed::TooMany { what: "series", max: 50_000 });
    }
}

#[test]
fn millions_of_empty_labels_end_where_they_are_absurd() {
    for (count, expected) in [(1_000, "too_many_labels"), (1_001, "absurd"), (8 << 20, "absurd")] {
        let mut series = [0x0a, 0].repeat(count);
        series.extend([0x12, 0]);
        let mut raw = Vec::new();
        prost::encoding::bytes::encode(1, &series, &mut raw);
        check(Protocol::V1, raw, expected);
    }
}

#[test]
fn millions_of_label_references_end_where_they_are_absurd() {
    for (count, expected) in [(2_000, "too_many_labels"), (2_002, "absurd"), (8 << 20, "absurd")] {
        let labels_refs = vec![0; count];
        let series = v2::TimeSeries { labels_refs, samples: vec![Default::default()], ..Default::default() };
        let raw = v2::Request { symbols: vec![vec![]], timeseries: vec![series] }.encode_to_vec();
        check(Protocol::V2, raw, expected);
    }
}

#[test]
fn millions_of_empty_samples_end_at_the_limit() {
    for (protocol, field) in [(Protocol::V1, 1), (Protocol::V2, 5)] {
        let mut raw = Vec::new();
        prost::encoding::bytes::encode(field, &[0x12, 0].repeat(8 << 20), &mut raw);
        let outcome = decode(protocol, raw, &Limits::default(), LATEST);
        assert_eq!(outcome.unwrap_err(), Malformed::TooMany { what: "samples", max: 500_000 });
    }
}

/// A symbol is paid for once on the wire and as often as it is referred to in memory.
#[test]
fn references_to_long_symbols_expand_no_further_than_the_limit() {
    let series = v2::TimeSeries {
        labels_refs: vec![1, 2, 3, 2, 4, 2],
        samples: vec![v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 }],
        ..Default::default()
    };
    let symbols = |bytes| vec![vec![], b"__name__".to_vec(), vec![b'x'; bytes], b"a".to_vec(), b"b".to_vec()];
    let request = |bytes, count| {
        v2::Request { symbols: symbols(bytes), timeseries: vec![series.clone(); count] }.encode_to_vec()
    };
    let check = |count, max: usize| {
        let outcome = decode(Protocol::V2, request(4096, count), &Limits::default(), LATEST);
        assert_eq!(outcome.unwrap_err(), Malformed::TooManyLabelBytes { max });
    };
    let within = decode(Protocol::V2, request(4096, 300), &Limits::default(), LATEST).unwrap();
    assert_eq!(within.written.samples, 300);
    check(1_000, 4 << 20);
    check(50_000, 16 << 20);
    let size = request(4096, 20_000).len();
    assert!((256 << 10..1 << 20).contains(&size), "{size} bytes");
    check(20_000, 16 * size);
    // 1 MiB referred to 150,000 times.
    let refused = decode(Protocol::V2, request(1 << 20, 50_000), &Limits::default(), LATEST).unwrap();
    assert_eq!(refused.refused.iter().collect::<Vec<_>>(), [("label_value_too_long", 50_000)]);
    assert!(refused.batch.memory_bytes() < 1024);
}

/// The first series is taken for an example of the others, which is a guess that a sender can make wrong.
#[test]
fn room_for_labels_is_reserved_within_the_limit_for_labels() {
    let long = "x".repeat(1000);
    let symbols = ["", "__name__", &long, "a"].map(|text| text.as_bytes().to_vec()).to_vec();
    let series = |name| v2::TimeSeries {
        labels_refs: vec![1, name],
        samples: vec![v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 }],
        ..Default::default()
    };
    let timeseries = std::iter::once(series(2)).chain(std::iter::repeat_n(series(3), 1000)).collect();
    let request = v2::Request { symbols, timeseries }.encode_to_vec();
    let limits = Limits { canonical_bytes_max: 20_000, ..Limits::default() };
    let decoded = decode(Protocol::V2, request, &limits, LATEST).expect("it is within the limits");
    assert_eq!(decoded.written.samples, 1001);
    let beside_labels = 1001 * (48 + 16) + 4096;
    let bytes = decoded.batch.memory_bytes();
    assert!(bytes < 40_000 + beside_labels, "{bytes} bytes");
}

#[test]
fn a_series_of_absurdly_many_labels_ends_the_request_and_one_of_many_does_not() {
    let max = Limits::default().labels_max * LABELS_ABSURD;
    for count in [max, max + 1] {
        let labels = vec![v1::Label { name: "a".into(), value: "b".into() }; count];
        let series = v1::TimeSeries { labels, ..v1::TimeSeries::default() };
        let one = v1::WriteRequest { timeseries: vec![series], ..v1::WriteRequest::default() };
        let series = v2::TimeSeries { labels_refs: vec![0; 2 * count], ..v2::TimeSeries::default() };
        let two = v2::Request { symbols: vec![vec![]], timeseries: vec![series] };
        for (protocol, raw) in [(Protocol::V1, one.encode_to_vec()), (Protocol::V2, two.encode_to_vec())] {
            let refused = matches!(
                decode(protocol, raw, &Limits::default(), LATEST),
                Err(Malformed::AbsurdSeries { max: told }) if told == max
            );
            assert_eq!(refused, count > max, "{protocol:?}, {count} labels");
        }
    }
}
