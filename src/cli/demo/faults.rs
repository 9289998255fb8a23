//! What goes wrong in the made-up shop, when, and how it would be recognised: the truth of the demo.

use super::noise::SplitMix64;
use super::world::SERVICES;

/// One minute, milliseconds.
pub(super) const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How long after a fault its series may still be flagged because of it: a level that was accepted as the new
/// normal goes back.
const AFTERMATH_MS: i64 = 4 * HOUR_MS;

/// How many days of the past the faults need, the week before them included from which is learned.
pub(super) const DAYS_MIN: u32 = 8;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    LatencySpike,
    ErrorBurst,
    NoTraffic,
    MemoryLeak,
    StuckQueue,
    DiskFilling,
    Silence,
}

/// A fault and its time.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// First sample that is wrong, Unix milliseconds.
    pub(super) start: i64,
    /// First sample that is right again.
    pub(super) end: i64,
}

/// A healthy restart of a service: its counters begin again at zero.
#[derive(Clone, Debug)]
pub(super) struct Deploy {
    pub(super) service: &'static str,
    pub(super) at: i64,
}

/// Everything that happens.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) faults: Vec<Fault>,
    pub(super) deploys: Vec<Deploy>,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::LatencySpike => "latency spike",
            Self::ErrorBurst => "error burst",
            Self::NoTraffic => "no traffic",
            Self::MemoryLeak => "memory leak",
            Self::StuckQueue => "stuck queue",
            Self::DiskFilling => "disk filling",
            Self::Silence => "silence",
        }
    }

    /// The metric that shows it; empty where every metric of the target does.
    pub(super) const fn metric(self) -> &'static str {
        match self {
            Self::LatencySpike => "http_request_duration_seconds",
            Self::ErrorBurst => "http_errors_total",
            Self::NoTraffic => "http_requests_total",
            Self::MemoryLeak => "process_resident_memory_bytes",
            Self::StuckQueue => "queue_depth",
            Self::DiskFilling => "node_filesystem_avail_bytes",
            Self::Silence => "",
        }
    }

    /// The service that it befalls.
    pub(super) const fn service(self) -> &'static str {
        match self {
            Self::LatencySpike => "checkout",
            Self::ErrorBurst => "cart",
            Self::NoTraffic => "catalog",
            Self::MemoryLeak => "frontend",
            Self::StuckQueue => "orders",
            Self::DiskFilling => "node",
            Self::Silence => "mailer",
        }
    }

    /// When it begins before the end, and how long it lasts.
    const fn when(self) -> (i64, i64) {
        match self {
            Self::MemoryLeak => (3 * DAY_MS + 12 * HOUR_MS, 9 * HOUR_MS),
            Self::LatencySpike => (12 * MINUTE_MS, 18 * MINUTE_MS),
            Self::ErrorBurst => (DAY_MS + 20 * HOUR_MS, 15 * MINUTE_MS),
            Self::NoTraffic => (DAY_MS + 9 * HOUR_MS, 40 * MINUTE_MS),
            Self::StuckQueue => (22 * HOUR_MS, 3 * HOUR_MS),
            Self::DiskFilling => (10 * HOUR_MS, 13 * HOUR_MS),
            Self::Silence => (100 * MINUTE_MS, 365 * DAY_MS),
        }
    }

    /// Whether it is over when the past ends; then it may begin a little later as well.
    const fn is_past(self) -> bool {
        !matches!(self, Self::LatencySpike | Self::DiskFilling | Self::Silence)
    }
}

/// In the order in which they begin.
const KINDS: [Kind; 7] = [
    Kind::MemoryLeak,
    Kind::ErrorBurst,
    Kind::NoTraffic,
    Kind::StuckQueue,
    Kind::DiskFilling,
    Kind::Silence,
    Kind::LatencySpike,
];

impl Fault {
    /// How far it has come at `ms`, in [0, 1); `None` while it is not.
    pub(super) fn progress(&self, ms: i64) -> Option<f64> {
        let during = self.start <= ms && ms < self.end;
        during.then(|| (ms - self.start) as f64 / (self.end - self.start) as f64)
    }

