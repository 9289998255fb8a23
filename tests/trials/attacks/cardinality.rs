//! Ten million series where a hundred thousand are allowed.

use std::time::{Duration, Instant};

use promantis::wire::prompb::v1::WriteRequest;
use prost::Message;

use super::client::{Connection, V1, now_ms, post, series, snappy};
use super::figures::mib;
use super::sink::RemoteEnd;
use super::victim::Victim;

const FLOOD: u64 = 10_000_000;
const SERIES_MAX: u64 = 100_000;
/// Known series, which come with every request.
const KNOWN: u64 = 100;
/// New series of a request; with the known ones, as many as a request may have.
const PER_REQUEST: u64 = 49_900;
const MEMORY_MAX: u64 = 512 << 20;
/// How long judgement and delivery may take once all was sent.
const PATIENCE: Duration = Duration::from_secs(60);

const MONITORS: &str = "
limits: {series_max: 100000, new_series_per_second: 100000}
journal: {path: memory, max_bytes: 64MiB}
monitors:
  - {name: all, select: '{}'}
  - {name: known, select: known, detectors: [static], static: {upper: 5}}
";

/// Writes series that differ in eight digits.
struct Flood {
    template: Vec<u8>,
    digits: usize,
    next: u64,
}

impl Flood {
    fn new() -> Self {
        let one = series(&[("__name__", "flood"), ("id", "00000000"), ("job", "attack")], 1.0, now_ms());
        let template = WriteRequest { timeseries: vec![one], metadata: Vec::new() }.encode_to_vec();
        let digits = template.windows(8).position(|eight| eight == b"00000000").expect("it has an id");
        Self { template, digits, next: 0 }
    }

    /// Appends `count` series that were never sent before.
    fn append(&mut self, count: u64, raw: &mut Vec<u8>) {
        for _ in 0..count {
            let mut rest = self.next;
            for digit in self.template[self.digits..self.digits + 8].iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
                rest /= 10;
            }
            raw.extend_from_slice(&self.template);
            self.next += 1;
        }
    }
}

fn known(round: i64, start: i64, raw: &mut Vec<u8>) {
    let one = |index| series(&[("__name__", "known"), ("host", &format!("h{index}"))], 1.0, start + round);
    let request = WriteRequest { timeseries: (0..KNOWN).map(one).collect(), metadata: Vec::new() };
    raw.extend(request.encode_to_vec());
}

/// Posts until it is taken, which a full journal may delay; tells how often it was told to come again.
fn post_until_taken(victim: &Victim, connection: &mut Connection, raw: &[u8]) -> u64 {
    let request = post(V1, &snappy(raw));
    for refused in 0.. {
        let reply = connection.post(&request);
        if reply.status == 204 {
            return refused;
        }
        assert_eq!(reply.status, 503, "{}", reply.body);
        std::thread::park_timeout(Duration::from_millis(50));
        // One that is refused before its body was read leaves no connection for another.
        *connection = Connection::open(victim.addr);
    }
    unreachable!("the loop ends with an answer")
}

#[test]
fn attack_cardinality() {
    let _alone = super::alone();
    let flood_count = super::count("PROMANTIS_SERIES", FLOOD);
    let sink = RemoteEnd::start();
    let victim = Victim::promantis(&(sink.target("") + MONITORS));
    let mut connection = Connection::open(victim.addr);
    let (mut flood, started, start) = (Flood::new(), Instant::now(), now_ms());
    let (mut rounds, mut come_again) = (0, 0);
    while rounds == 0 || flood.next < flood_count {
        let mut raw = Vec::new();
        known(rounds, start, &mut raw);
        if rounds > 0 {
            flood.append(PER_REQUEST.min(flood_count - flood.next), &mut raw);
        }
        come_again += post_until_taken(&victim, &mut connection, &raw);
        rounds += 1;
    }
    let excess = (flood_count + KNOWN).saturating_sub(SERIES_MAX);
    let judged = KNOWN as usize * rounds as usize * 2;
    let deadline = Instant::now() + PATIENCE;
    let counted = || victim.metric("promantis_samples_skipped_total{reason=\"series_limit\"}");
    while (sink.count("monitor=\"known\"") < judged || counted() < excess as f64) && Instant::now() < deadline
    {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let wall = started.elapsed();
    let samples = victim.metric("promantis_samples_received_total");
    println!(
        "attack_cardinality: {flood_count} series in {rounds} requests, {wall:.1?}, {:.0} samples/s, {:.1?} of CPU; \
         {come_again} times 503; memory {} now, {} at most",
        samples / wall.as_secs_f64(),
        victim.cpu(),
        mib(victim.resident()),
        mib(victim.peak()),
    );
    assert_eq!(counted(), excess as f64, "samples of series beyond the limit");
    assert_eq!(sink.count("monitor=\"known\""), judged, "score and flag of each known sample");
    assert_eq!(samples, (flood_count + KNOWN * rounds as u64) as f64);
    assert!(victim.peak() <= MEMORY_MAX, "memory grew to {}", mib(victim.peak()));
}
