//! Cases of Prometheus's `storage/remote/write_handler_test.go` on 1.0, and what its 2.x receivers were seen to do.

use promantis::edge::journal::Entry;
use promantis::series::MetricKind;
use promantis::wire::prompb::v1;
use prost::Message;

use super::{assert_v1, assert_v2};
use crate::support::client::{self, V1, V2};
use crate::support::server::TestServer;

pub(super) fn v1_with(change: impl FnOnce(&mut v1::TimeSeries)) -> Vec<u8> {
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
    check("TestRemoteWriteHandler_V1Message", &v1_with(|_| {}), 204);
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
    let Entry::Request { batch } = &record.entry else { panic!("{record:?}") };
    let told: Vec<_> = batch.metadata().iter().map(|one| (&*one.family, one.kind)).collect();
    assert_eq!(told, [("http_requests", MetricKind::Counter)]);
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
