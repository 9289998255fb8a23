//! A journal judged anew, aside: what it brings forth, and whether that is what it brought forth before.
//!
//! Nothing in its folder is changed, and another process may be writing there: what is read is what was there when
//! it was opened, up to the torn end. Records are taken one after the other by the code that takes them live; what
//! they bring forth is handed on in the order of records, then of shards, however many threads judge.
//!
//! What was derived live is in the journal, too. Each derived request is compared with the one of the same stream,
//! cause and part there: under the same rules both have the same bytes.

mod begin;
mod survey;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::journal::{Entry, Record, Rules};
use super::judge::{Judge, Onlooker, Tally};
use super::log::{Log, Reader};
use super::recent::Labels;
use super::recovery::{input, is_input};
use super::send::Outgoing;
use crate::engine::monitor::Plan;
use crate::engine::sink::Judgement;
use survey::Survey;

/// Decoded bytes of records that are judged at once.
const CHUNK_BYTES: usize = 4 << 20;
/// Records that are judged at once: ticks have no bytes.
const CHUNK_RECORDS: usize = 1024;

/// What is to be replayed, and how.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What engines know at the begin.
    pub begin: Begin,
    /// The plan to judge by, instead of those in the journal. What it says of shards and of the size of requests
    /// holds all the same.
    pub plan: Option<Plan>,
    /// What earlier records bring forth is neither handed on nor compared.
    pub from: u64,
    /// The sequence before which it ends.
    pub to: u64,
    /// Which observations are handed on.
    pub tell: Tell,
    /// Who judges.
    pub pace: Pace,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            begin: Begin::Known,
            plan: None,
            from: 0,
            to: u64::MAX,
            tell: Tell::Flagged,
            pace: Pace::Threads,
        }
    }
}

/// What engines know at the begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// What was known. Nothing, where the journal is whole from its first record on; else what the oldest snapshots
    /// know, or the newest that are not after [`Wish::from`]; nothing where there are none.
    Known,
    /// Nothing.
    Empty,
}

/// Which judged observations are told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tell {
    /// Those that are flagged, and those where the flag changes.
    Flagged,
    /// All.
    All,
}

/// Who judges. What is brought forth is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// A thread for each shard.
    Threads,
    /// The caller, one shard after the other.
    Here,
}

/// A derived request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Derived {
    /// The shard that derived it.
    pub stream: u16,
    /// Sequence of the record that brought it forth.
    pub cause: u64,
    /// The how manieth of these, from 0.
    pub part: u32,
    /// What is posted.
    pub request: Outgoing,
}

/// A judged observation.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Judged {
    /// Sequence of the request that brought it.
    pub sequence: u64,
    /// Name of the monitor.
    pub monitor: Box<str>,
    /// Labels of the derived series, without a name.
    pub labels: Labels,
    /// Unix milliseconds.
    pub timestamp: i64,
    /// What was observed.
    pub value: f64,
    /// What was expected; absent, as the next four, while nothing is known.
    pub expected: Option<f64>,
    /// Lower edge of normal.
    pub lower: Option<f64>,
    /// Upper edge of normal.
    pub upper: Option<f64>,
    /// Score on the common scale.
    pub score: Option<f64>,
    /// The method that spoke.
    pub by: Option<&'static str>,
    /// Each method's score, signed: negative is below.
    pub votes: Vec<(&'static str, f64)>,
    /// The flag.
    pub flag: bool,
    /// Whether the flag is another than before.
    pub changed: bool,
}

/// Takes what a replay brings forth.
pub trait Taker {
    /// A request was derived.
    ///
    /// # Errors
    /// Ends the replay.
    fn derived(&mut self, derived: &Derived) -> io::Result<()>;

    /// An observation was judged.
    ///
    /// # Errors
    /// Ends the replay.
    fn judged(&mut self, judged: &Judged) -> io::Result<()>;

    /// So many of all records are done.
    fn progress(&mut self, _done: u64, _all: u64) {}
}

