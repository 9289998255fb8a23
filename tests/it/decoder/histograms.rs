//! Which native histograms are taken, as Prometheus's `Histogram.Validate` and `FloatHistogram.Validate` say.

use promantis::series::stale_marker;
use promantis::wire::decode::{Limits, Protocol, decode};
use promantis::wire::prompb::v2::histogram::{Count, ZeroCount};
use promantis::wire::prompb::{v1, v2};
use prost::Message;

use super::{LATEST, show};

fn span(offset: i32, length: u32) -> v2::BucketSpan {
    v2::BucketSpan { offset, length }
}

/// Buckets 1, 3, 4, 7, 8 and, below zero, 1, 2; 2 in the zero bucket: 28 observations.
fn integers() -> v2::Histogram {
    v2::Histogram {
        count: Some(Count::CountInt(28)),
        zero_count: Some(ZeroCount::ZeroCountInt(2)),
        zero_threshold: 1e-128,
        sum: 18.4,
        schema: 3,
        positive_spans: vec![span(-7, 3), span(2, 2)],
        positive_deltas: vec![1, 2, 1, 3, 1],
        negative_spans: vec![span(0, 2)],
        negative_deltas: vec![1, 1],
        ..Default::default()
    }
}

fn floats() -> v2::Histogram {
    v2::Histogram {
        count: Some(Count::CountFloat(28.0)),
        zero_count: Some(ZeroCount::ZeroCountFloat(2.0)),
        positive_counts: vec![1.0, 3.0, 4.0, 7.0, 8.0],
        positive_deltas: vec![],
        negative_counts: vec![1.0, 2.0],
        negative_deltas: vec![],
        ..integers()
    }
}

/// Three of four buckets: up to 0.1, up to 1, and above 10.
fn custom() -> v2::Histogram {
    v2::Histogram {
        count: Some(Count::CountInt(6)),
        sum: 18.4,
        schema: -53,
        positive_spans: vec![span(0, 2), span(1, 1)],
        positive_deltas: vec![1, 1, 1],
        custom_values: vec![0.1, 1.0, 10.0],
        ..Default::default()
    }
}

fn custom_floats() -> v2::Histogram {
    v2::Histogram {
        count: Some(Count::CountFloat(6.0)),
        positive_deltas: vec![],
        positive_counts: vec![1.0, 2.0, 3.0],
        ..custom()
    }
}

fn outcome(protocol: Protocol, bytes: &[u8]) -> String {
    let up = b"\x0a\x0e\x0a\x08__name__\x12\x02up";
    let mut series = if protocol == Protocol::V1 { up.to_vec() } else { b"\x0a\x02\x01\x02".to_vec() };
    let symbols =
        v2::Request { symbols: ["", "__name__", "up"].map(Into::into).to_vec(), timeseries: vec![] };
    let (mut raw, number, histogram) = match protocol {
        Protocol::V1 => (Vec::new(), 1, 4),
        Protocol::V2 => (symbols.encode_to_vec(), 5, 3),
    };
    prost::encoding::bytes::encode(histogram, &bytes.to_vec(), &mut series);
    prost::encoding::bytes::encode(number, &series, &mut raw);
    show(&decode(protocol, raw, &Limits::default(), LATEST).expect("protobuf"))
}

/// The same message in both protocols, with the same end.
fn check_bytes(what: &str, bytes: &[u8], is_valid: bool) {
    let expected = if is_valid { "0/1/0" } else { "0/0/0, histogram_invalid 0:0/1/0" };
    assert_eq!(outcome(Protocol::V1, bytes), expected, "{what}");
    assert_eq!(outcome(Protocol::V2, bytes), expected, "{what}");
}

/// Changes each of the histograms in the same way.
fn check(histograms: &[v2::Histogram], what: &str, is_valid: bool, change: impl Fn(&mut v2::Histogram)) {
    for (index, histogram) in histograms.iter().enumerate() {
        let mut histogram = histogram.clone();
        change(&mut histogram);
        check_bytes(&format!("{what}, {index}"), &histogram.encode_to_vec(), is_valid);
    }
}

#[test]
fn histograms_that_add_up_are_taken() {
    check(&[integers(), floats(), custom(), custom_floats()], "as they are", true, |_| {});
    check(&[v2::Histogram::default()], "nothing at all", true, |_| {});
    check(&[integers(), floats()], "gauge", true, |histogram| histogram.reset_hint = 3);
    check(&[integers(), floats()], "pathologic spans", true, |histogram| {
        histogram.positive_spans.extend([span(0, 0), span(i32::MAX, 0)]);
    });
    check(&[integers(), floats()], "infinite sum", true, |histogram| histogram.sum = f64::INFINITY);
}

