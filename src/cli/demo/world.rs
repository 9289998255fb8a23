//! A small shop, made up: five services, a queue and a node, sampled once a minute.
//!
//! Pure: the same seed and times give the same samples. Traffic has a daily and a weekly rhythm, counts scatter as
//! independent requests do, gauges as measured ones, with a memory of some minutes.

use std::f64::consts::TAU;

use super::faults::{Kind, MINUTE_MS, Schedule};
use super::noise::{Autoregressive, SplitMix64};
use crate::series::{LabelRun, LabelRunBuf, stale_marker};

/// Time between two samples of a series, milliseconds.
pub(super) const STEP_MS: i64 = MINUTE_MS;

/// The services, busiest first.
pub(super) const SERVICES: [&str; 5] = ["frontend", "catalog", "cart", "checkout", "mailer"];

/// Requests per second of each service when it is busiest.
const REQUESTS: [f64; 5] = [180.0, 120.0, 60.0, 40.0, 30.0];
/// 95th percentile of the duration of its requests when it is busiest, seconds.
const SECONDS: [f64; 5] = [0.12, 0.06, 0.08, 0.25, 0.4];

const STEP_SECONDS: f64 = STEP_MS as f64 / 1e3;
const HOUR_MS: f64 = 3.6e6;
const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;

/// All series and what they did last.
#[derive(Debug)]
pub(super) struct World {
    now: i64,
    series: Vec<Series>,
    schedule: Schedule,
}

#[derive(Debug)]
struct Series {
    labels: Box<[u8]>,
    service: &'static str,
    process: Process,
    random: SplitMix64,
    drift: Autoregressive,
    gone: bool,
}

/// What a series shows, in units of the series, and its state.
#[derive(Debug)]
enum Process {
    Requests { per_second: f64, total: f64 },
    Errors { per_second: f64, total: f64 },
    Latency { seconds: f64 },
    Memory { base: f64, since_collection: f64 },
    Cpu,
    Temperature,
    Queue,
    Disk,
    Up,
}

/// What all series see of an instant.
struct Instant<'a> {
    ms: i64,
    /// Share of the greatest traffic, about 0.4 to 1.
    load: f64,
    schedule: &'a Schedule,
}

impl World {
    /// Begins at `start`, Unix milliseconds.
    pub(super) fn new(seed: u64, start: i64, schedule: Schedule) -> Self {
        let mut seeds = SplitMix64::new(seed);
        let mut series = Vec::new();
        let mut add = |service: &'static str, process: Process, labels: &[(&str, &str)]| {
            let random = SplitMix64::new((seeds.uniform() * 2f64.powi(53)) as u64);
            let drift = Autoregressive::new(0.5);
            let labels = labels.iter().copied().collect::<LabelRunBuf>().encode();
            series.push(Series { labels, service, process, random, drift, gone: false });
        };
        for (index, service) in SERVICES.into_iter().enumerate() {
            let instance = format!("10.0.3.{}:8080", 11 + index);
            let named = |name, extra| {
                [
                    ("__name__", name),
                    ("job", "shop"),
                    ("instance", instance.as_str()),
                    ("service", service),
                    extra,
                ]
            };
            let (per_second, seconds) = (REQUESTS[index], SECONDS[index]);
            let none = ("", "");
            add(service, Process::Requests { per_second, total: 0.0 }, &named("http_requests_total", none));
            let errors = Process::Errors { per_second: per_second * 0.006, total: 0.0 };
            add(service, errors, &named("http_errors_total", none));
            let quantile = named("http_request_duration_seconds", ("quantile", "0.95"));
            add(service, Process::Latency { seconds }, &quantile);
            let memory = Process::Memory { base: (300.0 + 60.0 * index as f64) * MIB, since_collection: 0.0 };
            add(service, memory, &named("process_resident_memory_bytes", none));
            add(service, Process::Up, &named("up", none));
        }
        let node = |name, extra| [("__name__", name), ("job", "node"), ("instance", "node-1:9100"), extra];
        add("node", Process::Cpu, &node("node_cpu_busy_ratio", ("", "")));
        add("node", Process::Temperature, &node("node_hwmon_temp_celsius", ("sensor", "temp1")));
        add("node", Process::Disk, &node("node_filesystem_avail_bytes", ("mountpoint", "/var/lib")));
        add("node", Process::Up, &node("up", ("", "")));
        let queue = [
            ("__name__", "queue_depth"),
            ("job", "broker"),
            ("instance", "broker-1:9419"),
            ("queue", "orders"),
        ];
        add("orders", Process::Queue, &queue);
        Self { now: start, series, schedule }
    }

    /// When the next samples will be taken, Unix milliseconds.
    pub(super) fn now(&self) -> i64 {
        self.now
    }

    /// How many series there are.
    pub(super) fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Takes the next sample of every series that has one, and a stale marker of those that vanish.
    pub(super) fn step(&mut self, mut take: impl FnMut(LabelRun<'_>, f64)) {
        let instant = Instant { ms: self.now, load: load(self.now), schedule: &self.schedule };
        for series in &mut self.series {
            if let Some(value) = series.sample(&instant) {
                take(LabelRun::from_canonical(&series.labels), value);
            }
        }
        self.now += STEP_MS;
    }
}

