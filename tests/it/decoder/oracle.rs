//! The decoder against prost and a plain reading of its rules.

use std::collections::BTreeMap;

use promantis::series::{LabelRunBuf, MetricKind, SeriesHash};
use promantis::wire::SyntaxError;
use promantis::wire::decode::{Decoded, Limits, Malformed, Protocol, Tally, decode};
use promantis::wire::prompb::v2::histogram::{Count, ZeroCount};
use promantis::wire::prompb::{v1, v2};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

const LATEST: i64 = 1_700_000_000_000;

type Label = (Vec<u8>, Vec<u8>);

/// Hash, labels in words, samples with the bits of their values, type.
type Accepted = (SeriesHash, String, Vec<(i64, u64)>, MetricKind);

/// What a request comes to, in a form that can be compared.
#[derive(Default, PartialEq, Debug)]
struct Outcome {
    series: Vec<Accepted>,
    samples: u64,
    histograms: u64,
    exemplars: u64,
    refused: BTreeMap<&'static str, Tally>,
    metadata: Vec<(String, MetricKind)>,
}

/// What one series holds, whatever the protocol.
struct Content<'a> {
    labels: Result<Vec<Label>, &'static str>,
    samples: Vec<(i64, f64)>,
    histograms: Vec<v2::Histogram>,
    /// Whether each is good.
    exemplars: &'a [bool],
    kind: MetricKind,
}

/// Small, so that a generated series breaks each of them now and then.
fn limits() -> Limits {
    Limits {
        labels_max: 5,
        name_bytes_max: 9,
        value_bytes_max: 200,
        label_bytes_max: 260,
        histogram_buckets_max: 4,
        ..Limits::default()
    }
}

impl Outcome {
    fn of(decoded: &Decoded) -> Self {
        let batch = &decoded.batch;
        let bits = |sample: &promantis::series::Sample| (sample.timestamp, sample.value.to_bits());
        Self {
            series: batch
                .iter()
                .map(|series| {
                    let samples = series.samples.iter().map(bits).collect();
                    (series.hash, series.labels.to_string(), samples, series.kind)
                })
                .collect(),
            samples: decoded.written.samples,
            histograms: decoded.written.histograms,
            exemplars: decoded.written.exemplars,
            refused: decoded.refused.tallies().map(|(refusal, tally)| (refusal.name(), tally)).collect(),
            metadata: batch.metadata().iter().map(|said| (said.family.to_string(), said.kind)).collect(),
        }
    }

