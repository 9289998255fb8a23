//! Nothing leaves ahead of its time, whatever clocks and timestamps do.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use promantis::edge::judge::guard::TimeGuard;
use promantis::edge::limits::ReceiveLimits;
use promantis::engine::derive::Derived;
use promantis::engine::monitor::Plan;
use promantis::engine::sink::{Judgement, Sink};
use promantis::engine::{Engine, Shard};
use promantis::series::{LabelRunBuf, Sample, is_stale_marker, stale_marker};
use promantis::wire::decode::{Limits, Protocol, decode};
use promantis::wire::encode::RequestBuilder;

use super::client::{Connection, now_ms, series, v1};
use super::victim::Victim;

const SCHEDULES: u64 = 10_000_000;
const THREADS: u64 = 2;
/// One schedule of so many is long enough for forecasts.
const LONG_EVERY: u64 = 255;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// How far from the clock a sample may be stamped, milliseconds.
const OFFSETS: [i64; 16] = [
    0,
    0,
    1,
    -1,
    -15_000,
    -HOUR,
    -DAY,
    30_000,
    MINUTE - 1,
    MINUTE,
    MINUTE + 1,
    9 * MINUTE,
    10 * MINUTE,
    10 * MINUTE + 1,
    61 * MINUTE,
    DAY,
];
/// How far the clock goes between two events, milliseconds.
const STEPS: [i64; 8] = [0, 1, 15_000, 15_000, MINUTE, 2 * HOUR, -HOUR, -DAY];

const MONITORS: &str = "
monitors:
  - {name: one, select: '{__name__=~\"a|b_total\"}', detectors: [static], static: {upper: 5}}
  - name: all
    select: trend
    detectors: [static, zscore]
    static: {upper: 5}
    emit: [score, flag, direction, detectors, expected, forecast]
    forecast: {horizons: [1h, 1d], upper: 7}
";

/// A stream of numbers that is the same for the same seed (splitmix64, Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// What leaves, held against the samples that it comes from.
struct Witness {
    guard: TimeGuard,
    arrival: i64,
    /// Timestamps of the samples that were accepted with the record at hand.
    sources: Vec<i64>,
    /// The newest that was ever accepted.
    newest: i64,
    seen: Seen,
}

/// That something was put to the test.
#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    values: u64,
    markers: u64,
    held_back: u64,
}

impl Sink for Witness {
    fn derived(&mut self, derived: &Derived<'_>) {
        let &Derived { outputs, timestamp, .. } = derived;
        if !self.guard.admits(timestamp, outputs.len()) {
            self.seen.held_back += outputs.len() as u64;
            return;
        }
        assert!(timestamp <= self.arrival + MINUTE, "{timestamp} at {}", self.arrival);
        for &(_, value) in outputs {
            if is_stale_marker(value) {
                self.seen.markers += 1;
                assert!(timestamp <= self.newest.saturating_add(1), "{timestamp} after {}", self.newest);
            } else {
                self.seen.values += 1;
                assert!(self.sources.contains(&timestamp), "{timestamp} is of none of {:?}", self.sources);
            }
        }
    }

    fn judged(&mut self, _judgement: &Judgement<'_>) {}

    fn ended(&mut self, _signal: u64, _timestamp: i64) {}
}

/// What all schedules of a thread share.
struct Stage {
    plan: Arc<Plan>,
    names: [Box<[u8]>; 3],
    limits: Limits,
    ahead_accepted: i64,
}

impl Stage {
    fn new() -> Self {
        let run = |name| [("__name__", name)].into_iter().collect::<LabelRunBuf>().encode();
        Self {
            plan: promantis::config::parse(MONITORS).expect("the configuration is right").plan,
            names: ["a", "b_total", "trend"].map(run),
            limits: Limits::default(),
            ahead_accepted: ReceiveLimits::default().future_ms_max,
        }
    }

    /// Runs one schedule: a few events, between which the clock goes on, leaps, or goes back.
    fn run(&self, number: u64, seen: Seen) -> Seen {
        let mut dice = Dice(number);
        let long = number.is_multiple_of(LONG_EVERY);
        let events = if long { 60 } else { 3 + dice.below(4) };
        let mut engine = Engine::new(Shard { index: 0, count: 1 }, Arc::clone(&self.plan));
        let mut clock = 1_700_000_000_000;
        let mut witness = Witness {
            guard: TimeGuard::new(clock),
            arrival: clock,
            sources: Vec::new(),
            newest: i64::MIN,
            seen,
        };
        for _ in 0..events {
            clock += if long { 15_000 } else { dice.pick(&STEPS) };
            // The arrival of a record is never before that of the record before it.
            witness.arrival = witness.arrival.max(clock);
            witness.guard = TimeGuard::new(witness.arrival);
            witness.sources.clear();
            if !long && dice.below(4) == 0 {
                engine.tick(witness.arrival, &mut witness);
            } else {
                self.request(&mut dice, clock, long, (&mut engine, &mut witness));
            }
        }
        witness.seen
    }