impl Series {
    fn sample(&mut self, now: &Instant<'_>) -> Option<f64> {
        if now.during(Kind::Silence, self.service).is_some() {
            return (!std::mem::replace(&mut self.gone, true)).then(stale_marker);
        }
        let restarts = now.schedule.restarts(self.service, now.ms);
        let noise = (self.drift.next(&mut self.random), self.random.normal());
        Some(self.process.next(now, self.service, restarts, noise))
    }
}

impl Process {
    /// The next value. `noise` is one that remembers and one that does not, each with standard deviation 1.
    fn next(&mut self, now: &Instant<'_>, service: &str, restarts: bool, noise: (f64, f64)) -> f64 {
        let (slow, fast) = noise;
        let idle = now.during(Kind::NoTraffic, service).is_some();
        match self {
            Self::Requests { per_second, total } => {
                let mean = if idle { 0.0 } else { *per_second * now.load * (1.0 + 0.02 * slow) };
                counted(total, mean, restarts, fast)
            }
            Self::Errors { per_second, total } => {
                let burst = now.during(Kind::ErrorBurst, service).map_or(0.0, |_| 4.0);
                let mean = if idle { 0.0 } else { *per_second * now.load + burst };
                counted(total, mean, restarts, fast)
            }
            Self::Latency { .. } if idle => f64::NAN,
            Self::Latency { seconds } => {
                let spike = now.during(Kind::LatencySpike, service).map_or(1.0, |_| 2.5);
                *seconds * (0.7 + 0.3 * now.load) * spike * (0.05 * slow + 0.04 * fast).exp()
            }
            Self::Memory { base, since_collection } => {
                *since_collection = if restarts || *since_collection > 90.0 {
                    0.0
                } else {
                    *since_collection + 2.0 + 0.5 * slow
                };
                let leaked = now.during(Kind::MemoryLeak, service).map_or(0.0, |progress| 900.0 * progress);
                *base + (since_collection.max(0.0) + leaked + 3.0 * fast) * MIB
            }
            Self::Cpu => (0.12 + 0.45 * now.load + 0.02 * slow + 0.015 * fast).clamp(0.0, 1.0),
            Self::Temperature => ((37.0 + 12.0 * now.load + 0.4 * slow + 0.3 * fast) * 10.0).round() / 10.0,
            Self::Queue => {
                let stuck = now.during(Kind::StuckQueue, service).map_or(0.0, |_| 150.0);
                (20.0 + 25.0 * now.load + stuck + 4.0 * slow + 3.0 * fast).round().max(0.0)
            }
            Self::Disk => {
                let used = now.during(Kind::DiskFilling, service).map_or(0.0, |progress| 57.0 * progress);
                (60.0 + 2.0 * now.load - used + 0.15 * slow + 0.1 * fast) * GIB
            }
            Self::Up => 1.0,
        }
    }
}

