//! What it costs to judge one observation and to learn it, method by method and all together.
//!
//! `cargo bench --bench detectors`. One signal stays in the cache; of 100,000 in turn, each comes from memory, as in
//! a server.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use promantis::engine::bank::Bank;
use promantis::engine::baseline::HourOfWeek;
use promantis::engine::detect::short_memory::ShortMemory;
use promantis::engine::detect::window::Window;
use promantis::engine::detect::zscore::ZScore;
use promantis::engine::detect::{Detector, iqr, mad, rolling_zscore};
use promantis::engine::monitor::Monitor;
use promantis::series::Sample;

const START_MS: i64 = 1_767_571_200_000;
const STEP_MS: i64 = 15_000;
const COLD_SERIES: u64 = 100_000;

/// From noise in 0..1000 to an observation.
type Kind = fn(u64) -> f64;

/// What signals are made of: each asks for another form of memory.
const KINDS: [(&str, Kind); 4] = [
    ("counts", |noise| 100.0 + (noise % 64) as f64),
    ("rates", |noise| noise as f64 / 15.0),
    ("bytes", |noise| 8e9 + (noise * 262_157) as f64),
    ("floats", |noise| (noise as f64).sin()),
];

/// Sample `step` of a signal.
fn sample(step: u64, kind: Kind) -> Sample {
    let noise = (step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % 1000;
    Sample { timestamp: START_MS + step as i64 * STEP_MS, value: kind(noise) }
}

fn detectors(criterion: &mut Criterion) {
    for (name, kind) in KINDS {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        let (mut memory, mut window) = (ShortMemory::default(), Window::default());
        (0..64).for_each(|step| memory.learn(sample(step, kind).value));
        (0..64).for_each(|step| window.learn(sample(step, kind).value));
        windowed(&mut group, &memory);
        in_turn(&mut group, "memory learns", kind, |sample| memory.learn(sample.value));
        in_turn(&mut group, "window of floats learns", kind, |sample| window.learn(sample.value));
        let (mut zscore, mut baseline) = (ZScore::default(), HourOfWeek::default());
        single(&mut group, "zscore", kind, &mut zscore);
        single(&mut group, "baseline", kind, &mut baseline);
        group.finish();
    }
}

/// Asks for the summary of a memory, and each method for its verdict on it.
fn windowed(group: &mut BenchmarkGroup<'_, WallTime>, memory: &ShortMemory) {
    group.bench_function("memory is asked", |bench| bench.iter(|| black_box(memory).summary()));
    let summary = memory.summary().expect("it learned enough");
    let methods = [
        ("rolling_zscore judges", rolling_zscore::judge as fn(&_, _) -> _),
        ("mad judges", mad::judge),
        ("iqr judges", iqr::judge),
    ];
    for (name, judge) in methods {
        group.bench_function(name, |bench| bench.iter(|| judge(black_box(&summary), black_box(1.0))));
    }
}

fn single(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, kind: Kind, detector: &mut impl Detector) {
    in_turn(group, &format!("{name} learns"), kind, |sample| detector.learn(sample));
    group.bench_function(format!("{name} judges"), |bench| {
        bench.iter(|| black_box(&*detector).score(black_box(sample(7, kind))));
    });
}

/// Gives `act` one sample after the other.
fn in_turn(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, kind: Kind, mut act: impl FnMut(Sample)) {
    let mut step = 64;
    group.bench_function(name, |bench| {
        bench.iter(|| {
            step += 1;
            act(black_box(sample(step, kind)));
        });
    });
}

/// All methods of `profile: fast`, one signal again and again, and many in turn.
fn banks(criterion: &mut Criterion) {
    let plan = promantis::config::parse("").expect("everything has a default").plan;
    let monitor = &plan.monitors[0];
    for (name, kind) in KINDS {
        let mut group = criterion.benchmark_group(format!("bank of {name}"));
        group.throughput(Throughput::Elements(1));
        let mut bank = taught(monitor, kind);
        in_turn(&mut group, "hot", kind, |sample| both(&mut bank, sample, monitor));
        let mut banks: Vec<_> = (0..COLD_SERIES).map(|_| taught(monitor, kind)).collect();
        group.throughput(Throughput::Elements(COLD_SERIES));
        group.sample_size(10);
        let mut step = 64;
        group.bench_function("cold", |bench| {
            bench.iter_batched(
                || {
                    step += 1;
                    sample(step, kind)
                },
                |sample| banks.iter_mut().for_each(|bank| both(bank, sample, monitor)),
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

fn taught(monitor: &Monitor, kind: Kind) -> Bank {
    let mut bank = Bank::new(monitor);
    (0..64).for_each(|step| bank.learn(sample(step, kind)));
    bank
}

fn both(bank: &mut Bank, sample: Sample, monitor: &Monitor) {
    black_box(bank.score(sample, monitor));
    bank.learn(sample);
}

criterion_group!(benches, detectors, banks);
criterion_main!(benches);
