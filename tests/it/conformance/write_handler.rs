//! Cases of Prometheus's `storage/remote/write_handler_test.go`, and what its 2.x receivers were seen to do.

use promantis::wire::prompb::{v1, v2};
use prost::Message;

use super::{assert_v1, assert_v2};
use crate::support::client::{self, Connection, V1, V2, V2Body};
use crate::support::server::TestServer;

const VERSION: (&str, &str) = ("X-Prometheus-Remote-Write-Version", "2.0.0");

/// Two series with a sample and an exemplar each, two with four histograms each.
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
    }
    for name in ["test_histogram1", "test_histogram2"] {
        let series = body.series(&[("__name__", name)]);
        series.metadata = Some(metadata);
        series.histograms.extend((10..14).map(|timestamp| v2::Histogram { timestamp, ..Default::default() }));
    }
    body
}

const FIXTURE: [u64; 3] = [2, 8, 2];

/// Puts a series with these labels and one sample before the fixture.
fn with_first(labels: &[(&str, &str)], change: impl FnOnce(&mut v2::TimeSeries)) -> V2Body {
    let mut body = fixture();
    let series = body.series(labels);
    series.samples.push(v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 });
    change(series);
    body.request.timeseries.rotate_right(1);
    body
}

/// Changes series `index` of the fixture.
fn with_change(index: usize, change: impl FnOnce(&mut v2::TimeSeries)) -> V2Body {
    let mut body = fixture();
    change(&mut body.request.timeseries[index]);
    body
}