    fn of_v1(request: &v1::WriteRequest) -> Self {
        let mut outcome = Self::default();
        for series in request.timeseries.iter().filter(|s| !(s.samples.is_empty() && s.histograms.is_empty()))
        {
            let labels = series.labels.iter().map(|label| (label.name.clone(), label.value.clone()));
            outcome.take(Content {
                labels: judge(labels.collect()),
                samples: series.samples.iter().map(|s| (s.timestamp, s.value)).collect(),
                histograms: series.histograms.iter().map(as_v2).collect(),
                exemplars: &vec![true; series.exemplars.len()],
                kind: MetricKind::Unknown,
            });
        }
        for said in &request.metadata {
            if let Some(family) = text(&said.metric_family_name).filter(|family| !family.is_empty()) {
                outcome.metadata.push((family.to_owned(), MetricKind::from_wire(said.r#type as u64)));
            }
        }
        outcome
    }

    fn of_v2(request: &v2::Request) -> Self {
        let mut outcome = Self::default();
        let symbol = |index: u32| request.symbols.get(index as usize);
        for series in &request.timeseries {
            let metadata = series.metadata.unwrap_or_default();
            let mut labels = resolve(&series.labels_refs, &request.symbols).and_then(judge);
            if labels.is_ok() {
                if symbol(metadata.help_ref).is_none() || symbol(metadata.unit_ref).is_none() {
                    labels = Err("metadata_ref_out_of_range");
                } else if series.samples.is_empty() && series.histograms.is_empty() {
                    labels = Err("no_samples");
                }
            }
            let is_good = |refs: &Vec<u32>| {
                refs.len().is_multiple_of(2) && refs.iter().all(|index| symbol(*index).is_some())
            };
            let exemplars: Vec<_> = series.exemplars.iter().map(|e| is_good(&e.labels_refs)).collect();
            outcome.take(Content {
                labels,
                samples: series.samples.iter().map(|s| (s.timestamp, s.value)).collect(),
                histograms: series.histograms.clone(),
                exemplars: &exemplars,
                kind: MetricKind::from_wire(metadata.r#type as u64),
            });
        }
        outcome
    }

    fn take(&mut self, content: Content<'_>) {
        let labels = match content.labels {
            Ok(labels) => labels,
            Err(reason) => {
                let tally = self.refused.entry(reason).or_default();
                tally.series += 1;
                tally.samples += content.samples.len() as u64;
                tally.histograms += content.histograms.len() as u64;
                tally.exemplars += content.exemplars.len() as u64;
                return;
            }
        };
        let mut kept = Vec::new();
        for (timestamp, value) in content.samples {
            if timestamp > LATEST {
                self.refused.entry("too_far_ahead").or_default().samples += 1;
            } else {
                kept.push((timestamp, value.to_bits()));
            }
        }
        self.samples += kept.len() as u64;
        for histogram in content.histograms {
            match fault_of(&histogram) {
                Some(reason) => self.refused.entry(reason).or_default().histograms += 1,
                None => self.histograms += 1,
            }
        }
        for good in content.exemplars {
            match good {
                true => self.exemplars += 1,
                false => self.refused.entry("bad_exemplar").or_default().exemplars += 1,
            }
        }
        if !kept.is_empty() {
            let bytes = canonical(&labels).encode();
            let run = promantis::series::LabelRun::from_canonical(&bytes);
            self.series.push((SeriesHash::of(run), run.to_string(), kept, content.kind));
        }
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn resolve(refs: &[u32], symbols: &[Vec<u8>]) -> Result<Vec<Label>, &'static str> {
    if refs.len() > 2 * limits().labels_max {
        return Err("too_many_labels");
    }
    if !refs.len().is_multiple_of(2) {
        return Err("odd_label_refs");
    }
    let mut labels = Vec::new();
    for pair in refs.chunks(2) {
        match (symbols.get(pair[0] as usize), symbols.get(pair[1] as usize)) {
            (Some(name), Some(value)) => labels.push((name.clone(), value.clone())),
            // Labels before the dangling one are judged first.
            _ => return Err(judge_each(&labels).err().unwrap_or("label_ref_out_of_range")),
        }
    }
    Ok(labels)
}

fn judge_each(labels: &[Label]) -> Result<(), &'static str> {
    for (name, value) in labels {
        if name.is_empty() {
            return Err("empty_label_name");
        } else if name.len() > limits().name_bytes_max {
            return Err("label_name_too_long");
        } else if value.len() > limits().value_bytes_max {
            return Err("label_value_too_long");
        } else if text(name).is_none() || text(value).is_none() {
            return Err("invalid_utf8");
        }
    }
    Ok(())
}

fn judge(labels: Vec<Label>) -> Result<Vec<Label>, &'static str> {
    if labels.len() > limits().labels_max {
        return Err("too_many_labels");
    }
    judge_each(&labels)?;
    let mut names: Vec<_> = labels.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    if names.len() < labels.len() {
        return Err("duplicate_label");
    }
    if !labels.iter().any(|(name, value)| name == b"__name__" && !value.is_empty()) {
        return Err("no_metric_name");
    }
    if canonical(&labels).encode().len() > limits().label_bytes_max {
        return Err("labels_too_long");
    }
    Ok(labels)
}

fn canonical(labels: &[Label]) -> LabelRunBuf {
    let checked = |bytes| text(bytes).expect("labels were judged");
    labels.iter().map(|(name, value)| (checked(name), checked(value))).collect()
}

/// The message is the same on the wire.
fn as_v2(histogram: &v1::Histogram) -> v2::Histogram {
    v2::Histogram::decode(&histogram.encode_to_vec()[..]).expect("what prost encoded")
}

fn fault_of(histogram: &v2::Histogram) -> Option<&'static str> {
    let spans = histogram.negative_spans.len() + histogram.positive_spans.len();
    let integers = histogram.negative_deltas.len() + histogram.positive_deltas.len();
    let floats = histogram.negative_counts.len() + histogram.positive_counts.len();
    if spans.max(integers + floats).max(histogram.custom_values.len()) > limits().histogram_buckets_max {
        Some("too_many_buckets")
    } else if histogram.timestamp > LATEST {
        Some("too_far_ahead")
    } else if !is_valid(histogram) {
        Some("histogram_invalid")
    } else {
        None
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
fn is_valid(histogram: &v2::Histogram) -> bool {
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

fn a_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => Just(b"__name__".to_vec()),
        12 => prop_oneof!["[a-cA]", "[a-z]{1,9}", "ä|ö x|é"].prop_map(String::into_bytes),
        1 => prop_oneof![Just(vec![]), Just(vec![0xff]), Just(b"much_too_long".to_vec())],
    ]
}

fn a_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => "[a-z]{0,4}".prop_map(String::into_bytes),
        2 => "[xé]{60,125}".prop_map(String::into_bytes),
        1 => prop_oneof![Just(vec![b'x'; 201]), Just(vec![0xff]), Just(vec![b'y'; 140])],
    ]
}

fn a_timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 1_600_000_000_000..LATEST, 1 => LATEST - 1..=LATEST + 1, 1 => any::<i64>(), 1 => Just(0)]
}