impl Instant<'_> {
    fn during(&self, kind: Kind, service: &str) -> Option<f64> {
        (kind.service() == service).then(|| self.schedule.progress(kind, self.ms)).flatten()
    }
}

/// Lets a counter go on by a minute of independent events, `mean` per second; a restarted one from zero, half of the
/// minute being lost.
fn counted(total: &mut f64, mean: f64, restarts: bool, noise: f64) -> f64 {
    let expected = mean * STEP_SECONDS * if restarts { 0.5 } else { 1.0 };
    let events = (expected + expected.sqrt() * noise).round().max(0.0);
    *total = if restarts { events } else { *total + events };
    *total
}

/// Traffic by hour and day of the week: least before dawn, most in the afternoon, a quarter less at weekends.
fn load(ms: i64) -> f64 {
    let hours = ms as f64 / HOUR_MS;
    let day = 0.5 - 0.5 * (TAU * (hours - 4.0) / 24.0).cos();
    // The Unix epoch was a Thursday. The weekend comes and goes over the night.
    let into_week = (hours + 72.0).rem_euclid(168.0);
    let weekend = ((into_week - 117.0) / 8.0).clamp(0.0, 1.0) - ((into_week - 160.0) / 8.0).clamp(0.0, 1.0);
    (0.4 + 0.6 * day) * (1.0 - 0.25 * weekend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::is_stale_marker;

    const DAY_MS: i64 = 86_400_000;
    const END: i64 = 20_000 * DAY_MS;

    fn world(seed: u64, days: i64) -> World {
        let start = END - days * DAY_MS;
        World::new(seed, start, Schedule::new(seed, start, END))
    }

    /// Timestamps and values of one metric of one service or node.
    fn values(world: &mut World, steps: usize, wanted: &[(&str, &str)]) -> Vec<(i64, f64)> {
        let mut seen = Vec::new();
        for _ in 0..steps {
            let now = world.now();
            world.step(|labels, value| {
                if wanted.iter().all(|(name, value)| labels.get(name) == Some(*value)) {
                    seen.push((now, value));
                }
            });
        }
        seen
    }

    #[test]
    fn a_seed_is_a_world() {
        let all = |seed| {
            let bits = |(now, value): (i64, f64)| (now, value.to_bits());
            values(&mut world(seed, 1), 100, &[]).into_iter().map(bits).collect::<Vec<_>>()
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
    }

    #[test]
    fn weeks_join_without_a_jump() {
        let loads: Vec<_> = (0..14 * 1440).map(|minute| load(minute * MINUTE_MS)).collect();
        for pair in loads.windows(2) {
            assert!((pair[0] - pair[1]).abs() < 0.004, "{pair:?}");
        }
        let (least, most) = loads.iter().fold((1.0_f64, 0.0_f64), |(a, b), &load| (a.min(load), b.max(load)));
        assert!(least > 0.25 && most <= 1.0, "{least} {most}");
    }

    #[test]
    fn a_counter_falls_only_where_its_process_restarts() {
        let mut world = world(1, 8);
        let deploys = world.schedule.deploys.clone();
        let of_cart = [("__name__", "http_requests_total"), ("service", "cart")];
        let seen = values(&mut world, 8 * 1440, &of_cart);
        let fell = seen.windows(2).filter(|pair| pair[1].1 < pair[0].1).map(|pair| pair[1].0);
        let expected = deploys.iter().filter(|deploy| deploy.service == "cart").map(|deploy| deploy.at);
        assert!(fell.eq(expected));
    }

    #[test]
    fn a_target_that_vanishes_ends_with_stale_markers_and_stays_away() {
        let mut world = world(1, 1);
        let of_mailer = [("__name__", "up"), ("service", "mailer")];
        let seen = values(&mut world, 1500, &of_mailer);
        assert_eq!(seen.iter().filter(|(_, value)| is_stale_marker(*value)).count(), 1);
        assert!(seen.last().is_some_and(|(now, value)| is_stale_marker(*value) && *now < END));
    }
}
