//! What requests come to: refusals with their counts, attacks, and the way back out.

mod any_histogram;
mod attacks;
mod forms;
mod histograms;
mod oracle;

use promantis::series::{MetricKind, STALE_NAN_BITS};
use promantis::wire::decode::{Decoded, Limits, Malformed, Protocol, decode};
use promantis::wire::encode;
use promantis::wire::prompb::{v1, v2};
use prost::Message;

/// Ten minutes after some arrival.
const LATEST: i64 = 1_700_000_600_000;
const NOW: i64 = 1_700_000_000_000;

/// Accepted series, counts `samples/histograms/exemplars`, then each refusal with
/// `series:samples/histograms/exemplars`.
fn show(decoded: &Decoded) -> String {
    let mut text = String::new();
    for series in decoded.batch.iter() {
        text += &format!("{} x{}, ", series.labels, series.samples.len());
    }
    let written = decoded.written;
    text += &format!("{}/{}/{}", written.samples, written.histograms, written.exemplars);
    for (refusal, tally) in decoded.refused.tallies() {
        let name = refusal.name();
        let counts = format!("{}:{}/{}/{}", tally.series, tally.samples, tally.histograms, tally.exemplars);
        text += &format!(", {name} {counts}");
    }
    text
}

fn series_v1(labels: &[(&str, &str)], timestamps: &[i64]) -> v1::TimeSeries {
    let label = |&(name, value): &(&str, &str)| v1::Label { name: name.into(), value: value.into() };
    v1::TimeSeries {
        labels: labels.iter().map(label).collect(),
        samples: timestamps.iter().map(|&timestamp| v1::Sample { value: 1.0, timestamp }).collect(),
        ..Default::default()
    }
}

fn series_v2(labels_refs: &[u32], samples: usize) -> v2::TimeSeries {
    let sample = v2::Sample { value: 1.0, timestamp: NOW, start_timestamp: 1 };
    v2::TimeSeries { labels_refs: labels_refs.into(), samples: vec![sample; samples], ..Default::default() }
}

fn decode_v1(timeseries: Vec<v1::TimeSeries>) -> Decoded {
    let raw = v1::WriteRequest { timeseries, metadata: vec![] }.encode_to_vec();
    decode(Protocol::V1, raw, &Limits::default(), LATEST).expect("a request within the limits")
}

/// The series `up` that every table puts behind its own shows that the rest of a request is kept.
fn check_v1(timeseries: v1::TimeSeries, expected: &str, message: &str) {
    let decoded = decode_v1(vec![timeseries, series_v1(&[("__name__", "up")], &[NOW])]);
    assert_eq!(show(&decoded), expected);
    let said = decoded.refused.message().unwrap_or_default();
    assert!(said.contains(message), "{said}");
}

const SYMBOLS: [&str; 8] = ["", "__name__", "up", "job", "api", "b", "c", "seconds"];

fn decode_v2(timeseries: Vec<v2::TimeSeries>) -> Decoded {
    let symbols = SYMBOLS.map(|symbol| symbol.as_bytes().to_vec()).to_vec();
    let raw = v2::Request { symbols, timeseries }.encode_to_vec();
    decode(Protocol::V2, raw, &Limits::default(), LATEST).expect("a request within the limits")
}

fn check_v2(timeseries: v2::TimeSeries, expected: &str) {
    let decoded = decode_v2(vec![timeseries, series_v2(&[1, 2], 1)]);
    assert_eq!(show(&decoded), expected);
}