    /// One request, as it comes over the wire.
    fn request(
        &self,
        dice: &mut Dice,
        clock: i64,
        long: bool,
        (engine, witness): (&mut Engine, &mut Witness),
    ) {
        let mut request = RequestBuilder::new();
        for _ in 0..=dice.below(2) {
            let name = if long { &self.names[2] } else { &self.names[dice.below(2) as usize] };
            let offset = if long { dice.pick(&OFFSETS[..3]) } else { dice.pick(&OFFSETS) };
            let value = match dice.below(if long { 1000 } else { 8 }) {
                0 => stale_marker(),
                other => other as f64,
            };
            request.push(&[name], Sample { timestamp: clock + offset, value });
        }
        let latest = clock + self.ahead_accepted;
        let decoded = decode(Protocol::V1, request.finish(), &self.limits, latest).expect("it is a request");
        witness.sources.extend(decoded.batch.samples().iter().map(|sample| sample.timestamp));
        assert!(witness.sources.iter().all(|timestamp| *timestamp <= latest), "accepted too far ahead");
        witness.newest = witness.sources.iter().copied().fold(witness.newest, i64::max);
        engine.ingest(&decoded.batch, witness.arrival, witness);
    }
}

#[test]
fn egress_time_guard() {
    let _alone = super::alone();
    let schedules = super::count("PROMANTIS_SCHEDULES", SCHEDULES);
    let started = Instant::now();
    let part = |first: u64| {
        let stage = Stage::new();
        (first..schedules)
            .step_by(THREADS as usize)
            .fold(Seen::default(), |seen, number| stage.run(number, seen))
    };
    let seen: Vec<Seen> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || part(first))).collect();
        threads.into_iter().map(|thread| thread.join().expect("nothing leaves ahead of its time")).collect()
    });
    println!("egress_time_guard: {schedules} schedules in {:.1?}: {seen:?}", started.elapsed());
    for Seen { values, markers, held_back } in seen {
        assert!(values > 0 && markers > 0 && held_back > 0, "something is put to the test");
    }
}

/// Offsets of live samples, milliseconds; the first four may leave.
const LIVE: [i64; 8] =
    [-MINUTE, 0, 30_000, MINUTE - 5_000, MINUTE + 5_000, 5 * MINUTE, 8 * MINUTE, 9 * MINUTE];
const LEAVING: usize = 4;
const ROUNDS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(20);

/// The value that an instant query of Prometheus begins with, if any.
fn query(prometheus: &Victim, promql: &str) -> Option<f64> {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("query", promql).finish();
    let answer: serde_json::Value =
        serde_json::from_str(&prometheus.page(&format!("/api/v1/query?{query}"))).expect("it answers JSON");
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain until {what}");
        thread::park_timeout(Duration::from_millis(100));
    }
}

#[test]
fn time_guard_live() {
    let _alone = super::alone();
    let prometheus = Victim::prometheus();
    let victim = Victim::promantis(&format!(
        "remote_write: [{{url: \"http://{}/api/v1/write\"}}]
monitors: [{{name: all, detectors: [static], static: {{upper: 5}}}}]\n",
        prometheus.addr
    ));
    let mut connection = Connection::open(victim.addr);
    let mut post = |request: &[u8]| {
        let reply = connection.post(request);
        assert_eq!(reply.status, 204, "{}", reply.body);
    };
    for _ in 0..ROUNDS {
        let now = now_ms();
        let one =
            |offset: &i64| series(&[("__name__", "load"), ("at", &offset.to_string())], 1.0, now + offset);
        post(&v1(LIVE.iter().map(one).collect()));
        thread::park_timeout(Duration::from_millis(300));
    }
    let dropped = || victim.metric("promantis_derived_dropped_total{reason=\"ahead_of_arrival\"}") as usize;
    let expected = (LIVE.len() - LEAVING) * ROUNDS * 2;
    until("what is too far ahead is held back", || dropped() >= expected);
    assert_eq!(dropped(), expected);
    let fresh = now_ms();
    post(&v1(vec![series(&[("__name__", "fresh")], 1.0, fresh)]));
    until("a series of now is stored", || {
        query(&prometheus, "ml_anomaly_score{metric_name=\"fresh\"}").is_some()
    });
    let mut scrapes = 0.0;
    until("it scrapes itself", || {
        scrapes = query(&prometheus, "count_over_time(up[1m])").unwrap_or(0.0);
        scrapes > 0.0
    });
    until("scrapes go on", || {
        query(&prometheus, "count_over_time(up[1m])").is_some_and(|now| now >= scrapes + 2.0)
    });
    assert_eq!(query(&prometheus, "min_over_time(up[1m])"), Some(1.0));
    assert_eq!(prometheus.metric("prometheus_target_scrapes_sample_out_of_bounds_total"), 0.0);
    let newest = prometheus.metric("prometheus_tsdb_head_max_time") as i64;
    assert!(
        (now_ms() - MINUTE..=now_ms() + MINUTE).contains(&newest),
        "its newest sample is {} ms ahead",
        newest - now_ms()
    );
    println!(
        "time_guard_live: {} derived samples held back, newest {} ms ahead",
        dropped(),
        newest - now_ms()
    );
}