/// What came of a replay.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// Whether engines began with snapshots.
    pub from_snapshots: bool,
    /// Sequence of the first record that some engine took.
    pub begin: u64,
    /// Sequence before which it ended.
    pub end: u64,
    /// Records that were read as engines take them, unreadable ones among them.
    pub records: u64,
    /// Requests among them.
    pub requests: u64,
    /// Samples in these.
    pub samples: u64,
    /// Observations that were judged.
    pub judged: u64,
    /// Flags that rose.
    pub flags: u64,
    /// Requests that were derived, of those that were asked for.
    pub derived: u64,
    /// Samples in these.
    pub derived_samples: u64,
    /// Of the derived requests, those that the journal has, byte for byte.
    pub identical: u64,
    /// Those that the journal has with other bytes.
    pub different: u64,
    /// Those that the journal does not have: it ends before they were written, or they were lost.
    pub missing: u64,
    /// Requests that the journal has and that were not derived anew.
    pub unexplained: u64,
    /// Records that cannot be read as what they say they are.
    pub unreadable: u64,
    /// Places where records are damaged; these are passed over.
    pub damaged: u64,
    /// Bytes of a torn end; they are no part of the journal.
    pub cut_bytes: u64,
}

/// Why a journal cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Nothing there.
    #[error("{} holds no journal: neither it nor a folder `journal` in it has a file of 20 digits and `.log`", .0.display())]
    Missing(PathBuf),
    /// Nothing tells how to judge.
    #[error("the journal does not say which rules were in force; give a configuration")]
    NoRules,
    /// The journal cannot be read.
    #[error("read the journal in {}: {error}", path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// What was brought forth cannot be taken.
    #[error("write what was brought forth: {0}")]
    Write(io::Error),
}

/// A journal that is ready to be judged anew.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    log: Log,
    survey: Survey,
    judges: Vec<Judge>,
    /// For each shard at the begin, the first record that it takes; for later streams the least of these.
    starts: Vec<u64>,
    wish: Wish,
    /// Rules that were read and divide series anew: not taken yet.
    held: Option<Record>,
    report: Report,
}

impl Replay {
    /// Opens the journal in `folder`: one that has a folder `journal`, and perhaps one `snapshots`, or the folder of
    /// the segments itself. Reads all of it once.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn open(folder: &Path, wish: Wish) -> Result<Self, ReplayError> {
        begin::open(folder, wish)
    }

    /// Takes all records, and hands on what they bring forth.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn run(mut self, taker: &mut impl Taker) -> Result<Report, ReplayError> {
        let mut reader = Reader::from(self.report.begin);
        loop {
            self.divide();
            let chunk = self.read(&mut reader);
            let chunk = chunk.map_err(|error| ReplayError::Read { path: self.path.clone(), error })?;
            if chunk.is_empty() && self.held.is_none() {
                break;
            }
            let yields = self.judge(&chunk);
            self.hand_on(&chunk, yields, taker).map_err(ReplayError::Write)?;
            taker.progress(self.report.records, self.survey.inputs);
        }
        let Self { survey, starts, wish, report, .. } = &mut self;
        let lowest = starts.iter().min().copied().unwrap_or(0);
        let unexplained = survey.derived.keys().filter(|(stream, cause, _)| {
            let start = starts.get(usize::from(*stream)).copied().unwrap_or(lowest);
            (start.max(wish.from)..report.end).contains(cause)
        });
        report.unexplained = unexplained.count() as u64;
        Ok(self.report)
    }

    /// The next records, up to one that divides series anew, which is held.
    fn read(&mut self, reader: &mut Reader) -> io::Result<Vec<Record>> {
        let mut chunk: Vec<Record> = self.held.take().into_iter().collect();
        let mut bytes = 0;
        while bytes < CHUNK_BYTES
            && chunk.len() < CHUNK_RECORDS
            && let Some(found) = self.log.read(reader, self.report.end, is_input)?
        {
            self.report.records += 1;
            let Some(mut record) = input(&found)? else {
                self.report.unreadable += 1;
                continue;
            };
            match &mut record.entry {
                Entry::Request { batch } => {
                    self.report.requests += 1;
                    self.report.samples += batch.samples().len() as u64;
                    bytes += batch.memory_bytes();
                }
                Entry::Rules(rules) => {
                    if let Some(plan) = &self.wish.plan {
                        *rules = Rules { plan: plan.clone(), ..Rules::clone(rules) }.into();
                    }
                    if rules.shards() != self.judges.len() {
                        self.held = Some(record);
                        return Ok(chunk);
                    }
                }
                Entry::Tick => {}
            }
            chunk.push(record);
        }
        Ok(chunk)
    }

    /// Divides what is known among as many shards as the held rules ask for.
    fn divide(&mut self) {
        if let Some(Entry::Rules(rules)) = self.held.as_ref().map(|record| &record.entry) {
            self.judges = Judge::reshard(std::mem::take(&mut self.judges), rules.shards());
        }
    }

    fn judge(&mut self, chunk: &[Record]) -> Vec<Yield> {
        let one = |judge: &mut Judge| Yield::of(judge, chunk, &self.wish);
        match self.wish.pace {
            Pace::Here => self.judges.iter_mut().map(one).collect(),
            Pace::Threads => std::thread::scope(|scope| {
                let threads: Vec<_> =
                    self.judges.iter_mut().map(|judge| scope.spawn(move || one(judge))).collect();
                threads.into_iter().map(|thread| thread.join().expect("engines do not panic")).collect()
            }),
        }
    }

    fn hand_on(
        &mut self,
        chunk: &[Record],
        mut yields: Vec<Yield>,
        taker: &mut impl Taker,
    ) -> io::Result<()> {
        for Yield { judged, raised, .. } in &yields {
            self.report.judged += judged;
            self.report.flags += raised;
        }
        for record in chunk {
            for Yield { brought, .. } in &mut yields {
                while let Some(one) = brought.pop_front_if(|one| one.sequence() == record.sequence) {
                    match one {
                        Brought::Derived(derived) => {
                            self.compare(&derived);
                            taker.derived(&derived)?;
                        }
                        Brought::Judged(judged) => taker.judged(&judged)?,
                    }
                }
            }
        }
        Ok(())
    }

    fn compare(&mut self, derived: &Derived) {
        let Derived { stream, cause, part, request } = derived;
        let report = &mut self.report;
        report.derived += 1;
        report.derived_samples += request.samples as u64;
        let count = match self.survey.derived.remove(&(*stream, *cause, *part)) {
            None => &mut report.missing,
            Some(hash) if hash == survey::hash(request) => &mut report.identical,
            Some(_) => &mut report.different,
        };
        *count += 1;
    }
}

