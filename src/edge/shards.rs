//! Shards: one plain thread each, the only owner of its series.
//!
//! A thread follows the journal, has its judge take each record, and puts what is derived into the journal before it
//! says that it is done. Now and then it saves what it knows, between records. It waits for nobody but the journal and,
//! where what it saves changes faster than that is written, the disk.

mod saver;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::engine::transform::Skip;

use super::journal::{Entry, Journal, Record};
use super::judge::{Judge, Tally};
use super::recent::Recent;
use super::send::Targets;
use super::telemetry::{Metrics, count};
use saver::Saver;
pub use saver::Saving;

/// What all shards share.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where records come from, and what is derived goes.
    pub journal: Arc<Journal>,
    /// Who takes derived samples.
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
    /// Starts a thread for each of `judges`. Without `saving`, what they know ends with the process.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        judges: Vec<Judge>,
        around: &Surroundings,
        saving: Option<&Saving>,
    ) -> std::io::Result<Self> {
        let threads = judges.into_iter().map(|judge| {
            let saver = saving.map(|saving| Saver::new(saving.clone(), &judge));
            let (around, last) = (around.clone(), Gauges::default());
            let mut worker = Worker { judge, saver, around, last, untold: Untold::default() };
            let name = format!("shard-{}", worker.judge.shard().index);
            std::thread::Builder::new().name(name).spawn(move || worker.run_or_end_all())
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
    judge: Judge,
    saver: Option<Saver>,
    around: Surroundings,
    last: Gauges,
    untold: Untold,
}

/// Requests at most of which nobody is told what was derived.
const UNTOLD_MAX: usize = 64;

/// What was put into the journal, and nobody was woken to send it.
#[derive(Default)]
struct Untold {
    samples: usize,
    /// When the requests came that it was derived from.
    received: Vec<Instant>,
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
            tracing::error!(shard = self.judge.shard().index, "an engine panicked; the process ends");
            std::process::abort();
        }
    }

    fn run(&mut self) {
        let reader = self.judge.shard().index;
        let journal = Arc::clone(&self.around.journal);
        self.tell(&Tally::default());
        while let Some(record) = self.next(reader) {
            self.take(&record);
            let sequence = record.sequence;
            // What nobody holds any more when the last is done with it is used again.
            drop(record);
            let more = journal.done(reader, sequence);
            let saves = self.saver.as_mut().is_some_and(|saver| saver.is_due(&journal));
            // What is told together is sent together.
            let much = self.untold.samples >= self.judge.samples_per_request();
            let busy = saves || self.saver.as_ref().is_some_and(Saver::is_saving);
            if !more || busy || much || self.untold.received.len() >= UNTOLD_MAX {
                self.tell_of_derived();
            }
            if let Some(saver) = &mut self.saver {
                if saves {
                    saver.begin(&mut self.judge, &self.around);
                }
                saver.go_on(&mut self.judge);
            }
        }
        if let Some(saver) = self.saver.as_mut() {
            saver.save_at_last(&self.judge, &self.around);
        }
    }

    /// The next record. What is being saved goes on while there is none.
    fn next(&mut self, reader: usize) -> Option<Arc<Record>> {
        let journal = &self.around.journal;
        while let Some(saver) = self.saver.as_mut().filter(|saver| saver.is_saving()) {
            if let Some(record) = journal.read_within(reader, saver.pause()) {
                return Some(record);
            }
            match journal.is_closed() {
                true => saver.give_up(&mut self.judge),
                false => saver.go_on(&mut self.judge),
            }
        }
        journal.read(reader)
    }

    fn take(&mut self, record: &Record) {
        let stream = self.judge.stream();
        let journal = &self.around.journal;
        let mut requests = Vec::new();
        let mut part = self.around.recent.part(self.judge.shard().index);
        let tally = self.judge.take(record, &mut *part, |number, request| requests.push((number, request)));
        // While the disk fails the journal keeps who writes to it: queries must not wait for that.
        drop(part);
        for (number, request) in requests {
            self.untold.samples += request.samples;
            journal.append_derived(stream, (record.sequence, number), &request);
        }
        if matches!(record.entry, Entry::Request { .. }) {
            self.untold.received.push(record.received);
        }
        self.tell(&tally);
    }

    /// Wakes those who send.
    fn tell_of_derived(&mut self) {
        let Untold { samples, received } = &mut self.untold;
        if std::mem::take(samples) > 0 {
            self.around.journal.tell(self.judge.stream());
        }
        for received in received.drain(..) {
            self.around.metrics.judgement_seconds.observe(received.elapsed().as_secs_f64());
        }
    }

    fn tell(&mut self, Tally { counts, ahead }: &Tally) {
        let metrics = &self.around.metrics;
        metrics.samples_judged.inc_by(counts.judged);
        metrics.derived_samples.inc_by(counts.derived);
        metrics.series_evicted.inc_by(counts.evicted);
        metrics.flags_raised.inc_by(counts.raised);
        metrics.level_shifts_accepted.inc_by(counts.shifts);
        for (skip, &skipped) in Skip::ALL.iter().zip(&counts.skipped) {
            count(&metrics.samples_skipped, "reason", skip.name(), skipped);
        }
        count(&metrics.derived_dropped, "reason", "ahead_of_arrival", *ahead);
        let engine = self.judge.engine();
        let now = Gauges {
            monitored: engine.series_count() as i64,
            ignored: engine.ignored_count() as i64,
            flagged: engine.flagged_count(),
        };
        let series = |state: &str| metrics.series.get_or_create_owned(&vec![("state", state.to_owned())]);
        series("monitored").inc_by(now.monitored - self.last.monitored);
        series("ignored").inc_by(now.ignored - self.last.ignored);
        metrics.signals_flagged.inc_by(now.flagged - self.last.flagged);
        self.last = now;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::edge::disk::failing::{FailingDisk, Fault};
    use crate::edge::journal::{self, Settings, Syncing};
    use crate::edge::limits::SyncMode;
    use crate::edge::log::Log;
    use crate::edge::recovery::tests::{request, rules};
    use crate::edge::send::Specs;
    use crate::wire::decode::{self, Limits};
    use crate::wire::snappy;

    const PATIENCE: Duration = Duration::from_secs(30);
    const YAML: &str = "monitors: [{name: one, select: load, detectors: [static], static: {upper: 5}}]";

    fn on(disk: &FailingDisk, metrics: &Arc<Metrics>) -> Arc<Journal> {
        let (max_bytes, sync) = (64 << 20, SyncMode::Batch);
        let opened = Log::open(Arc::new(disk.clone()), journal::options(max_bytes, sync));
        let settings = Settings { max_bytes, waiting_max: 1 << 20, sync, readers: 1, lasting: true };
        let journal = Journal::over(opened.expect("it opens"), &settings, Arc::clone(metrics));
        Arc::new(journal.expect("the disk is well"))
    }

    /// A request that is durable, for engines to take.
    fn append(journal: &Journal) {
        let request = request(1);
        let raw = snappy::decompress(&request.body, 1 << 20).expect("it is compressed");
        let decoded =
            decode::decode(request.protocol, raw, &Limits::default(), i64::MAX).expect("it is good");
        let appended = journal.append_request(60_000, Instant::now(), &request, decoded.batch);
        journal.wait_settled(appended.expect("there is room")).expect("the disk is well");
    }

    /// An engine that waited for a full disk held up every query, and with them the threads that answer.
    #[tokio::test]
    async fn the_page_is_answered_while_an_engine_waits_for_the_disk() {
        let (disk, metrics) = (FailingDisk::default(), Arc::new(Metrics::new()));
        let journal = on(&disk, &metrics);
        let syncing = Syncing::start(&journal).expect("there are threads");
        append(&journal);
        disk.set(Some(Fault::Write(std::io::ErrorKind::StorageFull)));
        let targets = Targets::start(Specs::default(), Arc::clone(&journal), Arc::clone(&metrics));
        let (recent, targets) = (Recent::new(1), Arc::new(targets));
        let around = Surroundings { journal, targets, recent, metrics };
        let judge = Judge::new(0, &rules(YAML, 1), 0);
        let shards = Shards::start(vec![judge], &around, None).expect("there are threads");
        let begun = Instant::now();
        while around.metrics.journal_writable.get() == 1 && begun.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        let (told, answer) = mpsc::channel();
        let recent = around.recent.clone();
        let query = std::thread::spawn(move || told.send(recent.signals(|_| true, 0..100).0));
        let answer = answer.recv_timeout(PATIENCE / 10);
        disk.set(None);
        assert!(answer.is_ok_and(|signals| signals > 0), "no answer while the disk is full");
        drop(query.join());
        around.journal.close();
        shards.join();
        syncing.join();
        assert!(around.journal.end() > 2, "what was derived is written once the disk is well");
    }
}
