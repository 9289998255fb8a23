//! Histograms made up at random, good and bad, and a plain reading of which are which.

use promantis::wire::prompb::v2;
use promantis::wire::prompb::v2::histogram::{Count, ZeroCount};
use proptest::collection::vec;
use proptest::prelude::*;

use super::oracle::a_timestamp;

/// Spans, and as many buckets as they say.
fn a_side() -> impl Strategy<Value = (Vec<v2::BucketSpan>, Vec<u8>)> {
    let span = (0..3, 0_u32..3).prop_map(|(offset, length)| v2::BucketSpan { offset, length });
    (vec(span, 0..3), vec(0_u8..4, 6)).prop_map(|(spans, mut buckets)| {
        buckets.truncate(spans.iter().map(|span| span.length as usize).sum());
        (spans, buckets)
    })
}

/// A good histogram of every kind, with `fault` as likely as not.
pub(super) fn a_histogram() -> impl Strategy<Value = v2::Histogram> {
    let kind = (any::<bool>(), any::<bool>(), any::<bool>(), -4..9, a_timestamp());
    (kind, a_side(), a_side(), 0_u64..3, (0..30, any::<u8>())).prop_map(
        |((is_float, is_custom, has_nan, schema, timestamp), positive, negative, zero, (fault, by))| {
            let negative = if is_custom { Default::default() } else { negative };
            let zero = if is_custom { 0 } else { zero };
            let mut histogram = v2::Histogram {
                sum: if has_nan { f64::NAN } else { 1.0 },
                schema: if is_custom { -53 } else { schema },
                custom_values: if is_custom { vec![f64::NEG_INFINITY, 0.1, 0.2, 5.0] } else { vec![] },
                timestamp,
                ..Default::default()
            };
            let count =
                positive.1.iter().chain(&negative.1).map(|bucket| u64::from(*bucket)).sum::<u64>() + zero;
            fill(&mut histogram, is_float, (count, zero), (&positive.1, &negative.1));
            (histogram.positive_spans, histogram.negative_spans) = (positive.0, negative.0);
            spoil(&mut histogram, fault, by);
            histogram
        },
    )
}

fn fill(
    to: &mut v2::Histogram,
    is_float: bool,
    (count, zero): (u64, u64),
    (positive, negative): (&[u8], &[u8]),
) {
    let deltas = |buckets: &[u8]| {
        let before = std::iter::once(&0).chain(buckets);
        buckets.iter().zip(before).map(|(bucket, before)| i64::from(*bucket) - i64::from(*before)).collect()
    };
    let counts = |buckets: &[u8]| buckets.iter().map(|bucket| f64::from(*bucket) + 0.5).collect();
    if is_float {
        to.count = Some(Count::CountFloat(count as f64));
        to.zero_count = Some(ZeroCount::ZeroCountFloat(zero as f64));
        (to.positive_counts, to.negative_counts) = (counts(positive), counts(negative));
    } else {
        to.count = Some(Count::CountInt(count));
        to.zero_count = Some(ZeroCount::ZeroCountInt(zero));
        (to.positive_deltas, to.negative_deltas) = (deltas(positive), deltas(negative));
    }
}

/// Does one thing to a good histogram that makes it bad, or at least might.
fn spoil(histogram: &mut v2::Histogram, fault: i32, by: u8) {
    let small = i32::from(by % 8) - 4;
    let span = v2::BucketSpan { offset: small, length: u32::from(by / 64) };
    match fault {
        0 => histogram.positive_spans.push(span),
        1 => histogram.negative_spans.push(span),
        2 => histogram.positive_deltas.push(i64::from(small)),
        3 => histogram.negative_deltas.push(i64::from(small)),
        4 => histogram.positive_counts.push(f64::from(small)),
        5 => histogram.negative_counts.push(f64::from(small)),
        6 => histogram.custom_values.push([f64::NAN, f64::INFINITY, 5.0, 6.0][usize::from(by % 4)]),
        7 => histogram.custom_values.truncate(usize::from(by % 4)),
        8 => histogram.count = Some(Count::CountInt(u64::from(by % 16))),
        9 => histogram.count = Some(Count::CountFloat(f64::from(small))),
        10 => histogram.count = None,
        11 => histogram.zero_count = Some(ZeroCount::ZeroCountInt(u64::from(by % 4))),
        12 => histogram.zero_count = Some(ZeroCount::ZeroCountFloat(f64::from(by % 4))),
        13 => histogram.schema = [-53, -54, -5, 9, 52, 53, i32::MIN, 8][usize::from(by % 8)],
        14 => histogram.zero_threshold = [f64::NAN, 0.001][usize::from(by % 2)],
        _ => {}
    }
}

