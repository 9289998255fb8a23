//! Receiver cases of <https://github.com/prometheus/compliance>, directory `remotewrite/receiver`.
//!
//! One test for each of its functions, which is named above it. As there, labels stand in no order.

use promantis::series::stale_marker;
use promantis::wire::prompb::v2::{self, histogram::Count, histogram::ZeroCount, metadata::MetricType};

use super::{assert_v1, assert_v2};
use crate::support::client::{self, Connection, Reply, V1, V2, V2Body};
use crate::support::server::TestServer;

type Labels<'a> = &'a [(&'a str, &'a str)];

/// What a series holds.
#[derive(Clone, Copy)]
enum Content {
    Sample(f64),
    Histogram(Buckets),
    Nothing,
}

/// Which buckets a histogram has.
#[derive(Clone, Copy, Default)]
struct Buckets {
    positive: bool,
    negative: bool,
    zero: bool,
    custom: bool,
    /// Says a count that it does not have.
    miscounted: bool,
}

const ALL: Buckets = Buckets { positive: true, negative: true, zero: true, custom: false, miscounted: false };

/// One series of a request.
#[derive(Clone, Copy)]
struct One<'a> {
    labels: Labels<'a>,
    content: Content,
    exemplar: Option<Labels<'a>>,
    kind: MetricType,
    start_ms_ago: i64,
}