/// What one shard made of a chunk.
#[derive(Default, Debug)]
struct Yield {
    brought: VecDeque<Brought>,
    judged: u64,
    raised: u64,
}

#[derive(Debug)]
enum Brought {
    Derived(Derived),
    Judged(Judged),
}

impl Brought {
    fn sequence(&self) -> u64 {
        match self {
            Self::Derived(derived) => derived.cause,
            Self::Judged(judged) => judged.sequence,
        }
    }
}

impl Yield {
    fn of(judge: &mut Judge, chunk: &[Record], wish: &Wish) -> Self {
        let mut all = Self::default();
        let known = chunk.partition_point(|record| record.sequence < judge.next());
        for record in &chunk[known..] {
            let (stream, cause) = (judge.stream(), record.sequence);
            let mut watch = Watch { sequence: cause, tell: wish.tell, seen: Vec::new() };
            let mut derived = Vec::new();
            let Tally { counts, .. } = judge.take(record, &mut watch, |part, request| {
                derived.push(Brought::Derived(Derived { stream, cause, part, request }));
            });
            all.judged += counts.judged;
            all.raised += counts.raised;
            if cause >= wish.from {
                all.brought.extend(derived);
                all.brought.extend(watch.seen.into_iter().map(Brought::Judged));
            }
        }
        all
    }
}

/// Writes down what is to be told of.
struct Watch {
    sequence: u64,
    tell: Tell,
    seen: Vec<Judged>,
}

impl Onlooker for Watch {
    fn judged(&mut self, judgement: &Judgement<'_>) {
        let decided = judgement.decided;
        if self.tell == Tell::Flagged && !decided.is_some_and(|it| it.flag || it.changed) {
            return;
        }
        self.seen.push(Judged {
            sequence: self.sequence,
            monitor: judgement.monitor.name.clone(),
            labels: Labels::of(judgement),
            timestamp: judgement.sample.timestamp,
            value: judgement.sample.value,
            expected: decided.map(|it| it.band.expected),
            lower: decided.map(|it| it.band.lower),
            upper: decided.map(|it| it.band.upper),
            score: decided.map(|it| it.score),
            by: decided.map(|it| it.by.name()),
            votes: judgement.votes.iter().map(|(kind, verdict)| (kind.name(), verdict.score)).collect(),
            flag: decided.is_some_and(|it| it.flag),
            changed: decided.is_some_and(|it| it.changed),
        });
    }

    fn ended(&mut self, _signal: u64, _timestamp: i64) {}
}
