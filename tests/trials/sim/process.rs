//! One process from start to end: journal, engines, snapshots and lanes as they really are, step by step on one
//! thread.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use promantis::edge::journal::record::{self, DERIVED};
use promantis::edge::journal::{Journal, Received, Rules, Settings};
use promantis::edge::judge::{Judge, Nobody};
use promantis::edge::limits::SyncMode;
use promantis::edge::log::{Reader, Record};
use promantis::edge::recovery::{self, Recovered, Replaying, is_input};
use promantis::edge::snapshot::Snapshots;
use promantis::edge::telemetry::Metrics;
use promantis::wire::decode::{self, Limits};
use promantis::wire::snappy;

use super::disk::SimDisk;
use super::target::{Answer, Delivered, Target};

/// See the module.
pub(crate) struct Process {
    pub(crate) journal: Journal,
    judges: Vec<Judge>,
    snapshots: Snapshots,
    lanes: Vec<Lane>,
    /// Records that were taken once more at the start.
    pub(crate) replayed: u64,
}

/// What of one stream goes to one target.
struct Lane {
    target: usize,
    stream: u16,
    reader: Reader,
    hand: Option<Record>,
}

/// How every process is configured.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) rules: Rules,
    pub(crate) sync: SyncMode,
    pub(crate) targets: Vec<String>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Process {
    /// A start, as the program does it.
    pub(crate) fn start(disks: &[SimDisk; 2], setup: &Setup, now: i64) -> Result<Self, String> {
        let [log, snapshots] = disks;
        let metrics = &setup.metrics;
        let snapshots = Snapshots::on(snapshots.mount(), Arc::clone(metrics))
            .map_err(|error| format!("snapshots: {error}"))?;
        let settings = Settings {
            max_bytes: 1 << 30,
            waiting_max: 64 << 20,
            sync: setup.sync,
            readers: setup.rules.shards(),
            lasting: true,
        };
        let wanted = (&setup.rules, now);
        let recovered =
            recovery::recover(log.mount(), &snapshots, &settings, wanted, (&Replaying::Here, metrics));
        let Recovered { journal, judges, report } =
            recovered.map_err(|error| format!("recovery: {error}"))?;
        if report.unreadable > 0 || report.without_snapshot > 0 {
            return Err(format!("recovery found {report:?}"));
        }
        let lanes = setup.targets.iter().enumerate().flat_map(|(target, name)| {
            let journal = &journal;
            (0..setup.rules.shards).map(move |stream| Lane::start(journal, (target, name), stream))
        });
        let lanes = lanes.collect();
        Ok(Self { journal, judges, snapshots, lanes, replayed: report.replayed })
    }

    /// Takes a request as a receiver does, and returns it as the log has it. `None` where it was refused.
    pub(crate) fn receive(&self, arrival: i64, body: Vec<u8>) -> Option<Record> {
        let protocol = decode::Protocol::V1;
        let raw = snappy::decompress(&body, 1 << 24).expect("it was made by this program");
        let decoded = decode::decode(protocol, raw, &Limits::default(), i64::MAX).expect("it is well-formed");
        let received = Received { protocol, body: body.into(), latest: i64::MAX, forward: false };
        let taken = self.journal.append_request(arrival, Instant::now(), &received, decoded.batch);
        taken.ok().and_then(|sequence| self.written(sequence))
    }

    /// Notes that time passed.
    pub(crate) fn tick(&self, now: i64) -> Option<Record> {
        self.journal.append_tick(now).ok().and_then(|sequence| self.written(sequence))
    }

    /// Whether a request may be acknowledged; `None` while that is open.
    pub(crate) fn outcome(&self, sequence: u64) -> Option<bool> {
        let settled = std::pin::pin!(self.journal.settled(sequence));
        match settled.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome.is_ok()),
            Poll::Pending => None,
        }
    }

    /// Everything in the log that engines take.
    pub(crate) fn inputs(&self) -> Result<Vec<Record>, String> {
        let (mut reader, mut inputs, mut errors) = (Reader::default(), Vec::new(), 0);
        loop {
            match self.journal.read_log(&mut reader, u64::MAX, is_input) {
                Ok(Some(record)) => inputs.push(record),
                Ok(None) => return Ok(inputs),
                // A disk that fails now and then can be asked again.
                Err(error) if errors > 100 => return Err(format!("the journal cannot be read: {error}")),
                Err(_) => errors += 1,
            }
        }
    }

    /// Below which sequence everything may be judged.
    pub(crate) fn shown(&self) -> u64 {
        *self.journal.durable().borrow()
    }

    /// The sequence that a shard takes next.
    pub(crate) fn next(&self, shard: usize) -> u64 {
        self.judges[shard].next()
    }

    /// Has a shard judge what it takes next, which must be there.
    pub(crate) fn judge(&mut self, shard: usize) -> u64 {
        let record = self.journal.read(shard).expect("the journal is open");
        let judge = &mut self.judges[shard];
        let (stream, journal) = (judge.stream(), &self.journal);
        let mut parts = 0;
        judge.take(&record, &mut Nobody, |part, request| {
            parts += 1;
            journal.offer(stream, record.sequence, part, &request);
        });
        self.journal.done(shard, record.sequence);
        parts
    }

    /// Saves what a shard knows, as its thread does.
    pub(crate) fn save(&self, shard: usize) {
        if self.journal.sync().is_ok() {
            // One that cannot be written now is written another time.
            let _ = self.snapshots.save(&self.judges[shard]);
        }
    }

    /// Lets go what nobody needs.
    pub(crate) fn trim(&self) {
        self.journal.trim(self.snapshots.needed());
    }

    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Has a lane send what comes next. `None` where nothing waits, or it could not be read.
    pub(crate) fn send(&mut self, lane: usize, targets: &mut [Target]) -> Result<Option<Delivered>, String> {
        let Lane { target, stream, reader, hand } = &mut self.lanes[lane];
        if hand.is_none() {
            let wanted = |head: &promantis::edge::log::Head| head.kind == DERIVED && head.stream == *stream;
            let Ok(found) = self.journal.read_log(reader, self.journal.end(), wanted) else {
                return Ok(None);
            };
            *hand = found;
        }
        let Some(record) = hand.as_ref() else { return Ok(None) };
        let (origin, request) = record::derived(record).ok_or("a derived request is malformed")?;
        let target = &mut targets[*target];
        let delivered = Delivered { stream: *stream, origin };
        let answer = target.take(delivered, &request.body)?;
        if answer == Answer::Final {
            self.journal.move_cursor(&target.name, *stream, record.head.sequence + 1);
            *hand = None;
        }
        Ok((answer != Answer::None).then_some(delivered))
    }

    fn written(&self, sequence: u64) -> Option<Record> {
        let mut reader = Reader::from(sequence);
        let found = self.journal.read_log(&mut reader, sequence + 1, |_| true);
        found.expect("what is not durable is in memory")
    }
}

impl Lane {
    fn start(journal: &Journal, (target, name): (usize, &str), stream: u16) -> Self {
        let next = journal.cursor(name, stream).unwrap_or_else(|| {
            journal.move_cursor(name, stream, journal.first());
            journal.first()
        });
        Self { target, stream, reader: Reader::from(next), hand: None }
    }
}