fn one(labels: Labels<'_>, content: Content) -> One<'_> {
    One { labels, content, exemplar: None, kind: MetricType::Unspecified, start_ms_ago: 0 }
}

impl<'a> One<'a> {
    fn exemplar(self, labels: Labels<'a>) -> Self {
        Self { exemplar: Some(labels), ..self }
    }

    fn kind(self, kind: MetricType) -> Self {
        Self { kind, ..self }
    }

    fn started(self, start_ms_ago: i64) -> Self {
        Self { start_ms_ago, ..self }
    }

    fn add_to(self, body: &mut V2Body) {
        let now = client::now_ms();
        let start_timestamp = if self.start_ms_ago == 0 { 0 } else { now - self.start_ms_ago };
        let exemplar = self.exemplar.map(|labels| body.refs(labels));
        let (help_ref, unit_ref) = (body.symbol("with \"quotes\"\nand äöü"), body.symbol("bytes/sec"));
        let series = body.series(self.labels);
        series.metadata = Some(v2::Metadata { r#type: self.kind.into(), help_ref, unit_ref });
        series.exemplars = exemplar
            .map(|labels_refs| v2::Exemplar { labels_refs, value: 1.0, timestamp: now })
            .into_iter()
            .collect();
        match self.content {
            Content::Nothing => {}
            Content::Sample(value) => {
                series.samples.push(v2::Sample { value, timestamp: now, start_timestamp })
            }
            Content::Histogram(buckets) => {
                series.histograms.push(v2::Histogram { start_timestamp, ..histogram(buckets, now) });
            }
        }
    }
}

fn histogram(buckets: Buckets, timestamp: i64) -> v2::Histogram {
    let spans = |present: bool| {
        let span = v2::BucketSpan { offset: 0, length: 2 };
        if present { vec![span] } else { Vec::new() }
    };
    let deltas = |present: bool| if present { vec![1, 1] } else { Vec::new() };
    let count = 3 * u64::from(buckets.positive) + 3 * u64::from(buckets.negative) + u64::from(buckets.zero);
    let count = if buckets.miscounted { 99 } else { count };
    v2::Histogram {
        count: Some(Count::CountInt(count)),
        sum: 10.0,
        schema: if buckets.custom { -53 } else { 3 },
        zero_threshold: if buckets.zero { 0.001 } else { 0.0 },
        zero_count: buckets.zero.then_some(ZeroCount::ZeroCountInt(1)),
        positive_spans: spans(buckets.positive),
        positive_deltas: deltas(buckets.positive),
        negative_spans: spans(buckets.negative),
        negative_deltas: deltas(buckets.negative),
        custom_values: if buckets.custom { vec![0.1, 1.0] } else { Vec::new() },
        timestamp,
        ..v2::Histogram::default()
    }
}

fn body_of(all: &[One<'_>]) -> Vec<u8> {
    let mut body = V2Body::new();
    all.iter().for_each(|one| one.add_to(&mut body));
    body.encode()
}

/// Sends the series as one request to a fresh server; the answer is `status` and says that `written` samples,
/// histograms and exemplars were taken, and as many float samples are in the journal.
fn check(case: &str, all: &[One<'_>], status: u16, written: [u64; 3]) {
    let server = TestServer::start();
    assert_v2(case, &client::post(server.addr, V2, &body_of(all)), status, written);
    let samples = server.accepted().iter().map(|(_, samples)| samples.len() as u64).sum::<u64>();
    assert_eq!(samples, written[0], "{case}");
}

const UP: Labels<'_> = &[("job", "testjob"), ("__name__", "up"), ("instance", "localhost:9090")];

fn values() -> [(&'static str, f64); 5] {
    [
        ("1.0", 1.0),
        ("StaleNaN", stale_marker()),
        ("NaN", f64::from_bits(0x7ff8_0000_0000_0001)),
        ("Inf", f64::INFINITY),
        ("-Inf", f64::NEG_INFINITY),
    ]
}

/// TestSingleMetric.
#[test]
fn a_single_metric_is_judged_by_its_labels_and_not_by_its_value() {
    for (name, value) in values() {
        let check = |case: &str, labels, status, samples| {
            check(&format!("{name}/{case}"), &[one(labels, Content::Sample(value))], status, [samples, 0, 0]);
        };
        check("simple metric", &[("__name__", "up")], 204, 1);
        check("simple metric with multiple labels", UP, 204, 1);
        check("simple metric with newlines", &[("__name__", "up"), ("job", "test\njob\n")], 204, 1);
        let dots = [("__name__", "resource.cpu.usage"), ("job.name", "testjob"), ("instance.name", "i")];
        check("simple metric with dots", &dots, 204, 1);
        let spaces = [("__name__", "resource cpu usage"), ("job name", "testjob"), ("instance name", "i")];
        check("simple metric with spaces", &spaces, 204, 1);
        check("simple metric without name label", &[("job", "testjob"), ("instance", "i")], 400, 0);
        check("empty metric", &[], 400, 0);
    }
}

#[test]
fn values_arrive_with_the_bits_they_were_sent_with() {
    for (name, value) in values() {
        let server = TestServer::start();
        client::post(server.addr, V2, &body_of(&[one(UP, Content::Sample(value))]));
        let accepted = server.accepted();
        let [(labels, samples)] = accepted.as_slice() else { panic!("{name}: {accepted:?}") };
        assert_eq!(labels, r#"up{instance="localhost:9090", job="testjob"}"#);
        assert_eq!(
            samples.iter().map(|one| one.value.to_bits()).collect::<Vec<_>>(),
            [value.to_bits()],
            "{name}"
        );
    }
}

/// TestCounterWithCreatedTimestamp, TestCounterMetadataWithCreatedTimestamp, TestHistogramWithCreatedTimestamp,
/// TestExemplarWithCreatedTimestamp.
#[test]
fn start_timestamps_are_accepted() {
    let counter = one(UP, Content::Sample(100.0)).started(3_600_000);
    check("counter", &[counter], 204, [1, 0, 0]);
    check("counter with metadata", &[counter.kind(MetricType::Counter)], 204, [1, 0, 0]);
    check("counter with exemplar", &[counter.exemplar(&[("trace_id", "abc123")])], 204, [1, 0, 1]);
    check("histogram", &[one(UP, Content::Histogram(ALL)).started(1_800_000)], 204, [0, 1, 0]);
}

/// The suite's older requests carry field 6 of a series, the created timestamp of 2.0-rc.3.
#[test]
fn the_created_timestamp_of_a_former_draft_is_skipped() {
    let name: &[u8] = b"\x22\x00\x22\x08__name__\x22\x02up";
    let series: &[u8] = b"\x0a\x02\x01\x02\x12\x0b\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x10\x01\x30\xe8\x07";
    let request = [name, b"\x2a", &[series.len() as u8], series].concat();
    let server = TestServer::start();
    assert_v2("field 6", &client::post(server.addr, V2, &client::snappy(&request)), 204, [1, 0, 0]);
}

/// TestMultipleMetrics.
#[test]
fn of_multiple_metrics_the_good_ones_are_taken() {
    let named = [
        [("__name__", "up"), ("instance", "localhost:9090")],
        [("__name__", "up"), ("instance", "localhost:9091")],
        [("__name__", "up"), ("instance", "localhost:9092")],
        [("__name__", "up"), ("instance", "localhost:9093")],
    ];
    for (name, value) in values() {
        let all = named.each_ref().map(|labels| one(labels, Content::Sample(value)));
        let nameless = all.map(|series| One { labels: &series.labels[1..], ..series });
        check(&format!("{name}/multiple metrics"), &all, 204, [4, 0, 0]);
        check(&format!("{name}/multiple metrics, without name label"), &nameless, 400, [0; 3]);
        let [_, b, c, d] = all;
        check(
            &format!("{name}/multiple metrics, 1 without name label"),
            &[nameless[0], b, c, d],
            400,
            [3, 0, 0],
        );
    }
}

/// TestExemplars.
#[test]
fn exemplars_are_counted_whatever_their_labels() {
    let check = |case: &str, exemplar: Labels<'_>| {
        check(case, &[one(UP, Content::Sample(1.0)).exemplar(exemplar)], 204, [1, 0, 1]);
    };
    check("basic_exemplar", &[("trace_id", "abc123def456")]);
    check("exemplar_with_span_id", &[("trace_id", "xyz789"), ("span_id", "span123")]);
    check("exemplar_without_trace_id", &[("user_id", "user123")]);
    check("exemplar_with_multiple_labels", &[("trace_id", "t"), ("user", "admin"), ("endpoint", "/login")]);
    check("exemplar_no_labels", &[]);
    check("exemplar_with_special_chars", &[("trace_id", "trace-with-dashes_and_underscores.123")]);
    check("exemplar_with_unicode", &[("trace_id", "unicode_trace_测试")]);
}

/// TestExemplarSpecialValues.
#[test]
fn exemplars_are_counted_whatever_their_value() {
    for (case, value) in [
        ("zero_value", 0.0),
        ("negative_value", -123.456),
        ("large_value", 1e10),
        ("small_value", 1e-10),
        ("nan_value", f64::from_bits(0x7ff8_0000_0000_0001)),
        ("inf_value", f64::INFINITY),
        ("-inf_value", f64::NEG_INFINITY),
    ] {
        let mut body = V2Body::new();
        one(UP, Content::Sample(value)).exemplar(&[("trace_id", "special_value_trace")]).add_to(&mut body);
        body.request.timeseries[0].exemplars[0].value = value;
        let server = TestServer::start();
        assert_v2(case, &client::post(server.addr, V2, &body.encode()), 204, [1, 0, 1]);
    }
}

/// TestExemplarTimestamps: one series three times, the oldest an hour ago.
#[test]
fn exemplars_are_counted_whenever_they_were() {
    let mut body = V2Body::new();
    let labels = &[("__name__", "latency_hist")];
    for (ms_ago, trace) in [(3_600_000, "old_trace"), (60_000, "recent_trace"), (0, "current_trace")] {
        one(labels, Content::Sample(0.05)).exemplar(&[("trace_id", trace)]).add_to(&mut body);
        let series = body.request.timeseries.last_mut().expect("one was added");
        series.samples[0].timestamp -= ms_ago;
        series.exemplars[0].timestamp -= ms_ago;
    }
    let server = TestServer::start();
    assert_v2("TestExemplarTimestamps", &client::post(server.addr, V2, &body.encode()), 204, [3, 0, 3]);
}

/// TestMultipleExemplars, TestManySamples, TestManyHistograms.
#[test]
fn many_series_with_exemplars_are_counted_exactly() {
    let names: Vec<_> = (0..50).map(|number| format!("metric_{number}")).collect();
    let labels: Vec<_> = names.iter().map(|name| [("series", name.as_str()), ("__name__", name)]).collect();
    for (content, written) in [(Content::Sample(7.0), [50, 0, 50]), (Content::Histogram(ALL), [0, 50, 50])] {
        let all: Vec<_> =
            labels.iter().map(|labels| one(labels, content).exemplar(&[("trace_id", "t")])).collect();
        check("many", &all, 204, written);
        check("multiple", &all[..3], 204, written.map(|count| count.min(3)));
    }
}

/// TestExemplarValidation, TestMetadataValidation.
#[test]
fn exemplars_and_metadata_do_not_make_a_nameless_series_valid() {
    let check = |case: &str, labels, status, written| {
        let series = one(labels, Content::Sample(1.0)).exemplar(&[("trace_id", "t")]);
        check(case, &[series.kind(MetricType::Counter)], status, written);
    };
    check("exemplar_without_name_label, metadata_without_name_label", &[("job", "test")], 400, [0; 3]);
    check("exemplar_with_empty_name, metadata_with_empty_name", &[("__name__", "")], 400, [0; 3]);
    check("exemplar_with_valid_name, metadata_with_valid_name", &[("__name__", "valid")], 204, [1, 0, 1]);
}

/// TestHistograms, TestEmptyHistogram, TestMultipleHistograms.
#[test]
fn native_histograms_are_counted_whatever_their_buckets() {
    let none = Buckets::default();
    for (case, buckets) in [
        ("basic_histogram", ALL),
        ("custom_buckets_histogram", Buckets { custom: true, positive: true, ..none }),
        ("positive_only_histogram", Buckets { positive: true, zero: true, ..none }),
        ("negative_only_histogram", Buckets { negative: true, ..none }),
        ("minimal_histogram", Buckets { zero: true, ..none }),
        ("empty histogram", none),
    ] {
        let series = one(UP, Content::Histogram(buckets));
        check(case, &[series], 204, [0, 1, 0]);
        check(case, &[series, one(&[("__name__", "hist2")], Content::Histogram(ALL))], 204, [0, 2, 0]);
    }
    let bad = one(UP, Content::Histogram(Buckets { positive: true, miscounted: true, ..none }));
    check("bad_count_histogram", &[bad], 400, [0; 3]);
    check("bad_count_histogram, and a good one", &[bad, one(UP, Content::Histogram(ALL))], 400, [0, 1, 0]);
}

/// TestHistogramWithMetadata, TestHistogramWithExemplar, TestHistogramWithMetadataAndExemplar,
/// TestMultipleHistogramsWithMetadata, TestMetadataWithComplexLabels, TestHistogramsWithMetadataAndExemplars,
/// TestComplexHistogramsRequest, TestMultipleMetricFamiliesHistograms, TestCustomBucketsHistogramWithExemplar.
#[test]
fn histograms_with_metadata_and_exemplars_are_accepted() {
    let series = one(UP, Content::Histogram(ALL));
    let described = series.kind(MetricType::Histogram);
    let other = One { labels: &[("method", "POST"), ("__name__", "request_size_hist")], ..described };
    let trace: Labels<'_> = &[("trace_id", "abc123def456"), ("span_id", "span789")];
    let custom = one(UP, Content::Histogram(Buckets { custom: true, positive: true, ..Buckets::default() }));
    check("metadata", &[described], 204, [0, 1, 0]);
    check("exemplar", &[series.exemplar(trace)], 204, [0, 1, 1]);
    check("metadata and exemplar", &[described.exemplar(trace)], 204, [0, 1, 1]);
    check("multiple with metadata", &[described, other], 204, [0, 2, 0]);
    check("complex request", &[described.exemplar(trace), other], 204, [0, 2, 1]);
    check("custom buckets with exemplar", &[custom.exemplar(trace)], 204, [0, 1, 1]);
}

/// TestMetadata: `metadata_no_help_no_unit`.
#[test]
fn metadata_may_leave_help_and_unit_unsaid() {
    let mut body = V2Body::new();
    one(UP, Content::Sample(1.0)).add_to(&mut body);
    let r#type = MetricType::Counter.into();
    body.request.timeseries[0].metadata = Some(v2::Metadata { r#type, help_ref: 0, unit_ref: 0 });
    let server = TestServer::start();
    assert_v2("metadata_no_help_no_unit", &client::post(server.addr, V2, &body.encode()), 204, [1, 0, 0]);
}

/// TestMetadata, TestMetadataWithSamples, TestMultipleMetadata. Help and unit hold what is special.
#[test]
fn metadata_of_every_type_is_accepted() {
    for (case, kind) in [
        ("counter_metadata", MetricType::Counter),
        ("gauge_metadata", MetricType::Gauge),
        ("histogram_metadata", MetricType::Histogram),
        ("metadata_with_special_chars", MetricType::Gauge),
        ("unspecified_metadata_type", MetricType::Unspecified),
        ("info_metadata_type", MetricType::Info),
        ("stateset_metadata_type", MetricType::Stateset),
        ("summary_metadata_type", MetricType::Summary),
        ("gauge_histogram_metadata_type", MetricType::Gaugehistogram),
    ] {
        let series = one(UP, Content::Sample(1.0)).kind(kind);
        let other = One { labels: &[("__name__", "cpu_usage")], ..series };
        check(case, &[series], 204, [1, 0, 0]);
        check(case, &[series, other], 204, [2, 0, 0]);
    }
}

/// TestSamplesWithMetadataAndExemplars, TestComplexSamplesRequest, TestMultipleMetricFamiliesSamples,
/// TestSpecialCharactersCombined.
#[test]
fn samples_with_metadata_and_exemplars_are_accepted() {
    let special: Labels<'_> = &[
        ("job", "test-job_with.special@chars"),
        ("__name__", "test_metric"),
        ("instance", "localhost:9090"),
        ("environment", "test🚀"),
    ];
    let counter =
        one(UP, Content::Sample(1.0)).kind(MetricType::Counter).exemplar(&[("trace_id", "äöü-123")]);
    let gauge = one(special, Content::Sample(42.0)).kind(MetricType::Gauge);
    check("samples with metadata and exemplars", &[counter], 204, [1, 0, 1]);
    check("complex samples request", &[counter, gauge], 204, [2, 0, 1]);
    check(
        "special characters",
        &[gauge.exemplar(&[("span_id", "span_with.dots-and_underscores")])],
        204,
        [1, 0, 1],
    );
}

/// TestEdgeCaseCombinations. A case, what is sent, and why the answer is not the one that is asked for.
#[test]
fn series_without_samples_are_refused() {
    const DIFFERENCE: &str = "a SHOULD asks for 2xx, and takes 400 with no more written than said; Prometheus \
        refuses these as we do, and the specification has a sample or histogram in every series";
    let nothing = one(&[("__name__", "orphan_metric")], Content::Nothing);
    for (case, series, difference) in [
        ("metadata_without_data", nothing.kind(MetricType::Counter), DIFFERENCE),
        ("exemplars_without_data", nothing.exemplar(&[("trace_id", "orphan_trace")]), DIFFERENCE),
    ] {
        check(&format!("{case}; difference: {difference}"), &[series], 400, [0; 3]);
    }
}

/// TestEdgeCaseCombinations, `mixed_timestamp_data`.
#[test]
fn old_samples_are_accepted_beside_new_ones() {
    let mut body = V2Body::new();
    one(&[("__name__", "new_metric")], Content::Sample(2.0)).add_to(&mut body);
    let old = v2::Sample { value: 1.0, timestamp: client::now_ms() - 3_600_000, start_timestamp: 0 };
    let labels_refs = body.refs(&[("trace_id", "old_trace")]);
    let series = body.series(&[("__name__", "old_metric")]);
    series.samples.push(old);
    series.exemplars.push(v2::Exemplar { labels_refs, value: 1.0, timestamp: old.timestamp + 1_800_000 });
    let server = TestServer::start();
    assert_v2("mixed_timestamp_data", &client::post(server.addr, V2, &body.encode()), 204, [2, 0, 1]);
}

fn post_with(content_type: &str, encoding: &str, body: &[u8]) -> Reply {
    let server = TestServer::start();
    let headers = [("Content-Type", content_type), ("Content-Encoding", encoding)];
    Connection::open(server.addr).post(&headers, body)
}

/// TestBadContentTypes, TestBadContentEncodings. The body is corrupt as well, and that is not looked at.
#[test]
fn unsupported_types_and_encodings_are_answered_415() {
    for content_type in ["application/json", "image/png"] {
        assert_eq!(post_with(content_type, "snappy", b"0").status, 415, "{content_type}");
    }
    for encoding in ["gzip", "deflate", "zstd"] {
        assert_eq!(post_with(V2, encoding, b"0").status, 415, "{encoding}");
        assert_eq!(post_with(V1, encoding, b"0").status, 415, "{encoding}");
    }
}

/// TestCorruptRequestBody, TestRW1ErrorHandling.
#[test]
fn a_corrupt_body_is_answered_400() {
    for first in [b'0', 0xff] {
        let mut body = body_of(&[one(UP, Content::Sample(1.0))]);
        body[0] = first;
        assert_v2("TestCorruptRequestBody", &post_with(V2, "snappy", &body), 400, [0; 3]);
        let mut body = client::v1_body(vec![client::v1_series(UP, 1.0)]);
        body[0] = first;
        assert_v1("TestRW1ErrorHandling", &post_with(V1, "snappy", &body), 400);
    }
}

/// TestRW1BasicCompatibility.
#[test]
fn a_1_0_request_with_unsorted_labels_and_without_version_header_is_accepted() {
    let server = TestServer::start();
    let total = client::v1_series(&[("__name__", "http_requests_total")], 100.0);
    let body = client::v1_body(vec![client::v1_series(UP, 1.0), total]);
    assert_v1("TestRW1BasicCompatibility", &client::post(server.addr, V1, &body), 204);
    let names: Vec<_> = server.accepted().into_iter().map(|(labels, _)| labels).collect();
    assert_eq!(names, [r#"up{instance="localhost:9090", job="testjob"}"#, "http_requests_total"]);
}