#[test]
fn bad_labels_cost_their_series_and_say_why() {
    let long = "x".repeat(5000);
    let names: Vec<_> = (0..40).map(|index| format!("l{index:02}")).collect();
    let wide: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    let wide = [&[("__name__", "up")], &wide[..]].concat();
    let many: Vec<_> = ["a", "b", "c", "d", "__name__"].map(|name| (name, &long[..4000])).to_vec();
    let check = |labels: &[(&str, &str)], reason: &str, message: &str| {
        let expected = format!("up x1, 1/0/0, {reason} 1:2/0/0");
        check_v1(series_v1(labels, &[NOW, NOW]), &expected, message);
    };
    check(&[], "no_metric_name", "series 1 {} has no label `__name__`");
    check(&[("job", "api")], "no_metric_name", r#"{job="api"} has no label `__name__`"#);
    check(&[("__name__", "")], "no_metric_name", "no label `__name__`");
    check(&[("__name__", "up"), ("", "x")], "empty_label_name", "a label without a name");
    check(&[("__name__", "up"), ("", "")], "empty_label_name", "a label without a name");
    check(&[("a", "1"), ("__name__", "up"), ("a", "2")], "duplicate_label", "two labels of one name");
    check(&[("__name__", "up"), ("a", ""), ("a", "2")], "duplicate_label", "two labels of one name");
    check(&wide, "too_many_labels", "`labels_max` of 40");
    check(&[("__name__", "up"), (&long[..257], "x")], "label_name_too_long", "`name_bytes_max` of 256 bytes");
    check(&[("__name__", &long[..4097])], "label_value_too_long", "`value_bytes_max` of 4096 bytes");
    check(&many, "labels_too_long", "`label_bytes_max` of 16384 bytes");
}

#[test]
fn bytes_that_are_no_text_cost_their_series() {
    for bad in [
        v1::Label { name: b"a\xff".into(), value: b"x".into() },
        v1::Label { name: b"a".into(), value: b"\xc3\x28".into() },
    ] {
        let mut series = series_v1(&[("__name__", "up")], &[NOW]);
        series.labels.push(bad);
        check_v1(series, "up x1, 1/0/0, invalid_utf8 1:1/0/0", "a label that is not UTF-8");
    }
}

#[test]
fn labels_are_kept_as_prometheus_keeps_them() {
    let check = |labels: &[(&str, &str)], expected: &str| {
        check_v1(series_v1(labels, &[NOW]), &format!("{expected} x1, up x1, 2/0/0"), "");
    };
    check(&[("job", "api"), ("__name__", "up"), ("A", "1")], r#"up{A="1", job="api"}"#); // Unsorted.
    check(&[("__name__", "up"), ("empty", ""), ("job", "api")], r#"up{job="api"}"#);
    check(&[("__name__", "http.server dur/ation"), ("a.b c", "é")], r#"http.server dur/ation{a.b c="é"}"#);
    check(&[("__name__", "up"), ("long", &"v".repeat(100))], &format!(r#"up{{long="{}"}}"#, "v".repeat(100)));
}

#[test]
fn too_far_ahead_costs_the_sample_only() {
    let up = [("__name__", "a")];
    check_v1(
        series_v1(&up, &[NOW, LATEST, LATEST + 1, i64::MAX, i64::MIN]),
        "a x3, up x1, 4/0/0, too_far_ahead 0:2/0/0",
        "a has a timestamp later than 1700000600000 ms",
    );
    check_v1(series_v1(&up, &[i64::MAX]), "up x1, 1/0/0, too_far_ahead 0:1/0/0", "");
}

#[test]
fn a_series_of_1_0_without_samples_contributes_nothing() {
    check_v1(series_v1(&[("__name__", "a")], &[]), "up x1, 1/0/0", "");
    check_v1(series_v1(&[], &[]), "up x1, 1/0/0", "");
}

#[test]
fn odd_values_pass_bit_by_bit() {
    let odd =
        [STALE_NAN_BITS, f64::NAN.to_bits(), f64::INFINITY.to_bits(), (-0.0_f64).to_bits(), u64::MAX, 1];
    let mut series = series_v1(&[("__name__", "up")], &[]);
    series.samples = odd.map(|bits| v1::Sample { value: f64::from_bits(bits), timestamp: NOW }).to_vec();
    // Zeros, whatever their sign, are left out by prost and read as 0.
    let expected = odd.map(|bits| if bits == 1 << 63 { 0 } else { bits });
    let decoded = decode_v1(vec![series]);
    assert_eq!(decoded.batch.samples().iter().map(|s| s.value.to_bits()).collect::<Vec<_>>(), expected);
}

#[test]
fn histograms_and_exemplars_are_counted_and_bounded() {
    let histogram = |buckets: u32, timestamp| v1::Histogram {
        positive_spans: vec![v1::BucketSpan { offset: 0, length: buckets }],
        positive_deltas: vec![0; buckets as usize],
        timestamp,
        ..Default::default()
    };
    let mut series = series_v1(&[("__name__", "h")], &[]);
    series.histograms = vec![histogram(1000, NOW), histogram(1001, NOW), histogram(1, LATEST + 1)];
    series.exemplars = vec![v1::Exemplar::default(); 2];
    check_v1(
        series.clone(),
        "up x1, 1/1/2, too_far_ahead 0:0/1/0, too_many_buckets 0:0/1/0",
        "h has a timestamp later",
    );
    series.labels.clear();
    check_v1(series, "up x1, 1/0/0, no_metric_name 1:0/3/2", "no label `__name__`");
}

#[test]
fn metadata_of_1_0_names_families() {
    let said = |name: &[u8], r#type| v1::MetricMetadata {
        r#type,
        metric_family_name: name.into(),
        help: b"\xff".into(),
        ..Default::default()
    };
    let metadata = vec![said(b"a_total", 1), said(b"", 1), said(b"\xff", 1), said(b"g", 2), said(b"n", 99)];
    let raw = v1::WriteRequest { timeseries: vec![], metadata }.encode_to_vec();
    let decoded = decode(Protocol::V1, raw, &Limits::default(), LATEST).unwrap();
    let families: Vec<_> = decoded.batch.metadata().iter().map(|said| (&*said.family, said.kind)).collect();
    assert_eq!(
        families,
        [("a_total", MetricKind::Counter), ("g", MetricKind::Gauge), ("n", MetricKind::Unknown)]
    );
    assert!(decoded.refused.is_empty());
}

/// The cases of Prometheus's own table for partial writes (`storage/remote/write_handler_test.go`).
#[test]
fn bad_references_cost_their_series() {
    let check = |refs: &[u32], expected: &str| check_v2(series_v2(refs, 1), expected);
    check(&[1, 2], "up x1, up x1, 2/0/0");
    check(&[3, 4, 1, 2], r#"up{job="api"} x1, up x1, 2/0/0"#);
    check(&[1, 2, 3, 0], "up x1, up x1, 2/0/0");
    check(&[], "up x1, 1/0/0, no_metric_name 1:1/0/0");
    check(&[2, 2], "up x1, 1/0/0, no_metric_name 1:1/0/0");
    check(&[1, 0], "up x1, 1/0/0, no_metric_name 1:1/0/0");
    check(&[1, 2, 2, 2, 2, 2], "up x1, 1/0/0, duplicate_label 1:1/0/0");
    check(&[1, 2, 3], "up x1, 1/0/0, odd_label_refs 1:1/0/0");
    check(&[1, 999], "up x1, 1/0/0, label_ref_out_of_range 1:1/0/0");
    check(&[1, u32::MAX], "up x1, 1/0/0, label_ref_out_of_range 1:1/0/0");
    check(&[1, 2, 0, 4], "up x1, 1/0/0, empty_label_name 1:1/0/0");
    check(&[1; 82], "up x1, 1/0/0, too_many_labels 1:1/0/0");
}

#[test]
fn a_series_of_2_0_has_samples_or_histograms() {
    let exemplars = vec![v2::Exemplar::default()];
    let histograms = vec![v2::Histogram { timestamp: NOW, ..Default::default() }; 2];
    let empty = series_v2(&[1, 4], 0);
    let only_exemplars = v2::TimeSeries { exemplars: exemplars.clone(), ..empty.clone() };
    let only_histograms = v2::TimeSeries { exemplars, histograms: histograms.clone(), ..empty.clone() };
    let both = v2::TimeSeries { histograms, ..series_v2(&[1, 4], 3) };
    check_v2(empty, "up x1, 1/0/0, no_samples 1:0/0/0");
    check_v2(only_exemplars, "up x1, 1/0/0, no_samples 1:0/0/1");
    check_v2(only_histograms, "up x1, 1/2/1");
    check_v2(both, "api x3, up x1, 4/2/0"); // Prometheus takes it, whatever the specification says.
}

/// The names of a family are compared once; its members are judged each for itself all the same.
#[test]
fn members_of_a_family_are_judged_one_by_one() {
    let members: [&[u32]; 7] = [
        &[1, 2, 5, 3, 6, 7],
        &[1, 4, 5, 6, 6, 3],
        &[1, 4, 5, 0, 6, 3],
        &[1, 0, 5, 6, 6, 3],
        &[6, 6, 1, 2, 5, 3],
        &[1, 2, 5],
        &[1, 2, 5, 3, 6, 4],
    ];
    let decoded = decode_v2(members.map(|refs| series_v2(refs, 1)).to_vec());
    assert_eq!(
        show(&decoded),
        r#"up{b="job", c="seconds"} x1, api{b="c", c="job"} x1, api{c="job"} x1, up{b="job", c="c"} x1, up{b="job", c="api"} x1, 5/0/0, no_metric_name 1:1/0/0, odd_label_refs 1:1/0/0"#
    );
}

#[test]
fn texts_of_any_length_are_copied_whole() {
    for length in [1, 15, 16, 17, 31, 32, 33, 63, 120, 121, 127, 128, 200] {
        let text = "é".repeat(length / 2) + if length % 2 == 1 { "x" } else { "" };
        let symbols =
            ["", "__name__", "up", &text[..length.min(200)]].map(|text| text.as_bytes().to_vec()).to_vec();
        let raw = v2::Request { symbols, timeseries: vec![series_v2(&[1, 2, 3, 3], 1)] }.encode_to_vec();
        let decoded = decode(Protocol::V2, raw, &Limits::default(), LATEST).unwrap();
        let expected =
            promantis::series::LabelRunBuf::from_iter([("__name__", "up"), (&text, &text)]).encode();
        assert_eq!(decoded.batch.iter().next().unwrap().labels.as_bytes(), &*expected, "{length}");
    }
}

/// Offsets have 32 bits, and that bounds what is built where the limit does not.
#[test]
fn a_limit_beyond_offsets_is_no_limit_to_small_requests() {
    let limits = Limits { canonical_bytes_max: usize::MAX, ..Limits::default() };
    let unsorted = series_v1(&[("a", "1"), ("__name__", "up")], &[NOW]);
    let raw = v1::WriteRequest { timeseries: vec![unsorted], metadata: vec![] }.encode_to_vec();
    assert_eq!(show(&decode(Protocol::V1, raw, &limits, LATEST).unwrap()), r#"up{a="1"} x1, 1/0/0"#);
}

#[test]
fn bad_references_of_an_exemplar_cost_the_exemplar_only() {
    let exemplar = |refs: &[u32]| v2::Exemplar { labels_refs: refs.into(), value: 1.0, timestamp: NOW };
    let exemplars = [&[][..], &[3, 4], &[3], &[3, 99]].map(exemplar).to_vec();
    let series = v2::TimeSeries { exemplars, ..series_v2(&[1, 4], 1) };
    check_v2(series, "api x1, up x1, 2/0/2, bad_exemplar 0:0/0/2");
}

#[test]
fn metadata_of_2_0_gives_the_type() {
    let check = |r#type, help_ref, unit_ref, expected| {
        let metadata = Some(v2::Metadata { r#type, help_ref, unit_ref });
        let decoded = decode_v2(vec![v2::TimeSeries { metadata, ..series_v2(&[1, 4], 1) }]);
        assert_eq!((show(&decoded), decoded.batch.iter().next().map(|series| series.kind)), expected);
    };
    let refused = || ("0/0/0, metadata_ref_out_of_range 1:1/0/0".to_owned(), None);
    check(1, 0, 7, ("api x1, 1/0/0".to_owned(), Some(MetricKind::Counter)));
    check(5, 4, 0, ("api x1, 1/0/0".to_owned(), Some(MetricKind::Summary)));
    check(1, 0, 8, refused());
    check(1, 8, 0, refused());
}

/// One numbering in both protocols, and unknown numbers say nothing.
#[test]
fn the_type_reaches_the_batch_by_either_protocol() {
    let kinds = [
        MetricKind::Unknown,
        MetricKind::Counter,
        MetricKind::Gauge,
        MetricKind::Histogram,
        MetricKind::GaugeHistogram,
        MetricKind::Summary,
        MetricKind::Info,
        MetricKind::StateSet,
        MetricKind::Unknown,
    ];
    for (r#type, kind) in (0..).zip(kinds) {
        let family = v1::MetricMetadata { r#type, metric_family_name: b"up".into(), ..Default::default() };
        let raw = v1::WriteRequest { timeseries: vec![], metadata: vec![family] }.encode_to_vec();
        let told = decode(Protocol::V1, raw, &Limits::default(), LATEST).unwrap();
        assert_eq!(told.batch.metadata()[0].kind, kind, "1.0: {}", r#type);
        let metadata = Some(v2::Metadata { r#type, help_ref: 0, unit_ref: 0 });
        let told = decode_v2(vec![v2::TimeSeries { metadata, ..series_v2(&[1, 2], 1) }]);
        assert_eq!(told.batch.iter().next().unwrap().kind, kind, "2.0: {}", r#type);
    }
}

#[test]
fn equal_labels_have_equal_hashes_whatever_brought_them() {
    let sorted = series_v1(&[("__name__", "up"), ("job", "api")], &[NOW]);
    let unsorted = series_v1(&[("job", "api"), ("b", ""), ("__name__", "up")], &[NOW]);
    let one = decode_v1(vec![sorted, unsorted]);
    let two = decode_v2(vec![series_v2(&[1, 2, 3, 4], 1), series_v2(&[3, 4, 5, 0, 1, 2], 1)]);
    let hashes: Vec<_> = one.batch.iter().chain(two.batch.iter()).map(|series| series.hash).collect();
    assert_eq!(hashes, vec![hashes[0]; 4]);
}

#[test]
fn labels_are_made_canonical_however_they_are_spelled() {
    let spellings: [&[u8]; 6] = [
        b"\x0a\x0e\x0a\x08__name__\x12\x02up\x12\x00", // As prost writes it.
        b"\x0a\x8e\x00\x0a\x08__name__\x12\x02up\x12\x00", // A length in two bytes where one would do.
        b"\x0a\x0e\x12\x02up\x0a\x08__name__\x12\x00", // The value before the name.
        b"\x12\x00\x0a\x0e\x0a\x08__name__\x12\x02up", // The label behind the sample.
        b"\x0a\x13\x0a\x08__name__\x12\x01x\x18\x01\x12\x02up\x12\x00", // A second value, and an unknown field.
        b"\x0a\x0e\x0a\x08__name__\x12\x02up\x0a\x05\x0a\x01z\x12\x00\x12\x00", // An empty value, said aloud.
    ];
    for series in spellings {
        let mut raw = Vec::new();
        prost::encoding::bytes::encode(1, &series.to_vec(), &mut raw);
        let decoded = decode(Protocol::V1, raw, &Limits::default(), LATEST).unwrap();
        let runs: Vec<_> = decoded.batch.iter().map(|series| series.labels.as_bytes().to_vec()).collect();
        assert_eq!(runs, [b"\x0a\x0e\x0a\x08__name__\x12\x02up"], "{series:x?}");
    }
}

#[test]
fn canonical_labels_stay_where_they_stand() {
    let raw = v1::WriteRequest {
        timeseries: vec![series_v1(&[("__name__", "up"), ("job", "é")], &[NOW])],
        metadata: vec![],
    }
    .encode_to_vec();
    let decoded = decode(Protocol::V1, raw.clone(), &Limits::default(), LATEST).unwrap();
    assert_eq!(decoded.batch.bytes(), raw);
}

#[test]
fn unknown_fields_are_skipped_and_groups_refused() {
    let up =
        v1::WriteRequest { timeseries: vec![series_v1(&[("__name__", "up")], &[NOW])], metadata: vec![] }
            .encode_to_vec();
    let check = |extra: &[u8], expected: &str| {
        let raw = [&up, extra].concat();
        let outcome = match decode(Protocol::V1, raw, &Limits::default(), LATEST) {
            Ok(decoded) => show(&decoded),
            Err(malformed) => malformed.to_string(),
        };
        assert!(outcome.starts_with(expected), "{outcome}");
    };
    check(b"\x10\x01\x7d\x00\x00\x00\x00\x79\x00\x00\x00\x00\x00\x00\x00\x00\x32\x01x", "up x1, 1/0/0");
    check(b"\x23\x24", "protobuf: group at byte");
    check(b"\x08\x01", "protobuf: field 1 at byte");
    check(b"\x0a\x05x", "protobuf: message ends");
}

#[test]
fn a_request_over_a_limit_is_refused_whole() {
    let limits = Limits {
        series_max: 2,
        samples_max: 3,
        symbols_max: SYMBOLS.len(),
        exemplars_max: 1,
        metadata_max: 1,
        canonical_bytes_max: 40,
        ..Limits::default()
    };
    let check = |protocol, raw: Vec<u8>, expected: &str| {
        let outcome = match decode(protocol, raw, &limits, LATEST) {
            Ok(decoded) => show(&decoded),
            Err(malformed) => malformed.to_string(),
        };
        assert!(outcome.starts_with(expected), "{outcome}");
    };
    let one = |timeseries: &[v1::TimeSeries], metadata| {
        v1::WriteRequest { timeseries: timeseries.into(), metadata: vec![Default::default(); metadata] }
            .encode_to_vec()
    };
    let up = |samples| series_v1(&[("__name__", "up")], &vec![NOW; samples]);
    check(Protocol::V1, one(&[up(1), up(2)], 1), "up x1, up x2, 3/0/0");
    check(Protocol::V1, one(&[up(0), up(0), up(0)], 0), "request has more series than `series_max` of 2");
    check(Protocol::V1, one(&[up(2), up(2)], 0), "request has more samples than `samples_max` of 3");
    check(Protocol::V1, one(&[], 2), "request has more metadata than `metadata_max` of 1");
    let exemplars = v1::TimeSeries { exemplars: vec![Default::default(); 2], ..up(1) };
    check(Protocol::V1, one(&[exemplars], 0), "request has more exemplars than `exemplars_max` of 1");
    let histograms = v1::TimeSeries { histograms: vec![Default::default(); 2], ..up(2) };
    check(Protocol::V1, one(&[histograms], 0), "request has more samples than `samples_max` of 3");
    let unsorted = series_v1(&[("a", "1"), ("__name__", "up")], &[NOW]);
    check(Protocol::V1, one(std::slice::from_ref(&unsorted), 0), r#"up{a="1"} x1"#);
    check(Protocol::V1, one(&[unsorted.clone(), unsorted], 0), "labels of the request expand beyond");

    let two = |symbols: &[&str], series: &[v2::TimeSeries]| {
        let symbols = symbols.iter().map(|symbol| symbol.as_bytes().to_vec()).collect();
        v2::Request { symbols, timeseries: series.into() }.encode_to_vec()
    };
    let up = |samples| series_v2(&[1, 2], samples);
    check(Protocol::V2, two(&SYMBOLS, &[up(1), up(2)]), "up x1, up x2, 3/0/0");
    check(Protocol::V2, two(&[""; 9], &[]), "request has more symbols than `symbols_max` of 8");
    check(Protocol::V2, two(&SYMBOLS, &[up(0), up(0), up(0)]), "request has more series than `series_max`");
    check(Protocol::V2, two(&SYMBOLS, &[up(4)]), "request has more samples than `samples_max` of 3");
    let long = series_v2(&[1, 2, 3, 4], 1);
    check(Protocol::V2, two(&SYMBOLS, &[long.clone(), long]), "labels of the request expand beyond");
}

/// A decoder that kept state after a failure poisoned later, valid requests (GreptimeDB, #8913).
#[test]
fn a_failed_request_leaves_nothing_behind() {
    let good =
        v1::WriteRequest { timeseries: vec![series_v1(&[("__name__", "up")], &[NOW])], metadata: vec![] }
            .encode_to_vec();
    let torn = [&good, &good[..good.len() - 1]].concat();
    let before = show(&decode(Protocol::V1, good.clone(), &Limits::default(), LATEST).unwrap());
    let failed = decode(Protocol::V1, torn, &Limits::default(), LATEST).unwrap_err();
    assert!(matches!(failed, Malformed::Syntax(_)));
    assert_eq!(show(&decode(Protocol::V1, good, &Limits::default(), LATEST).unwrap()), before);
}

#[test]
fn symbols_may_follow_the_series_that_use_them() {
    let series = v2::Request { symbols: vec![], timeseries: vec![series_v2(&[1, 2], 1)] }.encode_to_vec();
    let symbols = SYMBOLS.map(|symbol| symbol.as_bytes().to_vec()).to_vec();
    let symbols = v2::Request { symbols, timeseries: vec![] }.encode_to_vec();
    let decoded = decode(Protocol::V2, [series, symbols].concat(), &Limits::default(), LATEST).unwrap();
    assert_eq!(show(&decoded), "up x1, 1/0/0");
}

/// Up to release candidate 3 the created timestamp was field 6 of the series.
#[test]
fn a_created_timestamp_of_an_older_draft_is_skipped() {
    let mut series = series_v2(&[1, 2], 1).encode_to_vec();
    series.extend([0x30, 0x80, 0x01]);
    let symbols = SYMBOLS.map(|symbol| symbol.as_bytes().to_vec()).to_vec();
    let mut raw = v2::Request { symbols, timeseries: vec![] }.encode_to_vec();
    prost::encoding::bytes::encode(5, &series, &mut raw);
    assert_eq!(show(&decode(Protocol::V2, raw, &Limits::default(), LATEST).unwrap()), "up x1, 1/0/0");
}

/// What we send, we would accept unchanged.
#[test]
fn what_is_built_decodes_to_itself() {
    let mut builder = encode::RequestBuilder::new();
    let run = b"\x0a\x0e\x0a\x08__name__\x12\x02up";
    for (timestamp, value) in [(NOW, 1.5), (0, 0.0), (-1, -0.0), (i64::MIN, f64::MAX)] {
        builder.push(&[&run[..3], &run[3..]], promantis::series::Sample { timestamp, value });
    }
    let raw = builder.finish();
    let decoded = decode(Protocol::V1, raw.clone(), &Limits::default(), LATEST).unwrap();
    assert_eq!(decoded.batch.bytes(), raw);
    let samples: Vec<_> = decoded.batch.samples().iter().map(|s| (s.timestamp, s.value.to_bits())).collect();
    let expected = [(NOW, 1.5_f64), (0, 0.0), (-1, -0.0), (i64::MIN, f64::MAX)];
    assert_eq!(samples, expected.map(|(timestamp, value)| (timestamp, value.to_bits())));
}
