//! A start: what was there when the process ended, however it ended, is there again.
//!
//! The journal is opened and its torn end cut; each shard begins with its newest good snapshot and takes the records
//! after it once more. What that derives again is known by its origin and not queued twice. Where a snapshot is
//! missing, the shard begins with what the journal still has. Then what is wanted now is put in force: another plan
//! as a reload would, another number of shards by dividing what is known anew.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::journal::record::{self, Foreign, RULES, TICK};
use super::journal::{self, Entry, Journal, Record, Rules, Settings};
use super::judge::{Judge, Nobody, Onlooker};
use super::log::{Head, Log, LogError, Reader};
use super::recent::Recent;
use super::snapshot::Snapshots;
use super::telemetry::Metrics;
use crate::wire::decode::{self, Limits};
use crate::wire::snappy;

/// Bytes of a request after decompression. It was taken under a limit that may have been another.
const DECODED_BYTES_MAX: usize = 1 << 30;

/// Who judges what is judged again.
#[derive(Clone, Debug)]
pub enum Replaying {
    /// A thread for each shard; what it sees is shown on the page.
    Threads(Recent),
    /// The caller, one shard after the other: the same order every time.
    Here,
}

/// What a start found.
#[derive(Debug)]
pub struct Recovered {
    /// The journal; engines see what comes from now on.
    pub journal: Journal,
    /// One for each shard, that have taken everything before.
    pub judges: Vec<Judge>,
    /// What happened, to be told.
    pub report: Report,
}

/// What happened at a start.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Report {
    /// Records that were judged again, over all shards.
    pub replayed: u64,
    /// Records that could not be read as what they say they are.
    pub unreadable: u64,
    /// Sequences that a snapshot had seen and the journal has not: its newest records are lost.
    pub lost: u64,
    /// Shards that began without a snapshot, though there was something before.
    pub without_snapshot: usize,
    /// How many shards there were before, where that is another number now.
    pub shards_before: Option<usize>,
    /// Monitors that were in force before and are not any more, and so what they had learned is dropped.
    pub dropped_monitors: Vec<String>,
    /// When the last record came, before this start added any; `None` where there was none.
    pub last_arrival: Option<i64>,
    /// How long it took.
    pub took: Duration,
}