#[test]
fn stale_markers_are_taken() {
    let stale = v2::Histogram { sum: stale_marker(), ..Default::default() };
    check(&[stale], "integers", true, |_| {});
    check(&[stale_custom()], "custom buckets", true, |_| {});
    let of_floats =
        v2::Histogram { sum: stale_marker(), count: Some(Count::CountFloat(0.0)), ..Default::default() };
    check(&[of_floats], "floats", true, |_| {});
}

fn stale_custom() -> v2::Histogram {
    v2::Histogram { sum: stale_marker(), schema: -53, ..Default::default() }
}

#[test]
fn spans_and_buckets_agree() {
    let all = [integers(), floats(), custom(), custom_floats()];
    check(&all, "span too long", false, |histogram| histogram.positive_spans[0].length += 1);
    check(&all, "span too short", false, |histogram| histogram.positive_spans[0].length -= 1);
    check(&all, "span of 2³² - 1", false, |histogram| histogram.positive_spans[0].length = u32::MAX);
    check(&all, "no spans", false, |histogram| histogram.positive_spans.clear());
    check(&all, "second span steps back", false, |histogram| histogram.positive_spans[1].offset = -1);
    check(&[integers(), floats()], "negative span", false, |histogram| {
        histogram.negative_spans[0].length = 1
    });
    check(&[integers(), floats()], "first span starts anywhere", true, |histogram| {
        histogram.negative_spans[0].offset = i32::MIN;
    });
    check(&[integers(), floats()], "buckets of one side on the other", false, |histogram| {
        histogram.negative_spans = vec![span(0, 3)];
        histogram.positive_spans = vec![span(0, 4)];
    });
}

#[test]
fn buckets_are_not_negative() {
    check(&[integers(), custom()], "delta", false, |histogram| {
        histogram.sum = f64::NAN;
        histogram.positive_deltas[1] = -2;
    });
    check(&[integers()], "delta to zero", true, |histogram| {
        histogram.positive_deltas = vec![1, -1, 0, 0, 0];
        histogram.count = Some(Count::CountInt(6));
    });
    check(&[integers()], "delta that wraps around", false, |histogram| {
        histogram.sum = f64::NAN;
        histogram.positive_deltas[1] = i64::MAX;
    });
    check(&[integers()], "first delta", false, |histogram| {
        histogram.sum = f64::NAN;
        histogram.negative_deltas = vec![-1, 1];
    });
    check(&[floats(), custom_floats()], "count", false, |histogram| histogram.positive_counts[1] = -1e-9);
    check(&[floats()], "negative side", false, |histogram| histogram.negative_counts[1] = f64::NEG_INFINITY);
    check(&[floats(), custom_floats()], "not a number", true, |histogram| {
        histogram.positive_counts[1] = f64::NAN
    });
}

#[test]
fn integers_add_up_to_their_count() {
    let count = |count| move |histogram: &mut v2::Histogram| histogram.count = Some(Count::CountInt(count));
    check(&[integers()], "more", false, count(29));
    check(&[integers()], "less", false, count(27));
    check(&[integers()], "none", false, |histogram| histogram.count = None);
    check(&[custom()], "custom", false, count(7));
    let unclear = v2::Histogram { sum: f64::NAN, ..integers() };
    check(std::slice::from_ref(&unclear), "more, and the sum is not a number", true, count(29));
    check(&[unclear], "less, and the sum is not a number", false, count(27));
    check(&[integers()], "a zero bucket of floats is none", true, |histogram| {
        histogram.zero_count = Some(ZeroCount::ZeroCountFloat(2.0));
        histogram.count = Some(Count::CountInt(26));
    });
    check(&[integers()], "sums of more than 64 bits", false, |histogram| {
        histogram.positive_deltas = vec![i64::MAX, 0, 0, 0, 0];
        histogram.count = Some(Count::CountInt(i64::MAX.wrapping_mul(5) as u64 + 5));
    });
}

/// Rounding would refuse good ones, as Prometheus says.
#[test]
fn floats_need_not_add_up() {
    for count in [0.0, 27.0, 1e9, -1.0, f64::NAN] {
        check(&[floats(), custom_floats()], "count", true, |histogram| {
            histogram.count = Some(Count::CountFloat(count));
        });
    }
}

/// Prometheus takes 9 to 52 from senders that are newer than itself, and lowers them to 8.
#[test]
fn schemas_are_known() {
    for schema in [-4, 0, 8, 9, 52] {
        check(&[integers(), floats()], "known", true, |histogram| histogram.schema = schema);
    }
    for schema in [-5, -9, 53, -52, -54, i32::MIN, i32::MAX] {
        check(&[integers(), floats()], "unknown", false, |histogram| histogram.schema = schema);
    }
}