/// Buckets by their place, or nothing where spans and buckets do not agree.
fn placed<T: Copy>(spans: &[v2::BucketSpan], buckets: &[T]) -> Option<Vec<(i64, T)>> {
    let (mut at, mut places) = (0, Vec::new());
    for (number, span) in spans.iter().enumerate() {
        if number > 0 && span.offset < 0 {
            return None;
        }
        at += i64::from(span.offset);
        for _ in 0..span.length.min(100) {
            places.push(at);
            at += 1;
        }
        at += i64::from(span.length.saturating_sub(100));
    }
    let total = spans.iter().map(|span| span.length as usize).sum::<usize>();
    (total == buckets.len()).then(|| places.into_iter().zip(buckets.iter().copied()).collect())
}

fn absolute(deltas: &[i64]) -> Vec<i128> {
    let running = |sum: &mut i128, delta: &i64| {
        *sum += i128::from(*delta);
        Some(*sum)
    };
    deltas.iter().scan(0, running).collect()
}

/// What Prometheus validates, read plainly off the whole histogram.
pub(super) fn is_valid(histogram: &v2::Histogram) -> bool {
    if let Some(Count::CountFloat(_)) = histogram.count {
        let zero = match histogram.zero_count {
            Some(ZeroCount::ZeroCountFloat(zero)) => zero,
            _ => 0.0,
        };
        let all = [&histogram.positive_counts[..], &histogram.negative_counts].concat();
        return !all.iter().any(|count| *count < 0.0)
            && has_layout(histogram, (&histogram.positive_counts, &histogram.negative_counts), zero != 0.0);
    }
    let count = match histogram.count {
        Some(Count::CountInt(count)) => i128::from(count),
        _ => 0,
    };
    let zero = match histogram.zero_count {
        Some(ZeroCount::ZeroCountInt(zero)) => i128::from(zero),
        _ => 0,
    };
    let (positive, negative) = (absolute(&histogram.positive_deltas), absolute(&histogram.negative_deltas));
    let all = [&positive[..], &negative].concat();
    let sum = all.iter().sum::<i128>() + zero;
    let agrees = if histogram.sum.is_nan() { sum <= count } else { sum == count };
    let in_range = |bucket: &i128| (0..=i128::from(i64::MAX)).contains(bucket);
    agrees && all.iter().all(in_range) && has_layout(histogram, (&positive, &negative), zero != 0)
}

fn has_layout<T: Copy>(
    histogram: &v2::Histogram,
    (positive, negative): (&[T], &[T]),
    has_zeros: bool,
) -> bool {
    let Some(places) = placed(&histogram.positive_spans, positive) else { return false };
    let bounds = &histogram.custom_values;
    if histogram.schema != -53 {
        return (-4..=52).contains(&histogram.schema)
            && bounds.is_empty()
            && placed(&histogram.negative_spans, negative).is_some();
    }
    let reach = histogram.positive_spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length));
    places.iter().all(|(place, _)| *place >= 0)
        && histogram.positive_spans.iter().all(|span| span.offset >= 0)
        && reach.sum::<i64>() <= bounds.len() as i64 + 1
        && bounds.is_sorted_by(|left, right| left < right)
        && bounds.iter().all(|bound| !bound.is_nan() && *bound != f64::INFINITY)
        && histogram.negative_spans.is_empty()
        && negative.is_empty()
        && !has_zeros
        && histogram.zero_threshold == 0.0
}

/// So that properties speak of good ones and of bad ones, of every kind.
#[test]
fn generated_histograms_are_good_and_bad() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut reached = std::collections::BTreeMap::new();
    for _ in 0..500 {
        let histogram = a_histogram().new_tree(&mut runner).unwrap().current();
        let is_float = matches!(histogram.count, Some(Count::CountFloat(_)));
        let has_buckets = !histogram.positive_deltas.is_empty() || !histogram.positive_counts.is_empty();
        if has_buckets {
            *reached.entry((is_float, histogram.schema == -53, is_valid(&histogram))).or_insert(0) += 1;
        }
    }
    assert!(reached.len() == 8 && reached.values().all(|count| *count > 3), "{reached:?}");
}
