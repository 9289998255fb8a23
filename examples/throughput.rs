//! How many samples one core takes, stage by stage, and how many bytes a series holds.
//!
//! `cargo run --release --example throughput -- [--series 10000] [--rounds 20] [--labels alike|mixed]`
//!
//! One thread, in process, no network. Each series sends one sample per round, in requests of 2,000 series: with ten
//! labels of one shape, or family after family of many targets. Buffers are used again and large pages asked for, as the server does. Times are
//! of the thread's own CPU, and of each stage the fastest round after a warm-up counts, because machines are shared;
//! `prost` is decoded in the same run as the yardstick.

use std::sync::Arc;

use clap::ValueEnum;
use prost::Message;
use rustix::time::{ClockId, clock_gettime};

use promantis::cli::huge_pages;
use promantis::cli::workload::{STEP_MS, Shape, bodies};
use promantis::engine::derive::{Derived, Labels};
use promantis::engine::sink::{Judgement, Sink};
use promantis::engine::{Engine, Shard};
use promantis::series::Batch;
use promantis::wire::decode::{Limits, Protocol, decode_over};
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
        let &Derived { labels, outputs, timestamp } = derived;
        if let Some(builder) = &mut self.builder {
            match labels {
                Labels::Woven(woven) => builder.weave(woven, outputs, timestamp),
                Labels::Parts(before, after) => builder.push((before, after), outputs, timestamp),
            }
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

/// Unpacks `body` into the buffer of `room`, a batch that was used before.
fn unpack(body: &[u8], room: &mut Batch) {
    room.recycle();
    snappy::decompress_into(body, 32 << 20, room.bytes_mut()).expect("the request was made here");
}

fn decoded(room: &mut Batch) {
    let decoded = decode_over(Protocol::V1, std::mem::take(room), &Limits::default(), i64::MAX);
    *room = decoded.expect("the request was made here").batch;
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    huge_pages::ask()?;
    let Options { series, rounds, shape } = options()?;
    let yaml = format!("limits: {{series_max: {series}, new_series_per_second: {series}}}");
    let plan = promantis::config::parse(&yaml)?.plan;
    let runs = shape.runs(series);
    println!(
        "{series} series, {rounds} rounds, requests of {REQUEST_SERIES}, {shape:?} labels, `profile: fast`"
    );

    let mut fastest = [u64::MAX; 4];
    let before = resident_bytes();
    let mut engine = Engine::new(Shard { index: 0, count: 1 }, Arc::clone(&plan));
    let mut room = Batch::default();
    let mut whole = Egress { builder: Some(PackedBuilder::new()), bytes: 0 };
    for round in 0..WARM_UP + rounds {
        let now = START_MS + round * STEP_MS;
        let bodies = bodies(&runs, REQUEST_SERIES, round, now);
        let measured = round >= WARM_UP;
        let emit = measured && round % 2 == 0;
        if measured {
            let ours = time(&bodies, &mut room, decoded);
            fastest[1] = fastest[1].min(ours);
        }
        let mut quiet = Egress { builder: None, bytes: 0 };
        let sink = if emit { &mut whole } else { &mut quiet };
        let judged = time(&bodies, &mut room, |batch| {
            decoded(batch);
            engine.ingest(batch, now, sink);
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
        let prost = time(&bodies, &mut room, |raw| drop(prompb::v1::WriteRequest::decode(raw.bytes())));
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
fn time(bodies: &[Vec<u8>], room: &mut Batch, mut take: impl FnMut(&mut Batch)) -> u64 {
    let start = cpu_ns();
    for body in bodies {
        unpack(body, room);
        take(room);
    }
    cpu_ns() - start
}

struct Options {
    series: usize,
    rounds: i64,
    shape: Shape,
}

fn options() -> Result<Options, String> {
    let mut options = Options { series: 10_000, rounds: 20, shape: Shape::Alike };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        let number = || value.parse().ok().filter(|number: &u32| *number > 0);
        let number = || number().ok_or(format!("{name} takes a number above 0"));
        match name.as_str() {
            "--series" => options.series = number()? as usize,
            "--rounds" => options.rounds = i64::from(number()?.max(2)),
            "--labels" => options.shape = Shape::from_str(&value, false)?,
            _ => return Err(format!("unknown option {name}; known are --series, --rounds and --labels")),
        }
    }
    Ok(options)
}