/// TestRemoteWriteHandler_V2Message.
#[test]
fn v2_message() {
    let check = |case: &str, body: &V2Body, status, written, fragment: &str| {
        let server = TestServer::start();
        let reply = client::post(server.addr, V2, &body.encode());
        assert_v2(case, &reply, status, written);
        assert!(reply.body.contains(fragment), "{case}: {reply:?}");
        let samples = server.accepted().iter().map(|(_, samples)| samples.len() as u64).sum::<u64>();
        assert_eq!(samples, written[0], "{case}");
    };
    let refused = |case, body: V2Body, fragment| check(case, &body, 400, FIXTURE, fragment);
    check("All timeseries accepted", &fixture(), 204, FIXTURE, "");
    refused(
        "Partial write; first series with invalid labels (no metric name)",
        with_first(&[("test_metric1", "test_metric1")], |_| {}),
        "no_metric_name: 1 series, 1 samples",
    );
    refused(
        "Partial write; first series with invalid labels (empty metric name)",
        with_first(&[("__name__", "")], |_| {}),
        "no_metric_name",
    );
    let twice = [("__name__", "test_metric1"), ("a", "b"), ("a", "b")];
    refused(
        "Partial write; first series with duplicate labels",
        with_first(&twice, |_| {}),
        "duplicate_label",
    );
    let name = [("__name__", "test_metric1")];
    refused(
        "Partial write; first series with odd number of label refs",
        with_first(&name, |series| series.labels_refs.push(1)),
        "odd_label_refs",
    );
    refused(
        "Partial write; first series with out-of-bounds symbol references",
        with_first(&name, |series| series.labels_refs.extend([1, 999])),
        "label_ref_out_of_range",
    );
    refused(
        "Partial write; TimeSeries with only exemplars (no samples or histograms)",
        with_first(&name, |series| {
            series.samples.clear();
            series.exemplars.push(v2::Exemplar { labels_refs: Vec::new(), value: 1.0, timestamp: 1 });
        }),
        "no_samples: 1 series, 0 samples, 0 histograms, 1 exemplars",
    );
    refused(
        "first series with out-of-bounds metadata references",
        with_first(&name, |series| {
            series.metadata = Some(v2::Metadata { r#type: 1, help_ref: 999, unit_ref: 0 });
        }),
        "metadata_ref_out_of_range",
    );
    check(
        "Partial write; first series have both sample and histogram",
        &with_change(0, |series| series.histograms.push(v2::Histogram::default())),
        400,
        [1, 8, 1],
        "samples_and_histograms",
    );
    check(
        "exemplar with out-of-bounds references costs the exemplar",
        &with_change(0, |series| series.exemplars[0].labels_refs.extend([1, 999])),
        400,
        [2, 8, 1],
        "bad_exemplar",
    );
}

/// TestRemoteWriteHandler_V2Message, its rows on the order of samples. Prometheus answers 400; a tap takes them.
#[test]
fn v2_samples_in_any_order_are_taken() {
    let check = |case: &str, body: &V2Body, written| {
        let server = TestServer::start();
        assert_v2(case, &client::post(server.addr, V2, &body.encode()), 204, written);
    };
    let older = v2::Sample { value: 2.0, timestamp: 0, start_timestamp: 0 };
    let add_older = with_change(0, |series| series.samples.push(older));
    check("Partial write; first series with one OOO sample", &add_older, [3, 8, 2]);
    let add_same = with_change(0, |series| series.samples.extend_from_within(..));
    check("Partial write; first series with one dup sample", &add_same, [3, 8, 2]);
    let older = v2::Histogram { timestamp: 1, ..Default::default() };
    let add_older = with_change(2, |series| series.histograms.push(older));
    check("Partial write; first series with one OOO histogram sample", &add_older, [2, 9, 2]);
    let add_same = with_change(2, |series| series.histograms.extend_from_within(3..));
    check("Partial write; 3rd series with one dup histogram sample", &add_same, [2, 9, 2]);
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

fn v1_with(change: impl FnOnce(&mut v1::TimeSeries)) -> Vec<u8> {
    let mut series = client::v1_series(&[("__name__", "test_metric")], 1.0);
    change(&mut series);
    client::v1_body(vec![series])
}

/// TestRemoteWriteHandler_V1Message, TestOutOfOrderSample_V1Message, TestOutOfOrderExemplar_V1Message,
/// TestOutOfOrderHistogram_V1Message. Prometheus answers 400 to the historic ones; a tap takes them.
#[test]
fn v1_timestamps_are_refused_only_when_far_ahead() {
    let check = |case: &str, body: &[u8], status| {
        let server = TestServer::start();
        assert_v1(case, &client::post(server.addr, V1, body), status);
    };
    check("All timeseries accepted", &v1_with(|_| {}), 204);
    for (case, timestamp, status) in [("historic", 0, 204), ("future", i64::MAX, 400)] {
        check(case, &v1_with(|series| series.samples[0].timestamp = timestamp), status);
        let histogram = v1::Histogram { timestamp, ..Default::default() };
        check(case, &v1_with(|series| series.histograms.push(histogram)), status);
        let exemplar = v1::Exemplar { labels: Vec::new(), value: 1.0, timestamp };
        check(case, &v1_with(|series| series.exemplars.push(exemplar)), 204);
    }
    let ahead = |ms| v1_with(|series| series.samples[0].timestamp = client::now_ms() + ms);
    check("nine minutes ahead", &ahead(540_000), 204);
    check("eleven minutes ahead", &ahead(660_000), 400);
}

/// What Prometheus 2.42 and later answer; where they differ from each other, the later.
#[test]
fn v1_receiver_matrix() {
    let check = |case: &str, series: Vec<v1::TimeSeries>, status, accepted: &[&str]| {
        let server = TestServer::start();
        assert_v1(case, &client::post(server.addr, V1, &client::v1_body(series)), status);
        let taken: Vec<_> = server.accepted().into_iter().map(|(labels, _)| labels).collect();
        assert_eq!(taken, accepted, "{case}");
    };
    let series = |labels: &[(&str, &str)]| client::v1_series(labels, 1.0);
    let (up, down) = ([("__name__", "up")], [("__name__", "down")]);
    check("empty request", vec![], 204, &[]);
    check("no samples", vec![v1::TimeSeries { samples: vec![], ..series(&up) }], 204, &[]);
    check("two TimeSeries with equal labels", vec![series(&up), series(&up)], 204, &["up", "up"]);
    check("unsorted labels", vec![series(&[("z", "1"), up[0], ("a", "2")])], 204, &[r#"up{a="2", z="1"}"#]);
    check("empty label value", vec![series(&[up[0], ("a", "")])], 204, &["up"]);
    check(
        "invalid names",
        vec![series(&[("__name__", "a-b"), ("lab bad", "1")])],
        204,
        &[r#"a-b{lab bad="1"}"#],
    );
    // Prometheus drops these without a word, <https://github.com/prometheus/prometheus/issues/19665>.
    check(
        "duplicate label name",
        vec![series(&[up[0], ("a", "1"), ("a", "2")]), series(&down)],
        400,
        &["down"],
    );
    check("no `__name__`", vec![series(&[("job", "a")]), series(&down)], 400, &["down"]);
    check("no labels at all", vec![series(&[]), series(&down)], 400, &["down"]);
    let mut invalid = series(&up);
    invalid.labels.push(v1::Label { name: "a".into(), value: vec![0xff, 0xfe] });
    check("invalid UTF-8 value", vec![invalid, series(&down)], 400, &["down"]);
}

#[test]
fn v1_metadata_comes_without_samples_and_reaches_the_journal() {
    let server = TestServer::start();
    let metadata = v1::MetricMetadata {
        r#type: v1::metric_metadata::MetricType::Counter.into(),
        metric_family_name: "http_requests".into(),
        help: "help".into(),
        unit: "requests".into(),
    };
    let request = v1::WriteRequest { timeseries: Vec::new(), metadata: vec![metadata] };
    let body = client::snappy(&request.encode_to_vec());
    assert_v1("metadata only", &client::post(server.addr, V1, &body), 204);
    let record = server.journal.read(0).expect("a record");
    let promantis::edge::journal::Entry::Request { batch } = &record.entry else { panic!("{record:?}") };
    assert_eq!(batch.metadata().iter().map(|one| &*one.family).collect::<Vec<_>>(), ["http_requests"]);
}

#[test]
fn a_body_that_is_no_snappy_block_or_no_message_is_answered_400() {
    let framed = b"\xff\x06\x00\x00sNaPpY\x01\x08\x00\x00abcdefgh";
    let message = v1::WriteRequest::default().encode_to_vec();
    let truncated = client::snappy(b"\x0a\x20\x0a");
    let group = client::snappy(b"\x0b\x0c");
    for (case, body) in [
        ("empty body", &b""[..]),
        ("framed", framed),
        ("garbage", b"garbage"),
        ("uncompressed", &message),
        ("truncated message", &truncated),
        ("group", &group),
    ] {
        let server = TestServer::start();
        assert_v1(case, &client::post(server.addr, V1, body), 400);
        assert_v2(case, &client::post(server.addr, V2, body), 400, [0; 3]);
    }
}
