//! Cases of Prometheus's `storage/remote/write_handler_test.go`, but for those on 1.0 alone.

use promantis::edge::journal::Entry;
use promantis::series::MetricKind;
use promantis::wire::prompb::v2::histogram::{Count, ZeroCount};
use promantis::wire::prompb::{v1, v2};
use prost::Message;

use super::write_handler_v1::v1_with;
use super::{assert_v1, assert_v2};
use crate::support::client::{self, Connection, V1, V2, V2Body};
use crate::support::server::{Settings, TestServer};

const VERSION: (&str, &str) = ("X-Prometheus-Remote-Write-Version", "2.0.0");

/// Two series, each with a sample, an exemplar and four histograms, two of integers and two of floats.
fn fixture() -> V2Body {
    let mut body = V2Body::new();
    let (help_ref, unit_ref) = (body.symbol("help text"), body.symbol("unit"));
    let metadata = v2::Metadata { r#type: v2::metadata::MetricType::Gauge.into(), help_ref, unit_ref };
    let exemplar = v2::Exemplar { labels_refs: body.refs(&[("f", "g")]), value: 1.0, timestamp: 1 };
    for name in ["test_metric1", "test_metric2"] {
        let labels = [("__name__", name), ("b", "c"), ("baz", "qux"), ("d", "e"), ("foo", "bar")];
        let series = body.series(&labels);
        series.metadata = Some(metadata);
        series.samples.push(v2::Sample { value: 1.0, timestamp: 10, start_timestamp: 1 });
        series.exemplars.push(exemplar.clone());
        series.histograms.extend([integers(10), integers(11), floats(12), floats(13)]);
    }
    body
}

const FIXTURE: [u64; 3] = [2, 8, 2];

/// The histogram that Prometheus's tests send.
fn integers(timestamp: i64) -> v2::Histogram {
    v2::Histogram {
        count: Some(Count::CountInt(15)),
        sum: 20.0,
        schema: 2,
        zero_threshold: 1e-128,
        zero_count: Some(ZeroCount::ZeroCountInt(0)),
        positive_spans: vec![v2::BucketSpan { offset: 0, length: 1 }],
        positive_deltas: vec![10],
        negative_spans: vec![v2::BucketSpan { offset: 0, length: 1 }],
        negative_deltas: vec![5],
        timestamp,
        start_timestamp: 1,
        ..v2::Histogram::default()
    }
}

fn floats(timestamp: i64) -> v2::Histogram {
    v2::Histogram {
        count: Some(Count::CountFloat(15.0)),
        zero_count: Some(ZeroCount::ZeroCountFloat(0.0)),
        positive_counts: vec![10.0],
        positive_deltas: vec![],
        negative_counts: vec![5.0],
        negative_deltas: vec![],
        ..integers(timestamp)
    }
}

/// Puts a series with these labels and one sample before the fixture.
fn with_first(labels: &[(&str, &str)], change: impl FnOnce(&mut v2::TimeSeries)) -> V2Body {
    let mut body = fixture();
    let series = body.series(labels);
    series.samples.push(v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 });
    change(series);
    body.request.timeseries.rotate_right(1);
    body
}

/// Changes the first series of the fixture.
fn with_change(change: impl FnOnce(&mut v2::TimeSeries)) -> V2Body {
    let mut body = fixture();
    change(&mut body.request.timeseries[0]);
    body
}