    /// Whether a flag that rose at `ms` on a series of `service` is its doing, or what it left behind.
    pub(super) fn explains(&self, service: &str, ms: i64) -> bool {
        service == self.kind.service() && self.start <= ms && ms < self.end.saturating_add(AFTERMATH_MS)
    }
}

impl Schedule {
    /// Plans what happens between `start` and `end`, Unix milliseconds, and one more burst soon after the end.
    pub(super) fn new(seed: u64, start: i64, end: i64) -> Self {
        let mut random = SplitMix64::new(seed ^ 0x5eed_fa17);
        let mut faults: Vec<_> = KINDS
            .into_iter()
            .map(|kind| {
                let (before, length) = kind.when();
                let late = if kind.is_past() { (random.uniform() * 60.0) as i64 * MINUTE_MS } else { 0 };
                let start = end - before + late;
                Fault { kind, start, end: start + length }
            })
            .collect();
        let encore = end + 15 * MINUTE_MS;
        faults.push(Fault { kind: Kind::ErrorBurst, start: encore, end: encore + 15 * MINUTE_MS });
        Self { deploys: deploys(&mut random, &faults, start, end), faults }
    }

    /// How far a fault of `kind` has come at `ms`.
    pub(super) fn progress(&self, kind: Kind, ms: i64) -> Option<f64> {
        self.faults.iter().filter(|fault| fault.kind == kind).find_map(|fault| fault.progress(ms))
    }

    /// Whether the process of `service` begins anew at `ms`: after a deployment, or because it leaked.
    pub(super) fn restarts(&self, service: &str, ms: i64) -> bool {
        let leaked = |fault: &&Fault| fault.kind == Kind::MemoryLeak && fault.kind.service() == service;
        self.deploys.iter().any(|deploy| deploy.service == service && deploy.at == ms)
            || self.faults.iter().filter(leaked).any(|fault| fault.end == ms)
    }
}

/// About one a service in three days, in working hours, and none while the service has a fault or its aftermath.
fn deploys(random: &mut SplitMix64, faults: &[Fault], start: i64, end: i64) -> Vec<Deploy> {
    let mut deploys = Vec::new();
    for day in start.div_euclid(DAY_MS)..=end.div_euclid(DAY_MS) {
        for service in SERVICES {
            let due = random.uniform() < 0.35;
            let at = day * DAY_MS + 9 * HOUR_MS + (random.uniform() * 480.0) as i64 * MINUTE_MS;
            let calm = !faults.iter().any(|fault| fault.explains(service, at));
            if due && calm && (start..end).contains(&at) {
                deploys.push(Deploy { service, at });
            }
        }
    }
    deploys.sort_by_key(|deploy| deploy.at);
    deploys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_falls_into_the_shortest_demo_with_time_to_learn_before_it() {
        for seed in 0..50 {
            let end = 20_000 * DAY_MS;
            let start = end - i64::from(DAYS_MIN) * DAY_MS;
            let schedule = Schedule::new(seed, start, end);
            for fault in schedule.faults.iter().filter(|fault| fault.start < end) {
                assert!(fault.start - start > 3 * DAY_MS, "{fault:?}");
                assert!(!fault.kind.is_past() || fault.end < end, "{fault:?}");
            }
            assert!(schedule.deploys.len() > 3, "{:?}", schedule.deploys);
        }
    }

    #[test]
    fn a_fault_explains_its_own_service_and_its_aftermath_only() {
        let fault = Fault { kind: Kind::StuckQueue, start: 0, end: HOUR_MS };
        assert!(fault.explains("orders", 0));
        assert!(fault.explains("orders", HOUR_MS + AFTERMATH_MS - 1));
        assert!(!fault.explains("orders", -1));
        assert!(!fault.explains("orders", HOUR_MS + AFTERMATH_MS));
        assert!(!fault.explains("cart", 0));
    }
}
