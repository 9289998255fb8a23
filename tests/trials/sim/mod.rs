//! Machines that lose power, deterministic from a seed, and how to try many.

pub(crate) mod dice;
pub(crate) mod disk;
mod image;
mod names;
pub(crate) mod process;
pub(crate) mod target;

use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What one schedule came to.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Found {
    /// Operations of the disk.
    pub(crate) operations: u64,
    /// Hash of all that happened.
    pub(crate) hash: u64,
    /// Ends of a process, of a machine, and strikes at a start.
    pub(crate) crashes: u64,
    /// How often the journal went on after an error.
    pub(crate) heals: u64,
    /// How often the journal's begin was let go.
    pub(crate) trims: u64,
    /// Records that engines took once more.
    pub(crate) replayed: u64,
    /// Requests that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Requests that were refused, or never got an answer.
    pub(crate) refused: u64,
    /// Derived requests that targets got.
    pub(crate) delivered: u64,
    /// Of them, those that came more than once.
    pub(crate) duplicates: u64,
}

/// What many schedules came to.
#[derive(Default, Debug)]
pub(crate) struct Total {
    seeds: u64,
    sum: Found,
    took: Duration,
    /// Seeds that showed a fault, and which.
    pub(crate) failed: Vec<(u64, String)>,
}

/// The seeds that the environment asks for: a number of them, or one alone as `=7`.
pub(crate) fn seeds_from(variable: &str, default: u64) -> Range<u64> {
    let value = std::env::var(variable).unwrap_or_default();
    let number = |text: &str| text.parse::<u64>().ok();
    match value.strip_prefix('=').and_then(number) {
        Some(seed) => seed..seed + 1,
        None => 0..number(&value).unwrap_or(default),
    }
}

/// Tries every seed, on two threads.
pub(crate) fn trial_all<F>(seeds: Range<u64>, run: F) -> Total
where
    F: Fn(u64) -> Result<Found, String> + Sync,
{
    let started = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Total { seeds: seeds.end - seeds.start, ..Total::default() });
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let found = run(seed);
                    total.lock().expect("no trial panics").add(seed, found);
                }
            });
        }
    });
    let mut total = total.into_inner().expect("no trial panics");
    total.took = started.elapsed();
    total.failed.sort();
    total
}

/// How many seeds it takes to find a fault whose description has `what` in it.
pub(crate) fn seeds_until<F>(what: &str, seeds: Range<u64>, run: F) -> Option<u64>
where
    F: Fn(u64) -> Result<Found, String>,
{
    let found = seeds.clone().find(|seed| run(*seed).is_err_and(|why| why.contains(what)));
    found.map(|seed| seed - seeds.start + 1)
}

impl Found {
    fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.crashes += other.crashes;
        self.heals += other.heals;
        self.trims += other.trims;
        self.replayed += other.replayed;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
    }
}

impl Total {
    fn add(&mut self, seed: u64, found: Result<Found, String>) {
        match found {
            Ok(found) => self.sum.add(&found),
            Err(why) => self.failed.push((seed, why)),
        }
    }
}

impl fmt::Display for Total {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.seeds as f64 / self.took.as_secs_f64().max(1e-9);
        let sum = &self.sum;
        write!(formatter, "{} seeds, {rate:.0} seeds/s, {} disk operations", self.seeds, sum.operations)?;
        if sum.crashes > 0 {
            write!(formatter, ", {} crashes, {} heals, {} trims", sum.crashes, sum.heals, sum.trims)?;
            write!(formatter, ", {} replayed, {} acknowledged", sum.replayed, sum.acknowledged)?;
            write!(formatter, ", {} refused, {} delivered", sum.refused, sum.delivered)?;
            write!(formatter, ", {} more than once", sum.duplicates)?;
        }
        writeln!(formatter, ", {} failed", self.failed.len())?;
        self.failed.iter().take(10).try_for_each(|(seed, why)| writeln!(formatter, "  seed {seed}: {why}"))
    }
}