/// A case by its name there, what is sent, what is answered, part of the message, and why that is not what
/// Prometheus answers.
type Row = (&'static str, V2Body, (u16, [u64; 3]), &'static str, &'static str);

fn check_rows(rows: Vec<Row>) {
    for (case, body, (status, written), fragment, difference) in rows {
        let case = format!("{case}; difference: {difference:?}");
        let server = TestServer::start();
        let reply = client::post(server.addr, V2, &body.encode());
        assert_v2(&case, &reply, status, written);
        assert!(reply.body.contains(fragment), "{case}: {reply:?}");
        let samples = server.accepted().iter().map(|(_, samples)| samples.len() as u64).sum::<u64>();
        assert_eq!(samples, written[0], "{case}");
    }
}

const SAME: &str = "";

/// TestRemoteWriteHandler_V2Message, the rows on what is good and on labels.
#[test]
fn v2_message() {
    let name = [("__name__", "test_metric1")];
    let twice = [("__name__", "test_metric1"), ("test_metric1", "b"), ("test_metric1", "b")];
    let no_start = with_change(|series| series.samples[0].start_timestamp = 0);
    let (taken, partly) = ((204, FIXTURE), (400, FIXTURE));
    check_rows(vec![
        ("All timeseries accepted/ct_enabled", fixture(), taken, "", SAME),
        ("All timeseries accepted/ct_disabled", no_start, taken, "", SAME),
        (
            "Partial write; first series with invalid labels (no metric name)",
            with_first(&[("test_metric1", "test_metric1")], |_| {}),
            partly,
            "no_metric_name: 1 series, 1 samples",
            SAME,
        ),
        (
            "Partial write; first series with invalid labels (empty metric name)",
            with_first(&[("__name__", "")], |_| {}),
            partly,
            "no_metric_name",
            SAME,
        ),
        (
            "Partial write; first series with duplicate labels",
            with_first(&twice, |_| {}),
            partly,
            "duplicate_label",
            SAME,
        ),
        (
            "Partial write; first series with odd number of label refs",
            with_first(&name, |series| series.labels_refs.push(1)),
            partly,
            "odd_label_refs",
            SAME,
        ),
        (
            "Partial write; first series with out-of-bounds symbol references",
            with_first(&name, |series| series.labels_refs.extend([1, 999])),
            partly,
            "label_ref_out_of_range",
            SAME,
        ),
    ]);
}

/// TestRemoteWriteHandler_V2Message, the rows on what a series holds beside labels.
#[test]
fn v2_message_content() {
    let name = [("__name__", "test_metric1")];
    let only_exemplars = with_first(&name, |series| {
        series.samples.clear();
        series.exemplars.push(v2::Exemplar { labels_refs: Vec::new(), value: 1.0, timestamp: 1 });
    });
    let metadata = Some(v2::Metadata { r#type: 1, help_ref: 999, unit_ref: 0 });
    let partly = (400, FIXTURE);
    check_rows(vec![
        (
            "Partial write; TimeSeries with only exemplars (no samples or histograms)",
            only_exemplars,
            partly,
            "no_samples: 1 series, 0 samples, 0 histograms, 1 exemplars",
            SAME,
        ),
        (
            "Partial write; first series have both sample and histogram",
            with_change(|series| series.histograms.push(floats(1))),
            (204, [2, 9, 2]),
            "",
            "the row is unfinished, its handler looks at the order of histograms alone; a tap takes any order",
        ),
        (
            "no row: first series with out-of-bounds metadata references",
            with_first(&name, |series| series.metadata = metadata),
            partly,
            "metadata_ref_out_of_range",
            SAME,
        ),
        (
            "no row: exemplar with out-of-bounds references",
            with_change(|series| series.exemplars[0].labels_refs.extend([1, 999])),
            (400, [2, 8, 1]),
            "bad_exemplar",
            SAME,
        ),
    ]);
}

/// TestRemoteWriteHandler_V2Message, the rows on the order of samples and on stores beside that of samples.
#[test]
fn v2_message_to_a_tap() {
    const ORDER: &str = "there 400 for that one; a tap takes samples in any order";
    const EXEMPLARS: &str = "there 0 exemplars; a tap has no store of exemplars that could fail";
    const METADATA: &str = "there a store of metadata fails, of which a tap has none";
    let older = v2::Sample { value: 2.0, timestamp: 0, start_timestamp: 0 };
    check_rows(vec![
        (
            "Partial write; first series with one OOO sample",
            with_change(|series| series.samples.push(older)),
            (204, [3, 8, 2]),
            "",
            ORDER,
        ),
        (
            "Partial write; first series with one dup sample",
            with_change(|series| series.samples.extend_from_within(..)),
            (204, [3, 8, 2]),
            "",
            ORDER,
        ),
        (
            "Partial write; first series with one OOO histogram sample",
            with_change(|series| series.histograms.push(floats(1))),
            (204, [2, 9, 2]),
            "",
            ORDER,
        ),
        (
            "Partial write; first series with one dup histogram sample",
            with_change(|series| series.histograms.extend_from_within(3..)),
            (204, [2, 9, 2]),
            "",
            ORDER,
        ),
        (
            "Partial write; skipped exemplar; exemplar storage errs are noop",
            fixture(),
            (204, FIXTURE),
            "",
            EXEMPLARS,
        ),
        (
            "Partial write; skipped metadata; metadata storage errs are noop",
            fixture(),
            (204, FIXTURE),
            "",
            METADATA,
        ),
        (
            "Metadata-wal-records disabled - metadata should not be stored in WAL",
            fixture(),
            (204, FIXTURE),
            "",
            METADATA,
        ),
    ]);
}

/// What cannot be kept is answered 503 with nothing written: the journal is our only store, and full is how
/// it refuses. Prometheus answers 500, which senders take the same way.
#[test]
fn a_store_that_refuses_rolls_all_back() {
    let check = |case: &str, content_type: &str, body: &[u8]| {
        let server = TestServer::start_with(Settings { waiting_bytes: 10, ..Settings::default() });
        let first = client::post(server.addr, V2, &fixture().encode());
        assert_eq!(first.status, 204, "{case}: an empty journal takes a request of any size");
        let reply = client::post(server.addr, content_type, body);
        match content_type {
            V1 => assert_v1(case, &reply, 503),
            _ => assert_v2(case, &reply, 503, [0; 3]),
        }
        assert!(reply.header("retry-after").is_some(), "{case}: {reply:?}");
    };
    let v1 = client::v1_body(vec![client::v1_series(&[("__name__", "up")], 1.0)]);
    check("TestCommitErr_V1Message", V1, &v1);
    let v2 = fixture().encode();
    check("TestCommitErr_V2Message", V2, &v2);
    check("Internal sample append error; rollback triggered", V2, &v2);
    check("Internal commit error; rollback triggered", V2, &v2);
    let partly = with_first(&[("job", "nameless")], |_| {}).encode();
    check("no row: internal error in a request that is bad in part", V2, &partly);
}

/// TestHistogramValidationErrorHandling, its two histograms in both protocols.
#[test]
fn histogram_validation_error_handling() {
    let side = || vec![v2::BucketSpan { offset: 0, length: 1 }];
    let mismatch = v2::Histogram {
        schema: 2,
        zero_threshold: 1e-128,
        zero_count: Some(ZeroCount::ZeroCountInt(1)),
        count: Some(Count::CountInt(10)),
        positive_spans: side(),
        positive_deltas: vec![2],
        negative_spans: side(),
        negative_deltas: vec![3],
        ..integers(1)
    };
    let zeros = v2::Histogram {
        schema: -53,
        count: Some(Count::CountInt(10)),
        zero_count: Some(ZeroCount::ZeroCountInt(1)),
        positive_spans: side(),
        positive_deltas: vec![10],
        custom_values: vec![1.0],
        timestamp: 1,
        ..v2::Histogram::default()
    };
    for (case, histogram) in [("count mismatch", mismatch), ("custom buckets zero count", zeros)] {
        let one = v1::Histogram::decode(&histogram.encode_to_vec()[..]).expect("the same message");
        let body = v1_with(|series| series.histograms.push(one));
        let server = TestServer::start();
        let reply = client::post(server.addr, V1, &body);
        assert_v1(case, &reply, 400);
        assert!(
            reply.body.contains("histogram_invalid: 0 series, 0 samples, 1 histograms"),
            "{case}: {reply:?}"
        );
        let taken: usize = server.accepted().iter().map(|(_, samples)| samples.len()).sum();
        assert_eq!(taken, 1, "{case}: the sample beside it is kept");
        let body = with_change(|series| series.histograms[1] = histogram);
        check_rows(vec![(case, body, (400, [2, 7, 2]), "histogram_invalid", SAME)]);
    }
}

/// TestRemoteWriteHandler_V2Message, the rows on labels for type and unit, and
/// TestRemoteWriteHandler_V2Message_NoDuplicateTypeAndUnitLabels: with its flag on, Prometheus turns metadata
/// into labels. We leave labels as they came, and the type stands beside them.
#[test]
fn v2_type_is_told_beside_the_labels() {
    let metric: &[(&str, &str)] = &[("__name__", "test_metric"), ("foo", "bar")];
    let labelled = [("__name__", "test_metric"), ("__type__", "counter"), ("__unit__", "seconds")];
    let (counter, gauge, unknown) = (MetricKind::Counter, MetricKind::Gauge, MetricKind::Unknown);
    for (case, labels, kind, unit, expected) in [
        (
            "Type and unit labels enabled with counter and bytes unit",
            metric,
            counter,
            "bytes",
            r#"{foo="bar"}"#,
        ),
        (
            "Type and unit labels enabled with gauge and seconds unit",
            metric,
            gauge,
            "seconds",
            r#"{foo="bar"}"#,
        ),
        ("Type and unit labels disabled - no metadata labels", metric, counter, "bytes", r#"{foo="bar"}"#),
        ("Type and unit labels enabled but no metadata", metric, unknown, "", r#"{foo="bar"}"#),
        ("Type and unit labels enabled with only unit (no type)", metric, unknown, "s", r#"{foo="bar"}"#),
        (
            "Labels with __type__ and __unit__ should not be duplicated",
            &labelled,
            counter,
            "seconds",
            r#"{__type__="counter", __unit__="seconds"}"#,
        ),
        (
            "Metadata type and unit override labels",
            &labelled,
            gauge,
            "seconds",
            r#"{__type__="counter", __unit__="seconds"}"#,
        ),
    ] {
        let mut body = V2Body::new();
        let r#type = match kind {
            MetricKind::Counter => v2::metadata::MetricType::Counter,
            MetricKind::Gauge => v2::metadata::MetricType::Gauge,
            _ => v2::metadata::MetricType::Unspecified,
        };
        let metadata = v2::Metadata { r#type: r#type.into(), help_ref: 0, unit_ref: body.symbol(unit) };
        let series = body.series(labels);
        series.metadata = Some(metadata);
        series.samples.push(v2::Sample { value: 1.0, timestamp: 1000, start_timestamp: 0 });
        let server = TestServer::start();
        assert_v2(case, &client::post(server.addr, V2, &body.encode()), 204, [1, 0, 0]);
        let record = server.journal.read(0).expect("a record");
        let Entry::Request { batch } = &record.entry else { panic!("{case}: {record:?}") };
        let taken: Vec<_> = batch.iter().map(|one| (one.labels.to_string(), one.kind)).collect();
        assert_eq!(taken, [(format!("test_metric{expected}"), kind)], "{case}");
    }
}

/// TestRemoteWriteHandlerHeadersHandling_V1Message and …_V2Message.
#[test]
fn headers_handling() {
    let v1 = client::v1_body(vec![client::v1_series(&[("__name__", "up")], 1.0)]);
    let v2 = fixture().encode();
    let check = |case: &str, body: &[u8], headers: &[(&str, &str)], status| {
        let server = TestServer::start();
        let reply = Connection::open(server.addr).post(headers, body);
        assert_eq!(reply.status, status, "{case}: {reply:?}");
        assert_eq!(reply.body.is_empty(), status == 204, "{case}: {reply:?}");
        server.accepted().len()
    };
    let encoding = ("Content-Encoding", "snappy");
    for (message, body, series) in [(V1, &v1, 1), (V2, &v2, 2)] {
        let content_type = ("Content-Type", message);
        let taken = check("correct headers", body, &[content_type, encoding, VERSION], 204);
        assert_eq!(taken, series, "{message}");
        let taken = check("missing remote write version", body, &[content_type, encoding], 204);
        assert_eq!(taken, series, "{message}");
        let taken = check("missing content-encoding", body, &[content_type, VERSION], 204);
        assert_eq!(taken, series, "{message}");
        // Read as remote write 1.0, in which a 2.0 message is empty.
        let taken = check("no headers", body, &[], 204);
        assert_eq!(taken, usize::from(message == V1));
        let taken = check("missing content-type", body, &[encoding, VERSION], 204);
        assert_eq!(taken, usize::from(message == V1));
        let yolo = ("Content-Type", "yolo");
        check("wrong content-type", body, &[yolo, encoding, VERSION], 415);
        let yolo = ("Content-Type", "application/x-protobuf;proto=yolo");
        check("wrong content-type2", body, &[yolo, encoding, VERSION], 415);
        let zstd = ("Content-Encoding", "zstd");
        check("not supported content-encoding", body, &[content_type, zstd, VERSION], 415);
    }
}