/// Why a start failed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The journal cannot be read.
    #[error("read the journal: {0}")]
    Read(#[from] io::Error),
    /// The journal cannot be written.
    #[error("write the journal: {0}")]
    Write(#[from] LogError),
    /// The new rules cannot be written.
    #[error("write the rules into the journal: {0}")]
    Rules(String),
    /// What is derived again cannot be written.
    #[error("write into the journal what is derived again: the disk does not take it")]
    Incomplete,
}

/// Opens what is on `disk`, takes again what has to be, and puts `wanted` in force.
///
/// # Errors
/// [`RecoveryError`]. Nothing is lost then; a later start may succeed.
pub fn recover(
    disk: Arc<dyn Disk>,
    snapshots: &Snapshots,
    settings: &Settings,
    wanted: (&Rules, i64),
    (replaying, metrics): (&Replaying, &Arc<Metrics>),
) -> Result<Recovered, RecoveryError> {
    let begin = Instant::now();
    let (wanted, now) = wanted;
    let opened = Log::open(disk, journal::options(settings.max_bytes, settings.sync))?;
    // A journal that lost its end, which a snapshot has seen, goes on behind it: no sequence means two things.
    let lost = snapshots.newest().saturating_sub(opened.log.next());
    opened.log.pass_to(snapshots.newest());
    let (oldest, recorded) = (journal::oldest_rules(&opened)?, journal::newest_rules(&opened)?);
    let journal = Journal::over(opened, settings, Arc::clone(metrics))?;
    let last_arrival = Some(journal.arrival()).filter(|arrival| *arrival > i64::MIN);
    let mut report = Report { last_arrival, lost, ..Report::default() };
    let loaded = load(snapshots, replaying);
    // Where the record of the rules is lost, what was acknowledged is judged by those that are wanted.
    let known = (oldest.as_deref(), recorded.as_deref().unwrap_or(wanted));
    let judges = begin_with(&journal, loaded, known, &mut report)?;
    let mut judges = replay(&journal, judges, (journal.end(), replaying), &mut report)?;
    if let Some(recorded) = &recorded {
        report.compare(recorded, wanted);
    }
    // Judges tell themselves under which rules they are: a record of rules may have been damaged.
    if recorded.as_deref() != Some(wanted) || !judges.iter().all(|judge| judge.is_under(wanted)) {
        if judges.len() != wanted.shards() {
            judges = Judge::reshard(judges, wanted.shards());
        }
        let appended = journal.append_rules(now, Arc::new(wanted.clone()));
        appended.map_err(|full| RecoveryError::Rules(full.to_string()))?;
    }
    if journal.is_incomplete() {
        return Err(RecoveryError::Incomplete);
    }
    journal.sync()?;
    report.took = begin.elapsed();
    Ok(Recovered { journal, judges, report })
}

/// For each shard what its newest good snapshot says, if it has one.
fn load(snapshots: &Snapshots, replaying: &Replaying) -> Vec<Option<Judge>> {
    match replaying {
        Replaying::Here => snapshots.load(),
        Replaying::Threads(_) => snapshots.load_on_threads(),
    }
}

/// Judges from what was loaded, or empty ones at the oldest record that is left.
fn begin_with(
    journal: &Journal,
    loaded: Vec<Option<Judge>>,
    (oldest, recorded): (Option<&Rules>, &Rules),
    report: &mut Report,
) -> io::Result<Vec<Judge>> {
    let first = journal.first();
    let loaded = match all_of(loaded) {
        Ok(judges) => return Ok(judges),
        Err(loaded) => loaded,
    };
    let rules = match oldest {
        Some(rules) => rules.clone(),
        None => first_rules(journal)?.unwrap_or_else(|| recorded.clone()),
    };
    let fresh = |shard| Judge::new(shard, &rules, first);
    // Those that are there go together with new ones only where series were not divided anew in between.
    let since = loaded.iter().flatten().map(Judge::since).max().unwrap_or(u64::MAX);
    let judges: Vec<_> = if loaded.len() == rules.shards() && since <= first {
        let with_fresh =
            |(shard, judge): (_, Option<Judge>)| judge.unwrap_or_else(|| fresh(shard).dividing_since(since));
        loaded.into_iter().enumerate().map(with_fresh).collect()
    } else {
        (0..rules.shards()).map(fresh).collect()
    };
    let begin = |judge: &&Judge| judge.next() == first && first > 0;
    report.without_snapshot = judges.iter().filter(begin).count();
    Ok(judges)
}

/// All judges, or what there is where some are missing.
fn all_of(loaded: Vec<Option<Judge>>) -> Result<Vec<Judge>, Vec<Option<Judge>>> {
    if loaded.is_empty() || loaded.iter().any(Option::is_none) {
        return Err(loaded);
    }
    Ok(loaded.into_iter().flatten().collect())
}

/// The first rules that the journal has.
fn first_rules(journal: &Journal) -> io::Result<Option<Rules>> {
    let mut reader = Reader::default();
    let found = journal.read_log(&mut reader, u64::MAX, |head| head.kind == RULES)?;
    let rules = found.map(|found| record::rules(&found)).transpose()?;
    Ok(rules.flatten().map(|rules| Rules::clone(&rules)))
}

/// Has judges take all records below `end` that they have not taken.
fn replay(
    journal: &Journal,
    mut judges: Vec<Judge>,
    (end, replaying): (u64, &Replaying),
    report: &mut Report,
) -> io::Result<Vec<Judge>> {
    loop {
        let outcomes = match replaying {
            Replaying::Here => {
                judges.iter_mut().map(|judge| replay_one(journal, judge, end, &mut Nobody)).collect()
            }
            Replaying::Threads(recent) => replay_on_threads(journal, &mut judges, end, recent),
        };
        let mut divided_at = None;
        for outcome in outcomes {
            let replayed = outcome?;
            report.replayed += replayed.taken;
            report.unreadable += replayed.unreadable;
            divided_at = divided_at.max(replayed.divided);
        }
        match divided_at {
            Some(shards) => judges = Judge::reshard(judges, usize::from(shards)),
            None => return Ok(judges),
        }
    }
}

fn replay_on_threads(
    journal: &Journal,
    judges: &mut [Judge],
    end: u64,
    recent: &Recent,
) -> Vec<io::Result<Replayed>> {
    std::thread::scope(|scope| {
        let one = |judge: &mut Judge| {
            // Before a change of their number there may be more shards than the page has parts.
            match recent.get(judge.shard().index) {
                Some(mut part) => replay_one(journal, judge, end, &mut *part),
                None => replay_one(journal, judge, end, &mut Nobody),
            }
        };
        let threads: Vec<_> = judges.iter_mut().map(|judge| scope.spawn(move || one(judge))).collect();
        threads.into_iter().map(|thread| thread.join().expect("engines do not panic")).collect()
    })
}

/// What one shard took again.
#[derive(Clone, Copy, Default, Debug)]
struct Replayed {
    taken: u64,
    unreadable: u64,
    /// It stands before a record that divides series among so many shards.
    divided: Option<u16>,
}

fn replay_one(
    journal: &Journal,
    judge: &mut Judge,
    end: u64,
    onlooker: &mut impl Onlooker,
) -> io::Result<Replayed> {
    let mut replayed = Replayed::default();
    let mut reader = Reader::from(judge.next());
    while let Some(found) = journal.read_log(&mut reader, end, is_input)? {
        let Some(record) = input(&found)? else {
            replayed.unreadable += 1;
            continue;
        };
        if let Entry::Rules(rules) = &record.entry
            && rules.shards() != judge.shard().count
        {
            replayed.divided = Some(rules.shards);
            return Ok(replayed);
        }
        let stream = judge.stream();
        judge.take(&record, onlooker, |part, request| {
            journal.offer(stream, found.head.sequence, part, &request);
        });
        replayed.taken += 1;
    }
    Ok(replayed)
}

/// Whether a record is one that engines take.
pub fn is_input(head: &Head) -> bool {
    matches!(head.kind, record::REQUEST | TICK | RULES)
}

/// A record as engines take it; `None` where it is none of theirs or cannot be read.
///
/// # Errors
/// [`Foreign`] where another program wrote rules: all that follows would be judged by wrong ones.
pub fn input(found: &super::log::Record) -> Result<Option<Record>, Foreign> {
    let entry = match found.head.kind {
        TICK => Some(Entry::Tick),
        RULES => record::rules(found)?.map(Entry::Rules),
        _ => request(found),
    };
    let Head { sequence, arrival, .. } = found.head;
    Ok(entry.map(|entry| Record { sequence, arrival, received: Instant::now(), entry }))
}

fn request(found: &super::log::Record) -> Option<Entry> {
    let request = record::request(found)?;
    let raw = snappy::decompress(&request.body, DECODED_BYTES_MAX).ok()?;
    let decoded = decode::decode(request.protocol, raw, &Limits::default(), request.latest).ok()?;
    Some(Entry::Request { batch: decoded.batch })
}

impl Report {
    fn compare(&mut self, before: &Rules, wanted: &Rules) {
        self.shards_before = (before.shards != wanted.shards).then(|| before.shards());
        let gone = before.plan.monitors.iter().filter(|monitor| !wanted.plan.monitors.contains(monitor));
        self.dropped_monitors = gone.map(|monitor| monitor.name.to_string()).collect();
    }
}

#[cfg(test)]
pub(super) mod tests;