#[test]
fn custom_buckets_have_bounds_and_nothing_below_zero() {
    let all = [custom(), custom_floats()];
    let bounds = |bounds: &[f64], is_valid| {
        check(&all, &format!("{bounds:?}"), is_valid, |histogram| histogram.custom_values = bounds.to_vec());
    };
    bounds(&[-1.0, 0.0, 1.0], true);
    bounds(&[f64::NEG_INFINITY, 0.0, 1.0], true);
    bounds(&[0.1, 1.0], false); // One too few: four buckets have three bounds between them.
    bounds(&[], false);
    bounds(&[0.1, 1.0, 1.0], false);
    bounds(&[1.0, 0.1, 10.0], false);
    bounds(&[0.1, 1.0, f64::INFINITY], false);
    bounds(&[f64::NAN, 1.0, 10.0], false);
    bounds(&[0.1, 1.0, f64::NAN], false);
    check(&all, "starts below zero", false, |histogram| histogram.positive_spans[0].offset = -1);
    check(&all, "negative span", false, |histogram| histogram.negative_spans.push(span(0, 0)));
    check(&all, "zero threshold", false, |histogram| histogram.zero_threshold = 1e-128);
    check(&all, "zero threshold is not a number", false, |histogram| histogram.zero_threshold = f64::NAN);
    check(&[custom()], "negative bucket", false, |histogram| histogram.negative_deltas.push(0));
    check(&[custom_floats()], "negative bucket", false, |histogram| histogram.negative_counts.push(0.0));
    check(&[custom()], "zero count", false, |histogram| {
        histogram.zero_count = Some(ZeroCount::ZeroCountInt(1));
        histogram.count = Some(Count::CountInt(7));
    });
    check(&[custom_floats()], "zero count", false, |histogram| {
        histogram.zero_count = Some(ZeroCount::ZeroCountFloat(1.0));
    });
    check(&[integers(), floats()], "bounds without custom buckets", false, |histogram| {
        histogram.custom_values = vec![1.0];
    });
}

/// Lists in pieces and fields in any order are good protobuf, and the last of a choice counts.
#[test]
fn histograms_may_be_spelled_oddly() {
    let spans = v2::Histogram { positive_spans: vec![span(0, 2)], ..Default::default() }.encode_to_vec();
    let check = |what, parts: &[&[u8]], is_valid| {
        check_bytes(what, &[&spans, &parts.concat()[..]].concat(), is_valid)
    };
    let count = b"\x08\x03";
    check("packed deltas, then the count", &[b"\x62\x02\x02\x02", count], true);
    check("deltas one by one around the count", &[b"\x60\x02", count, b"\x60\x02"], true);
    check("deltas in two lists", &[b"\x62\x01\x02", count, b"\x62\x01\x02"], true);
    check("a float count, overridden", &[b"\x11\0\0\0\0\0\0\0\0", b"\x62\x02\x02\x02", count], true);
    check("an integer count, overridden", &[b"\x62\x02\x02\x02", count, b"\x11\0\0\0\0\0\0\0\0"], false);
    check("a span more, of nothing", &[b"\x5a\x00\x62\x02\x02\x02", count], true);
}

/// The size of lists and the time are judged first, and of two good histograms both are kept.
#[test]
fn a_bad_histogram_costs_itself_alone() {
    let at =
        |timestamp, count| v2::Histogram { timestamp, count: Some(Count::CountInt(count)), ..integers() };
    let series = v2::TimeSeries {
        labels_refs: vec![1, 2],
        samples: vec![v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 }],
        histograms: vec![at(1, 28), at(2, 29), at(3, 28), at(LATEST + 1, 29)],
        exemplars: vec![v2::Exemplar::default()],
        ..Default::default()
    };
    let request =
        v2::Request { symbols: ["", "__name__", "up"].map(Into::into).to_vec(), timeseries: vec![series] };
    let decoded = decode(Protocol::V2, request.encode_to_vec(), &Limits::default(), LATEST).unwrap();
    assert_eq!(show(&decoded), "up x1, 1/2/1, too_far_ahead 0:0/1/0, histogram_invalid 0:0/1/0");
}

#[test]
fn a_bad_histogram_is_said_in_words() {
    let histogram = v1::Histogram { schema: 99, ..Default::default() };
    let labels = vec![v1::Label { name: b"__name__".into(), value: b"up".into() }];
    let series = v1::TimeSeries { labels, histograms: vec![histogram], ..Default::default() };
    let raw = v1::WriteRequest { timeseries: vec![series], metadata: vec![] }.encode_to_vec();
    let decoded = decode(Protocol::V1, raw, &Limits::default(), LATEST).unwrap();
    let expected = "up has a histogram whose spans, buckets, bounds, schema and count do not agree";
    assert_eq!(decoded.refused.message(), Some(expected));
}
