//! How many samples one core takes, stage by stage, and how many bytes a series holds.
//!
//! `cargo run --release --example throughput -- [--series 10000] [--rounds 20]`
//!
//! One thread, in process, no network. Each series sends one sample per round, in requests of 2,000 series
//! with 10 labels, as Prometheus does. Times are of the thread's own CPU, and of each stage the fastest round
//! after a warm-up counts, because machines are shared; `prost` is decoded in the same run as the yardstick.

use std::sync::Arc;

use prost::Message;
use rustix::time::{ClockId, clock_gettime};

use promantis::cli::workload::{STEP_MS, bodies, label_runs};
use promantis::engine::derive::Derived;
use promantis::engine::sink::{Judgement, Sink};
use promantis::engine::{Engine, Shard};
use promantis::wire::decode::{Limits, Protocol, decode};
use promantis::wire::encode::PackedBuilder;
use promantis::wire::{prompb, snappy};

const REQUEST_SERIES: usize = 2000;
/// Rounds before the clock counts: the windows of the detectors fill.
const WARM_UP: i64 = 64;
/// When the first sample is taken, Unix milliseconds: timestamps are as long as those of today.
const START_MS: i64 = 1_700_000_000_000;

/// Encodes score and flag, or drops them.
struct Egress {
    builder: Option<PackedBuilder>,
    bytes: usize,
}

impl Egress {
    fn flush(&mut self) {
        if let Some(builder) = self.builder.as_mut().filter(|builder| !builder.is_empty()) {
            self.bytes += builder.finish().len();
        }
    }
}

impl Sink for Egress {
    fn derived(&mut self, derived: &Derived<'_>) {
        let &Derived { before, after, outputs, timestamp } = derived;
        if let Some(builder) = &mut self.builder {
            builder.push((before, after), outputs, timestamp);
            if builder.samples() >= REQUEST_SERIES {
                self.flush();
            }
        }
    }

    fn judged(&mut self, _judgement: &Judgement<'_>) {}

    fn ended(&mut self, _signal: u64, _timestamp: i64) {}
}

/// CPU time of this thread in nanoseconds.
fn cpu_ns() -> u64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    spent.tv_sec as u64 * 1_000_000_000 + spent.tv_nsec as u64
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("status has VmRSS");
    let kib: usize = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("VmRSS in KiB");
    kib * 1024
}

fn unpack(body: &[u8]) -> Vec<u8> {
    snappy::decompress(body, 32 << 20).expect("the request was made here")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (series, rounds) = options()?;
    let yaml = format!("limits: {{series_max: {series}, new_series_per_second: {series}}}");
    let plan = promantis::config::parse(&yaml)?.plan;
    let runs = label_runs(series);
    println!("{series} series, {rounds} rounds, requests of {REQUEST_SERIES}, 10 labels, `profile: fast`");

    let mut fastest = [u64::MAX; 4];
    let before = resident_bytes();
    let mut engine = Engine::new(Shard { index: 0, count: 1 }, Arc::clone(&plan));
    let mut whole = Egress { builder: Some(PackedBuilder::new()), bytes: 0 };
    for round in 0..WARM_UP + rounds {
        let now = START_MS + round * STEP_MS;
        let bodies = bodies(&runs, REQUEST_SERIES, round, now);
        let measured = round >= WARM_UP;
        let emit = measured && round % 2 == 0;
        if measured {
            let ours = time(&bodies, |raw| drop(decode(Protocol::V1, raw, &Limits::default(), i64::MAX)));
            fastest[1] = fastest[1].min(ours);
        }
        let mut quiet = Egress { builder: None, bytes: 0 };
        let sink = if emit { &mut whole } else { &mut quiet };
        let judged = time(&bodies, |raw| {
            let decoded = decode(Protocol::V1, raw, &Limits::default(), i64::MAX).expect("made here");
            engine.ingest(&decoded.batch, now, sink);
            sink.flush();
        });
        if measured {
            let stage = if emit { 3 } else { 2 };
            fastest[stage] = fastest[stage].min(judged);
        }
    }
    let resident = (resident_bytes() - before) / series;
    // Last, since it leaves the heap in pieces, and who asks for much then has to put them together.
    for round in 0..rounds {
        let bodies = bodies(&runs, REQUEST_SERIES, round, START_MS + round * STEP_MS);
        let prost = time(&bodies, |raw| drop(prompb::v1::WriteRequest::decode(&*raw)));
        fastest[0] = fastest[0].min(prost);
    }
    let names = ["prost decode", "decode", "decode, judge", "decode, judge, encode score and flag"];
    for (name, ns) in names.iter().zip(fastest) {
        let each = ns as f64 / series as f64;
        let ratio = fastest[0] as f64 / ns as f64;
        println!("{name:38} {each:7.0} ns/sample {:6.2} M samples/s/core  {ratio:5.1} x prost", 1e3 / each);
    }
    println!("bytes per series: {} on the heap by count, {resident} resident", engine.heap_bytes() / series);
    println!(
        "score and flag took {} bytes on the wire per sample in",
        whole.bytes as i64 / (series as i64 * ((rounds + 1) / 2))
    );
    Ok(())
}

/// CPU nanoseconds to unpack all bodies and give each to `take`.
fn time(bodies: &[Vec<u8>], mut take: impl FnMut(Vec<u8>)) -> u64 {
    let start = cpu_ns();
    for body in bodies {
        take(unpack(body));
    }
    cpu_ns() - start
}

fn options() -> Result<(usize, i64), String> {
    let (mut series, mut rounds) = (10_000, 20);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok()).filter(|value| *value > 0);
        let value: u32 = value.ok_or(format!("{name} takes a number above 0"))?;
        match name.as_str() {
            "--series" => series = value as usize,
            "--rounds" => rounds = i64::from(value.max(2)),
            _ => return Err(format!("unknown option {name}; known are --series and --rounds")),
        }
    }
    Ok((series, rounds))
}
