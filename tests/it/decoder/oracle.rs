//! The decoder against prost and a plain reading of its rules.

use std::collections::BTreeMap;

use promantis::series::{LabelRunBuf, MetricKind, SeriesHash};
use promantis::wire::SyntaxError;
use promantis::wire::decode::{Decoded, LABELS_ABSURD, Limits, Malformed, Protocol, Tally, decode};
use promantis::wire::prompb::{v1, v2};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::any_histogram::{a_histogram, is_valid};

const LATEST: i64 = 1_700_000_000_000;

type Label = (Vec<u8>, Vec<u8>);

/// Cluster and replica.
type Source = (String, String);

/// Hash, labels in words, samples with the bits of their values, type, who sent it.
type Accepted = (SeriesHash, String, Vec<(i64, u64)>, MetricKind, Option<Source>);

/// What a request comes to, in a form that can be compared.
#[derive(Default, PartialEq, Debug)]
struct Outcome {
    series: Vec<Accepted>,
    samples: u64,
    histograms: u64,
    exemplars: u64,
    refused: BTreeMap<&'static str, Tally>,
    metadata: Vec<(String, MetricKind)>,
    /// Each once, in the order of the request.
    sources: Vec<Source>,
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
        name_bytes_max: 11,
        value_bytes_max: 200,
        label_bytes_max: 260,
        histogram_buckets_max: 4,
        replicas_max: 2,
        ..Limits::default()
    }
}

impl Outcome {
    fn of(decoded: &Decoded) -> Self {
        let batch = &decoded.batch;
        let bits = |sample: &promantis::series::Sample| (sample.timestamp, sample.value.to_bits());
        let sources: Vec<Source> =
            batch.sources().iter().map(|it| (it.cluster.to_string(), it.replica.to_string())).collect();
        Self {
            series: batch
                .iter()
                .map(|series| {
                    let samples = series.samples.iter().map(bits).collect();
                    let source = series.source.map(|place| sources[place as usize].clone());
                    (series.hash, series.labels.to_string(), samples, series.kind, source)
                })
                .collect(),
            samples: decoded.written.samples,
            histograms: decoded.written.histograms,
            exemplars: decoded.written.exemplars,
            refused: decoded.refused.tallies().map(|(refusal, tally)| (refusal.name(), tally)).collect(),
            metadata: batch.metadata().iter().map(|said| (said.family.to_string(), said.kind)).collect(),
            sources,
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
        let attributed = content.labels.and_then(|labels| {
            let source = source_of(&labels);
            self.remember(source.as_ref()).map(|()| (labels, source))
        });
        let (labels, source) = match attributed {
            Ok(accepted) => accepted,
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
            self.series.push((SeriesHash::of(run), run.to_string(), kept, content.kind, source));
        }
    }

    fn remember(&mut self, source: Option<&Source>) -> Result<(), &'static str> {
        match source {
            Some(source) if !self.sources.contains(source) => {
                if self.sources.len() == limits().replicas_max {
                    return Err("too_many_replicas");
                }
                self.sources.push(source.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn source_of(labels: &[Label]) -> Option<Source> {
    let get = |name: &[u8]| {
        let (_, value) = labels.iter().find(|(known, _)| known == name)?;
        Some(text(value).expect("labels were judged").to_owned())
    };
    let replica = get(b"__replica__").filter(|replica| !replica.is_empty())?;
    Some((get(b"cluster").unwrap_or_default(), replica))
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
    let kept = labels.iter().filter(|(name, _)| name != b"__replica__");
    kept.map(|(name, value)| (checked(name), checked(value))).collect()
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

fn a_name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => Just(b"__name__".to_vec()),
        4 => Just(b"__replica__".to_vec()),
        2 => Just(b"cluster".to_vec()),
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

pub(super) fn a_timestamp() -> impl Strategy<Value = i64> {
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

pub(super) fn a_v1_request() -> impl Strategy<Value = Vec<u8>> {
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

pub(super) fn a_v2_request() -> impl Strategy<Value = Vec<u8>> {
    (vec(prop_oneof![a_name(), a_value()], 0..9), vec(a_v2_series(), 0..5)).prop_map(|(more, timeseries)| {
        let mut symbols = vec![b"".to_vec(), b"__name__".to_vec(), b"up".to_vec()];
        symbols.extend(more);
        v2::Request { symbols, timeseries }.encode_to_vec()
    })
}

/// Bytes changed, cut out and doubled at random places.
pub(super) fn damaged(request: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
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

/// Both say the same, or both refuse. Two exceptions: prost skips groups, which we refuse, and reads on where a series has
/// absurdly many labels.
pub(super) fn agrees(protocol: Protocol, raw: Vec<u8>) -> Result<(), TestCaseError> {
    let max = limits().labels_max * LABELS_ABSURD;
    let oracle = match protocol {
        Protocol::V1 => v1::WriteRequest::decode(&raw[..])
            .map(|it| (Outcome::of_v1(&it), it.timeseries.iter().any(|series| series.labels.len() > max))),
        Protocol::V2 => v2::Request::decode(&raw[..]).map(|it| {
            (Outcome::of_v2(&it), it.timeseries.iter().any(|series| series.labels_refs.len() / 2 > max))
        }),
    };
    match (decode(protocol, raw, &limits(), LATEST), oracle) {
        (Ok(ours), Ok((oracle, is_absurd))) => {
            prop_assert!(!is_absurd, "a series of more than {max} labels is accepted");
            prop_assert_eq!(Outcome::of(&ours), oracle);
        }
        (Ok(_), Err(error)) => prop_assert!(false, "prost refuses what we accept: {error}"),
        (Err(Malformed::AbsurdSeries { .. }), Ok((_, is_absurd))) => {
            prop_assert!(is_absurd, "a series of at most {max} labels is called absurd");
        }
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
    let config = ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(one in a_v1_request(), two in a_v2_request())| {
        agrees(Protocol::V1, one)?;
        agrees(Protocol::V2, two)?;
    });
}

/// Damage never panics, and what is still protobuf to us is so to prost, with the same content.
#[test]
fn damaged_requests_are_read_as_prost_reads_them_or_refused() {
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
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
    for _ in 0..700 {
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