fn a_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        Just(0.0),
        Just(promantis::series::stale_marker()),
        Just(f64::INFINITY)
    ]
}

/// Spans, and as many buckets as they say.
fn a_side() -> impl Strategy<Value = (Vec<v2::BucketSpan>, Vec<u8>)> {
    let span = (0..3, 0_u32..3).prop_map(|(offset, length)| v2::BucketSpan { offset, length });
    (vec(span, 0..3), vec(0_u8..4, 6)).prop_map(|(spans, mut buckets)| {
        buckets.truncate(spans.iter().map(|span| span.length as usize).sum());
        (spans, buckets)
    })
}

/// A good histogram of every kind, with `fault` as likely as not.
fn a_histogram() -> impl Strategy<Value = v2::Histogram> {
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

/// A piece of a series that may stand anywhere in it, as bytes.
fn a_fragment() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let label = (a_name(), a_value()).prop_map(|(name, value)| {
        (0, v1::TimeSeries { labels: vec![v1::Label { name, value }], ..Default::default() })
    });
    let sample = (a_float(), a_timestamp()).prop_map(|(value, timestamp)| {
        (1, v1::TimeSeries { samples: vec![v1::Sample { value, timestamp }], ..Default::default() })
    });
    let histogram = a_histogram().prop_map(|histogram| {
        let histogram = v1::Histogram::decode(&histogram.encode_to_vec()[..]).expect("what prost encoded");
        (1, v1::TimeSeries { histograms: vec![histogram], ..Default::default() })
    });
    let exemplar = (a_name(), a_value()).prop_map(|(name, value)| {
        let exemplar = v1::Exemplar { labels: vec![v1::Label { name, value }], value: 1.0, timestamp: 2 };
        (1, v1::TimeSeries { exemplars: vec![exemplar], ..Default::default() })
    });
    prop_oneof![6 => label, 3 => sample, 1 => histogram, 1 => exemplar]
        .prop_map(|(rank, series)| (rank, series.encode_to_vec()))
}

/// A series of remote write 1.0: half of them with labels first, sorted by their bytes.
fn a_v1_series() -> impl Strategy<Value = Vec<u8>> {
    (vec(a_fragment(), 0..9), any::<bool>()).prop_map(|(mut fragments, tidy)| {
        if tidy {
            let named = v1::Label { name: b"__name__".into(), value: b"up".into() };
            fragments.push((0, v1::TimeSeries { labels: vec![named], ..Default::default() }.encode_to_vec()));
            fragments.sort_by_key(|(rank, bytes)| (*rank, bytes.get(4..).map(<[u8]>::to_vec)));
        }
        fragments.into_iter().flat_map(|(_, bytes)| bytes).collect()
    })
}

fn a_v1_request() -> impl Strategy<Value = Vec<u8>> {
    let metadata = (a_name(), -1..9).prop_map(|(metric_family_name, r#type)| v1::MetricMetadata {
        r#type,
        metric_family_name,
        help: b"help".into(),
        unit: vec![0xff],
    });
    (vec(a_v1_series(), 0..5), vec(metadata, 0..3)).prop_map(|(series, metadata)| {
        let mut raw = Vec::new();
        for bytes in series {
            prost::encoding::bytes::encode(1, &bytes, &mut raw);
        }
        v1::WriteRequest { timeseries: vec![], metadata }.encode(&mut raw).expect("a vector grows");
        raw
    })
}

