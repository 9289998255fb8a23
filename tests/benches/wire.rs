//! What each stage between the wire and the engine costs, for a request of 2,000 series with 10 labels.
//!
//! `cargo bench --bench wire`. Divide by 2,000 for a sample; of derived samples there are two for each series.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use promantis::cli::workload::{STEP_MS, Shape, bodies};
use promantis::engine::derive::Output;
use promantis::series::{LabelRun, METRIC_NAME, Sample, Seams, SeriesHash, Woven, push_label};
use promantis::wire::decode::{Limits, Protocol, decode};
use promantis::wire::encode::{PackedBuilder, RequestBuilder, upgrade};
use promantis::wire::snappy;

const SERIES: usize = 2000;
/// Of 2023: timestamps are as long as those of today.
const NOW_MS: i64 = STEP_MS * 113_333_333;
const RAW_BYTES_MAX: usize = 32 << 20;

fn incoming(c: &mut Criterion) {
    let body = bodies(&Shape::Alike.runs(SERIES), SERIES, 7, NOW_MS).remove(0);
    let raw = unpack(&body);
    let raw_v2 = upgrade(&raw).expect("made here");
    let batch = decode(Protocol::V1, raw.clone(), &Limits::default(), i64::MAX).expect("made here").batch;
    let mut group = c.benchmark_group("in");
    group.throughput(Throughput::Elements(SERIES as u64));
    group.bench_function("snappy", |b| b.iter(|| unpack(black_box(&body))));
    group.bench_function("copy", |b| b.iter(|| black_box(&raw).clone()));
    for (name, protocol, raw) in [("v1", Protocol::V1, &raw), ("v2", Protocol::V2, &raw_v2)] {
        group.bench_function(format!("copy, decode {name}"), |b| {
            b.iter(|| decode(protocol, black_box(raw).clone(), &Limits::default(), i64::MAX));
        });
    }
    group.bench_function("hash", |b| {
        b.iter(|| batch.iter().fold(0, |all, series| all ^ SeriesHash::of(series.labels).low()));
    });
    group.finish();
}

fn outgoing(c: &mut Criterion) {
    let names = [Output::Score.name_label(), Output::Flag.name_label()];
    let runs: Vec<_> = Shape::Alike.runs(SERIES).iter().map(|run| derived(run)).collect();
    let value =
        |number: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1_u64 << 53) as f64;
    let mut plain = RequestBuilder::new();
    let mut packed = PackedBuilder::new();
    let mut group = c.benchmark_group("out");
    group.throughput(Throughput::Elements(2 * SERIES as u64));
    group.bench_function("encode, then compress", |b| {
        b.iter(|| {
            for (run, value) in runs.iter().zip((0..).map(value)) {
                for (name, value) in names.iter().zip([value, 0.0]) {
                    plain.push(&[name, run], Sample { timestamp: NOW_MS, value });
                }
            }
            snappy::compress(&plain.finish())
        });
    });
    for (name, shape) in [("encode compressed", Shape::Alike), ("encode compressed, mixed", Shape::Mixed)] {
        let runs = shape.runs(SERIES);
        let woven = |run| {
            let source = LabelRun::from_canonical(run);
            let seams = Seams::of(source).expect("a source without labels of ours");
            Woven { source, seams, monitor: "default", stat: "" }
        };
        let woven: Vec<_> = runs.iter().map(|run| woven(run)).collect();
        group.bench_function(name, |b| {
            b.iter(|| {
                for (woven, value) in woven.iter().zip((0..).map(value)) {
                    packed.weave(woven, &[(names[0], value), (names[1], 0.0)], NOW_MS);
                }
                packed.finish()
            });
        });
    }
    group.finish();
}

fn unpack(body: &[u8]) -> Vec<u8> {
    snappy::decompress(body, RAW_BYTES_MAX).expect("made here")
}

/// The labels of `run` but its metric's name.
fn derived(run: &[u8]) -> Vec<u8> {
    let mut derived = Vec::new();
    for label in LabelRun::from_canonical(run).iter().filter(|label| label.name != METRIC_NAME) {
        push_label(&mut derived, label.name.as_bytes(), label.value.as_bytes());
    }
    derived
}

criterion_group!(benches, incoming, outgoing);
criterion_main!(benches);
