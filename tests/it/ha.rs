//! Pairs of Prometheus: requests of two replicas in, what is derived of one out.

use std::sync::Arc;

use promantis::engine::transform::Skip;
use promantis::engine::{Counts, Engine, Shard};
use promantis::series::{Batch, SeriesHash};
use promantis::wire::decode::{Decoded, Limits, Protocol, decode};
use promantis::wire::prompb::v1;
use prost::Message;

use crate::support::client::V2Body;
use crate::support::written::Written;

const BOTH: [Protocol; 2] = [Protocol::V1, Protocol::V2];
const SHARDS: usize = 2;
const STEP_MS: i64 = 15_000;

/// Labels, a timestamp and a value.
type Row<'a> = (&'a [(&'a str, &'a str)], i64, f64);

fn raw(protocol: Protocol, rows: &[Row<'_>]) -> Vec<u8> {
    match protocol {
        Protocol::V1 => {
            let label = |&(name, value): &(&str, &str)| v1::Label { name: name.into(), value: value.into() };
            let timeseries = rows.iter().map(|&(labels, timestamp, value)| v1::TimeSeries {
                labels: labels.iter().map(label).collect(),
                samples: vec![v1::Sample { value, timestamp }],
                ..Default::default()
            });
            v1::WriteRequest { timeseries: timeseries.collect(), metadata: vec![] }.encode_to_vec()
        }
        Protocol::V2 => {
            let mut body = V2Body::new();
            for &(labels, timestamp, value) in rows {
                let sample = promantis::wire::prompb::v2::Sample { value, timestamp, start_timestamp: 0 };
                body.series(labels).samples.push(sample);
            }
            body.request.encode_to_vec()
        }
    }
}

fn decoded(protocol: Protocol, rows: &[Row<'_>]) -> Decoded {
    decode(protocol, raw(protocol, rows), &Limits::default(), i64::MAX).expect("a request within the limits")
}

fn batch(protocol: Protocol, rows: &[Row<'_>]) -> Batch {
    let decoded = decoded(protocol, rows);
    assert_eq!(decoded.refused.message(), None);
    decoded.batch
}

/// Cluster and replica of each series in words, or `-`.
fn senders(batch: &Batch) -> String {
    let words = |place: u32| {
        let source = &batch.sources()[place as usize];
        format!("{}/{}", source.cluster, source.replica)
    };
    let each = batch.iter().map(|series| series.source.map_or("-".to_owned(), words));
    each.collect::<Vec<_>>().join(" ")
}

/// All shards, and what they wrote.
struct Bench {
    engines: Vec<Engine>,
    written: Written,
}

impl Bench {
    fn new(config: &str) -> Self {
        let plan = promantis::config::parse(config).expect("the configuration is right").plan;
        let engine = |index| Engine::new(Shard { index, count: SHARDS }, Arc::clone(&plan));
        Self { engines: (0..SHARDS).map(engine).collect(), written: Written::default() }
    }

    /// Samples judged and samples skipped because of their replica.
    fn ingest(&mut self, batch: &Batch, arrival: i64) -> (u64, u64) {
        let written = &mut self.written;
        let counts = self.engines.iter_mut().map(|engine| engine.ingest(batch, arrival, written));
        counts.fold((0, 0), |(judged, skipped), counts: Counts| {
            (judged + counts.judged, skipped + counts.skipped_for(Skip::Replica))
        })
    }

    fn series_count(&self) -> usize {
        self.engines.iter().map(Engine::series_count).sum()
    }
}

#[test]
fn the_replica_is_no_part_of_a_series() {
    let plain: &[(&str, &str)] = &[("A", "0"), ("__name__", "up"), ("cluster", "eu"), ("job", "api")];
    let alone = batch(Protocol::V1, &[(plain, 0, 1.0)]);
    let alone = alone.iter().next().expect("one series");
    let replica = ("__replica__", "a");
    let spellings: [&[(&str, &str)]; 4] = [
        &[("A", "0"), ("__name__", "up"), replica, ("cluster", "eu"), ("job", "api")],
        &[("job", "api"), replica, ("cluster", "eu"), ("A", "0"), ("__name__", "up")],
        &[("A", "0"), ("__name__", "up"), replica, ("cluster", "eu"), ("empty", ""), ("job", "api")],
        plain,
    ];
    for protocol in BOTH {
        let rows: Vec<Row<'_>> = [spellings, spellings].concat().iter().map(|&it| (it, 0, 1.0)).collect();
        let batch = batch(protocol, &rows);
        assert_eq!(senders(&batch), "eu/a eu/a eu/a - eu/a eu/a eu/a -", "{protocol:?}");
        for series in batch.iter() {
            assert_eq!(series.labels.to_string(), alone.labels.to_string());
            assert_eq!((series.labels, series.hash), (alone.labels, SeriesHash::of(alone.labels)));
        }
    }
}

#[test]
fn what_stands_in_order_stays_in_the_request() {
    let rows: [Row<'_>; 2] = [
        (&[("__name__", "up"), ("__replica__", "a"), ("cluster", "eu")], 1, 1.0),
        (&[("__replica__", "b"), ("name", "x"), ("z", "y")], 2, 2.0), // Has no name, and is refused.
    ];
    let decoded = decoded(Protocol::V1, &rows);
    assert_eq!(decoded.batch.bytes().len(), raw(Protocol::V1, &rows).len());
    assert_eq!((senders(&decoded.batch), decoded.written.samples), ("eu/a".to_owned(), 1));
    assert_eq!(decoded.batch.sources().len(), 1, "a refused series names nobody");
}

#[test]
fn an_empty_label_is_none() {
    for protocol in BOTH {
        let batch = batch(
            protocol,
            &[
                (&[("__name__", "up"), ("__replica__", ""), ("cluster", "eu")], 1, 1.0),
                (&[("__name__", "up"), ("__replica__", "a"), ("cluster", "")], 1, 1.0),
                (&[("__name__", "up"), ("__replica__", "a")], 1, 1.0),
                (&[("__name__", "up"), ("cluster", "eu")], 1, 1.0),
            ],
        );
        assert_eq!(senders(&batch), "- /a /a -", "{protocol:?}");
        assert_eq!(batch.sources().len(), 1);
    }
}

/// A sender cannot make a request remember more than a thousand replicas; their series are named.
#[test]
fn a_replica_too_many_costs_its_series() {
    let names: Vec<_> = (0..1001).map(|number| format!("r{number}")).collect();
    let labels: Vec<_> = names.iter().map(|name| [("__name__", "up"), ("__replica__", name)]).collect();
    let mut rows: Vec<Row<'_>> = labels.iter().map(|labels| (&labels[..], 1, 1.0)).collect();
    rows.push((&labels[0], 2, 2.0));
    for protocol in BOTH {
        let decoded = decoded(protocol, &rows);
        assert_eq!((decoded.written.samples, decoded.batch.sources().len()), (1001, 1000));
        let refused: Vec<_> = decoded.refused.iter().collect();
        assert_eq!(refused, [("too_many_replicas", 1)]);
        let message = decoded.refused.message().unwrap_or_default();
        assert!(message.contains("series 1001 {__name__=\"up\""), "{message}");
        assert!(message.contains("`replicas_max` of 1000"), "{message}");
    }
}

/// The values of one sine with a fault, as a replica that scrapes `late` milliseconds later than the first sees it.
fn rows_of(round: i64, late: i64, labels: &[[(&'static str, &'static str); 4]]) -> Vec<(usize, i64, f64)> {
    let value = |number: usize| {
        let fault = if (120..130).contains(&round) { 50.0 } else { 0.0 };
        10.0 + ((round * STEP_MS + late) as f64 / 60_000.0 + number as f64).sin() + fault
    };
    (0..labels.len()).map(|number| (number, round * STEP_MS + late, value(number))).collect()
}

#[test]
fn both_replicas_together_come_to_the_same_bytes_as_one_alone() {
    let names = ["load", "heat", "queue", "depth", "requests_total"];
    let of = |replica| {
        names.map(|name| [("__name__", name), ("__replica__", replica), ("cluster", "eu"), ("z", "z")])
    };
    let (a, b) = (of("a"), of("b"));
    let config = "monitors: [{name: m, warm_up: 20, window: {trigger: 0s, recovery: 0s}, emit: [score, flag, expected]}]";
    let send =
        |bench: &mut Bench, protocol, round: i64, late: i64, labels: &[[(&'static str, &'static str); 4]]| {
            let rows = rows_of(round, late, labels);
            let rows: Vec<Row<'_>> =
                rows.iter().map(|&(number, at, value)| (&labels[number][..], at, value)).collect();
            bench.ingest(&batch(protocol, &rows), round * STEP_MS + late)
        };
    for protocol in BOTH {
        let (mut alone, mut pair) = (Bench::new(config), Bench::new(config));
        for round in 0..200 {
            let (judged, skipped) = send(&mut alone, protocol, round, 0, &a);
            assert_eq!(send(&mut pair, protocol, round, 0, &a), (judged, skipped));
            assert_eq!(send(&mut pair, protocol, round, 7_000, &b), (0, names.len() as u64));
        }
        assert_eq!(pair.series_count(), names.len());
        assert!(alone.written.0.iter().any(|(labels, _, value)| {
            f64::from_bits(*value) == 1.0 && labels.windows(15).any(|text| text == b"ml_anomaly_flag")
        }));
        assert!(alone.written.0.len() > 200 * names.len());
        assert!(pair.written == alone.written, "{protocol:?}: the second replica shows");
        let mentions = |text: &[u8]| {
            pair.written
                .0
                .iter()
                .filter(|(labels, ..)| labels.windows(text.len()).any(|it| it == text))
                .count()
        };
        assert_eq!((mentions(b"__replica__"), mentions(b"cluster")), (0, pair.written.0.len()));
    }
}

#[test]
fn the_second_replica_carries_on_when_the_first_was_away_for_half_a_minute() {
    let a: &[(&str, &str)] = &[("__name__", "load"), ("__replica__", "a"), ("cluster", "eu")];
    let b: &[(&str, &str)] = &[("__name__", "load"), ("__replica__", "b"), ("cluster", "eu")];
    for protocol in BOTH {
        let mut bench = Bench::new("");
        let mut send = |labels, arrival| bench.ingest(&batch(protocol, &[(labels, arrival, 1.0)]), arrival);
        assert_eq!(send(a, 1_000_000), (1, 0));
        assert_eq!(send(b, 1_000_001), (0, 1));
        assert_eq!(send(b, 1_029_999), (0, 1));
        assert_eq!(send(b, 1_030_000), (1, 0));
        assert_eq!(send(a, 1_030_001), (0, 1));
        assert_eq!(send(b, 1_045_000), (1, 0));
        assert_eq!(bench.series_count(), 1, "the series goes on, and is no new one");
    }
}

/// Where one request holds series of several senders, as behind a proxy, each is judged by its own.
#[test]
fn mixed_requests_are_judged_series_by_series() {
    let rows: [Row<'_>; 6] = [
        (&[("__name__", "one"), ("__replica__", "a"), ("cluster", "eu")], 1000, 1.0),
        (&[("__name__", "two"), ("__replica__", "b"), ("cluster", "us")], 1000, 1.0),
        (&[("__name__", "one"), ("__replica__", "b"), ("cluster", "eu")], 2000, 1.0),
        (&[("__name__", "two"), ("__replica__", "a"), ("cluster", "us")], 2000, 1.0),
        (&[("__name__", "three"), ("cluster", "eu")], 1000, 1.0),
        (&[("__name__", "four"), ("__replica__", "a")], 1000, 1.0),
    ];
    for protocol in BOTH {
        let mut bench = Bench::new("");
        assert_eq!(bench.ingest(&batch(protocol, &rows), 1000), (4, 2), "{protocol:?}");
        assert_eq!(bench.series_count(), 4);
    }
}

/// Each Prometheus sends metadata once a minute, and what it says is true whoever says it.
#[test]
fn metadata_of_the_other_replica_counts() {
    let counter = v1::MetricMetadata { r#type: 1, metric_family_name: b"ticks".into(), ..Default::default() };
    let row = |replica, at, value| {
        raw(
            Protocol::V1,
            &[(&[("__name__", "ticks"), ("__replica__", replica), ("cluster", "eu")], at, value)],
        )
    };
    let mut said = row("b", 2, 2.0);
    v1::WriteRequest { timeseries: vec![], metadata: vec![counter] }
        .encode(&mut said)
        .expect("a vector grows");
    let mut bench = Bench::new("");
    let mut judged = Vec::new();
    for (arrival, raw) in (1..).zip([row("a", 1, 1.0), said, row("a", 3, 3.0), row("a", 4, 4.0)]) {
        let decoded = decode(Protocol::V1, raw, &Limits::default(), i64::MAX).expect("a request");
        judged.push(bench.ingest(&decoded.batch, arrival).0);
    }
    assert_eq!(judged, [1, 0, 0, 1], "the third is the first of a counter");
}

/// A thousand clusters are told apart, and those that went quiet make room.
#[test]
fn clusters_that_went_quiet_for_a_day_make_room() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let names: Vec<_> = (0..1000).map(|number| format!("c{number}")).collect();
    let labels: Vec<_> =
        names.iter().map(|name| [("__name__", "up"), ("__replica__", "a"), ("cluster", name)]).collect();
    let rows: Vec<Row<'_>> = labels.iter().map(|labels| (&labels[..], 0, 1.0)).collect();
    let further = |at| {
        let of = |replica| [("__name__", "load"), ("__replica__", replica), ("cluster", "further")];
        batch(Protocol::V1, &[(&of("a"), at, 1.0), (&of("b"), at + 1, 1.0)])
    };
    let mut bench = Bench::new("");
    assert_eq!(bench.ingest(&batch(Protocol::V1, &rows), 0), (1000, 0));
    assert_eq!(bench.ingest(&further(1), 1), (2, 0), "of a cluster too many all replicas count");
    for engine in &mut bench.engines {
        engine.tick(DAY_MS, &mut bench.written);
    }
    assert_eq!(bench.ingest(&further(DAY_MS), DAY_MS), (1, 1));
}

/// A table of symbols names a long replica as often as it likes; the bytes count as if they were built.
#[test]
fn replicas_named_by_reference_count_as_label_bytes() {
    let replica = "r".repeat(100);
    let labels = [("__name__", "up"), ("__replica__", replica.as_str())];
    let rows: [Row<'_>; 2] = [(&labels, 1, 1.0); 2];
    let built = 2 * (2 + 4 + "__name__up".len() + replica.len());
    let decode = |canonical_bytes_max| {
        let limits = Limits { canonical_bytes_max, ..Limits::default() };
        decode(Protocol::V2, raw(Protocol::V2, &rows), &limits, i64::MAX)
    };
    assert_eq!(decode(built).map(|decoded| decoded.written.samples), Ok(2));
    assert!(decode(built - 1).is_err());
}