fn a_v2_series() -> impl Strategy<Value = v2::TimeSeries> {
    let refs = || prop_oneof![4 => vec(0_u32..8, 2..=2), 1 => vec(0_u32..20, 0..3)];
    let labels = (vec(refs(), 0..4), any::<bool>()).prop_map(|(refs, named)| {
        let mut refs = refs.concat();
        if named {
            refs.extend([1, 2]);
        }
        refs
    });
    let sample = (a_float(), a_timestamp(), any::<i64>())
        .prop_map(|(value, timestamp, start_timestamp)| v2::Sample { value, timestamp, start_timestamp });
    let exemplar = refs().prop_map(|labels_refs| v2::Exemplar { labels_refs, value: 1.0, timestamp: -1 });
    let metadata = (-1..9, 0_u32..9, 0_u32..9).prop_map(|(r#type, help_ref, unit_ref)| v2::Metadata {
        r#type,
        help_ref,
        unit_ref,
    });
    let samples = prop_oneof![4 => vec(sample, 1..3), 1 => Just(vec![])];
    let histograms = prop_oneof![3 => Just(vec![]), 1 => vec(a_histogram(), 1..3)];
    (labels, samples, histograms, vec(exemplar, 0..2), proptest::option::of(metadata)).prop_map(
        |(labels_refs, samples, histograms, exemplars, metadata)| v2::TimeSeries {
            labels_refs,
            samples,
            histograms,
            exemplars,
            metadata,
        },
    )
}

fn a_v2_request() -> impl Strategy<Value = Vec<u8>> {
    (vec(prop_oneof![a_name(), a_value()], 0..9), vec(a_v2_series(), 0..5)).prop_map(|(more, timeseries)| {
        let mut symbols = vec![b"".to_vec(), b"__name__".to_vec(), b"up".to_vec()];
        symbols.extend(more);
        v2::Request { symbols, timeseries }.encode_to_vec()
    })
}

/// Bytes changed, cut out and doubled at random places.
fn damaged(request: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let wound = (any::<prop::sample::Index>(), prop_oneof![any::<u8>(), 0_u8..32], 0..3);
    (request, vec(wound, 1..4)).prop_map(|(mut raw, wounds)| {
        for (place, byte, what) in &wounds {
            if raw.is_empty() {
                break;
            }
            let at = place.index(raw.len());
            match what {
                0 => raw[at] = *byte,
                1 => drop(raw.remove(at)),
                _ => raw.insert(at, *byte),
            }
        }
        raw
    })
}

/// Both say the same, or both refuse. The one exception: prost skips groups, which we refuse.
fn agrees(protocol: Protocol, raw: Vec<u8>) -> Result<(), TestCaseError> {
    let oracle = match protocol {
        Protocol::V1 => v1::WriteRequest::decode(&raw[..]).map(|request| Outcome::of_v1(&request)),
        Protocol::V2 => v2::Request::decode(&raw[..]).map(|request| Outcome::of_v2(&request)),
    };
    match (decode(protocol, raw, &limits(), LATEST), oracle) {
        (Ok(ours), Ok(oracle)) => prop_assert_eq!(Outcome::of(&ours), oracle),
        (Ok(_), Err(error)) => prop_assert!(false, "prost refuses what we accept: {error}"),
        (Err(error), Ok(_)) => {
            let is_group = matches!(error, Malformed::Syntax(SyntaxError::Group { .. }));
            prop_assert!(is_group, "prost accepts what we refuse: {error}");
        }
        (Err(_), Err(_)) => {}
    }
    Ok(())
}

/// Every request that a sender can build comes to what the rules, read plainly, make of prost's reading.
#[test]
fn requests_come_to_what_the_rules_say() {
    let config = ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(one in a_v1_request(), two in a_v2_request())| {
        agrees(Protocol::V1, one)?;
        agrees(Protocol::V2, two)?;
    });
}

/// Damage never panics, and what is still protobuf to us is so to prost, with the same content.
#[test]
fn damaged_requests_are_read_as_prost_reads_them_or_refused() {
    let config = ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(one in damaged(a_v1_request()), two in damaged(a_v2_request()))| {
        agrees(Protocol::V1, one)?;
        agrees(Protocol::V2, two)?;
    });
}

/// The generators reach every reason of refusal, so that the properties above speak of all of them.
#[test]
fn generated_requests_reach_every_refusal() {
    use promantis::wire::decode::Refusal;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut reached = BTreeMap::new();
    for _ in 0..2_000 {
        let one = (Protocol::V1, a_v1_request().new_tree(&mut runner).unwrap().current());
        let two = (Protocol::V2, a_v2_request().new_tree(&mut runner).unwrap().current());
        for (protocol, raw) in [one, two] {
            let decoded = decode(protocol, raw, &limits(), LATEST).unwrap();
            for (refusal, _) in decoded.refused.tallies() {
                *reached.entry(refusal).or_insert(0) += 1;
            }
        }
    }
    for refusal in Refusal::ALL {
        assert!(reached.get(&refusal).is_some_and(|count| *count > 0), "{} is not reached", refusal.name());
    }
}

/// The same for histograms: good ones and bad ones of every kind.
#[test]
fn generated_histograms_are_good_and_bad() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut reached = BTreeMap::new();
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
