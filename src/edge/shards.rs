//! Shards: one plain thread each, the only owner of its series.
//!
//! A thread follows the journal, asks its engine, encodes what is to be written back into requests and
//! hands them to the sender before it says that it is done with the record. It waits for nobody but the
//! journal.

pub mod guard;

use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;

use crate::engine::monitor::Plan;
use crate::engine::sink::{Judgement, Sink};
use crate::engine::transform::Skip;
use crate::engine::{Counts, Engine, Shard};
use crate::series::Sample;
use crate::wire::encode::RequestBuilder;
use crate::wire::snappy;

use super::journal::{Entry, Journal, Record};
use super::recent::{Part, Recent};
use super::send::{Outgoing, Targets};
use super::telemetry::{Metrics, count};
use guard::TimeGuard;

/// What all shards share.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where records come from.
    pub journal: Arc<Journal>,
    /// Where derived samples go.
    pub targets: Arc<Targets>,
    /// What is remembered for queries.
    pub recent: Recent,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The running threads.
#[derive(Debug)]
pub struct Shards(Vec<JoinHandle<()>>);

impl Shards {
    /// Starts `shards` threads with empty engines.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(shards: usize, plan: &Arc<Plan>, around: &Surroundings) -> std::io::Result<Self> {
        let threads = (0..shards).map(|index| {
            let shard = Shard { index, count: shards };
            let engine = Engine::new(shard, Arc::clone(plan));
            let mut worker = Worker { index, engine, around: around.clone(), last: Gauges::default() };
            std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || worker.run_or_end_all())
        });
        threads.collect::<Result<_, _>>().map(Self)
    }

    /// Waits until all have read the closed journal to its end.
    pub fn join(self) {
        for thread in self.0 {
            thread.join().expect("a shard that panics ends the process");
        }
    }
}

struct Worker {
    index: usize,
    engine: Engine,
    around: Surroundings,
    last: Gauges,
}

/// Levels as they were told last, so that shards add up in one gauge.
#[derive(Clone, Copy, Default)]
struct Gauges {
    monitored: i64,
    ignored: i64,
    flagged: i64,
}

impl Worker {
    /// A shard that panics has lost what it knew of its series, and nobody else may have them: the process
    /// ends, so that whoever watches it starts it again.
    fn run_or_end_all(&mut self) {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run()));
        if run.is_err() {
            tracing::error!(shard = self.index, "an engine panicked; the process ends");
            std::process::abort();
        }
    }

    fn run(&mut self) {
        let journal = Arc::clone(&self.around.journal);
        while let Some(record) = journal.read(self.index) {
            self.take(&record);
            journal.done(self.index, record.sequence);
        }
    }

    fn take(&mut self, record: &Record) {
        let recent = self.around.recent.clone();
        let mut egress =
            Egress::new(&self.around.targets, self.index, record.arrival, recent.part(self.index));
        let counts = match &record.entry {
            Entry::Request { batch } => self.engine.ingest(batch, record.arrival, &mut egress),
            Entry::Tick => self.engine.tick(record.arrival, &mut egress),
            Entry::Plan(plan) => self.engine.replace_plan(Arc::clone(plan), &mut egress),
        };
        egress.flush();
        let ahead = egress.guard.held_back();
        drop(egress);
        if matches!(record.entry, Entry::Request { .. }) {
            self.around.metrics.judgement_seconds.observe(record.received.elapsed().as_secs_f64());
        }
        self.tell(&counts, ahead);
    }

    fn tell(&mut self, counts: &Counts, ahead: u64) {
        let metrics = &self.around.metrics;
        metrics.samples_judged.inc_by(counts.judged);
        metrics.derived_samples.inc_by(counts.derived);
        metrics.series_evicted.inc_by(counts.evicted);
        metrics.flags_raised.inc_by(counts.raised);
        metrics.level_shifts_accepted.inc_by(counts.shifts);
        for (skip, &skipped) in Skip::ALL.iter().zip(&counts.skipped) {
            count(&metrics.samples_skipped, "reason", skip.name(), skipped);
        }
        count(&metrics.derived_dropped, "reason", "ahead_of_arrival", ahead);
        let now = Gauges {
            monitored: self.engine.series_count() as i64,
            ignored: self.engine.ignored_count() as i64,
            flagged: self.engine.flagged_count(),
        };
        let series = |state: &str| metrics.series.get_or_create_owned(&vec![("state", state.to_owned())]);
        series("monitored").inc_by(now.monitored - self.last.monitored);
        series("ignored").inc_by(now.ignored - self.last.ignored);
        metrics.signals_flagged.inc_by(now.flagged - self.last.flagged);
        self.last = now;
    }
}

/// Encodes what one record brings forth, and hands it on.
struct Egress<'a> {
    targets: &'a Targets,
    lane: usize,
    guard: TimeGuard,
    samples_max: usize,
    builder: RequestBuilder,
    oldest: i64,
    newest: i64,
    recent: std::sync::MutexGuard<'a, Part>,
}

impl<'a> Egress<'a> {
    fn new(targets: &'a Targets, lane: usize, arrival: i64, recent: std::sync::MutexGuard<'a, Part>) -> Self {
        Self {
            lane,
            guard: TimeGuard::new(arrival),
            samples_max: targets.max_samples_per_send(),
            targets,
            builder: RequestBuilder::new(),
            oldest: i64::MAX,
            newest: i64::MIN,
            recent,
        }
    }

    fn flush(&mut self) {
        if self.builder.is_empty() {
            return;
        }
        let samples = self.builder.samples();
        let body = Bytes::from(snappy::compress(&self.builder.finish()));
        let request = Outgoing { body, samples, oldest: self.oldest, newest: self.newest };
        self.targets.offer(self.lane, Arc::new(request));
        (self.oldest, self.newest) = (i64::MAX, i64::MIN);
    }
}

impl Sink for Egress<'_> {
    fn derived(&mut self, labels: &[&[u8]], sample: Sample) {
        if self.samples_max == 0 {
            return;
        }
        if !self.guard.admits(sample.timestamp) {
            return;
        }
        self.builder.push(labels, sample);
        self.oldest = self.oldest.min(sample.timestamp);
        self.newest = self.newest.max(sample.timestamp);
        if self.builder.samples() >= self.samples_max {
            self.flush();
        }
    }

    fn judged(&mut self, judgement: &Judgement<'_>) {
        self.recent.observe(judgement);
    }

    fn ended(&mut self, signal: u64, timestamp: i64) {
        self.recent.ended(signal, timestamp);
    }
}
