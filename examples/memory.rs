//! How many bytes a series holds, by kind: not monitored, judged by the last minutes, and by the hours of the week.
//!
//! `cargo run --release --example memory -- [--series 1000000]`
//!
//! Each kind in a process of its own, in which nothing is measured but an engine: resident memory once labels and room
//! for a batch are there, and again after the last batch. Values have two decimals and a daily rhythm. Weeks take a
//! sample a minute of every series, so there are fifty times fewer series. Large pages are asked for, as the server does.

use std::process::Command;
use std::sync::Arc;

use promantis::cli::huge_pages;
use promantis::cli::workload::Shape;
use promantis::engine::derive::Derived;
use promantis::engine::sink::{Judgement, Sink};
use promantis::engine::{Engine, Shard};
use promantis::series::{Batch, LabelRun, MetricKind, Sample};

const BATCH_SERIES: usize = 2000;
/// When the first sample is taken, Unix milliseconds: a Monday at midnight.
const START_MS: i64 = 1_767_571_200_000;
const HOUR_MS: i64 = 3_600_000;
const WEEK_MINUTES: i64 = 7 * 24 * 60;

/// What is known of a series.
struct Kind {
    name: &'static str,
    /// A monitor, as configured.
    monitor: &'static str,
    series: fn(usize) -> usize,
    rounds: i64,
    step_ms: i64,
}

const KINDS: [Kind; 3] = [
    Kind { name: "unmonitored", monitor: "select: none", series: |most| most, rounds: 3, step_ms: 15_000 },
    Kind {
        name: "streaming",
        monitor: "select: '{}', detectors: [zscore, rolling_zscore, mad, iqr]",
        series: |most| most,
        rounds: 80,
        step_ms: 15_000,
    },
    Kind {
        name: "weekly",
        monitor: "select: '{}', profile: fast",
        series: |most| most.div_ceil(50),
        rounds: WEEK_MINUTES + 60,
        step_ms: 60_000,
    },
];

/// Takes nothing.
struct Nobody;

impl Sink for Nobody {
    fn derived(&mut self, _derived: &Derived<'_>) {}

    fn judged(&mut self, _judgement: &Judgement<'_>) {}

    fn ended(&mut self, _signal: u64, _timestamp: i64) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    huge_pages::ask()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => all("1000000"),
        ["--series", series] => all(series),
        [kind, series] => {
            let kind = KINDS.iter().find(|known| known.name == kind).ok_or("no such kind")?;
            measure(kind, (kind.series)(series.parse()?))
        }
        _ => Err("known is `--series`, which takes a number".into()),
    }
}

fn all(series: &str) -> Result<(), Box<dyn std::error::Error>> {
    for kind in &KINDS {
        Command::new(std::env::current_exe()?).args([kind.name, series]).status()?;
    }
    Ok(())
}

fn measure(kind: &Kind, series: usize) -> Result<(), Box<dyn std::error::Error>> {
    let yaml = format!(
        "limits: {{series_max: {series}, new_series_per_second: {series}}}\nmonitors: [{{name: m, {}}}]",
        kind.monitor
    );
    let plan = promantis::config::parse(&yaml)?.plan;
    let runs = Shape::Alike.runs(series);
    // What a batch takes, and gives back, is taken once before.
    drop(batch(&runs, 0, START_MS, 0));
    let before = resident_bytes();
    let mut engine = Engine::new(Shard { index: 0, count: 1 }, Arc::clone(&plan));
    for round in 0..kind.rounds {
        let now = START_MS + round * kind.step_ms;
        for first in (0..series).step_by(BATCH_SERIES) {
            engine.ingest(&batch(&runs, first, now, round), now, &mut Nobody);
        }
    }
    let resident = (resident_bytes() - before) as f64 / series as f64;
    let counted = engine.heap_bytes() / series;
    println!("{:12} {series:8} series: {resident:7.1} bytes resident, {counted:5} by count", kind.name);
    Ok(())
}

fn batch(runs: &[Box<[u8]>], first: usize, timestamp: i64, round: i64) -> Batch {
    let mut batch = Batch::default();
    batch.reserve(BATCH_SERIES);
    for (number, run) in runs.iter().enumerate().skip(first).take(BATCH_SERIES) {
        let sample = Sample { timestamp, value: value(number as i64, timestamp, round) };
        batch.push(LabelRun::from_canonical(run), MetricKind::Gauge, &[sample]);
    }
    batch
}

/// Noise of ten around a hundred, which doubles towards noon.
fn value(number: i64, timestamp: i64, round: i64) -> f64 {
    let noise = number.wrapping_mul(2_654_435_761) ^ round.wrapping_mul(40_503);
    let from_noon = (timestamp.rem_euclid(24 * HOUR_MS) - 12 * HOUR_MS).abs();
    (20_000 - 10_000 * from_noon / (12 * HOUR_MS) + noise.rem_euclid(1000)) as f64 / 100.0
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("status has VmRSS");
    let kib: usize = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("VmRSS in KiB");
    kib * 1024
}
