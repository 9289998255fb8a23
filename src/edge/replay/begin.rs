//! Where a replay begins: the journal found, surveyed, and the engines that take its first record.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::survey::Survey;
use super::{Begin, Replay, ReplayError, Report, Wish};
use crate::edge::disk::{Disk, Folder, MemoryDisk};
use crate::edge::journal::{self, Entry, Record, Rules};
use crate::edge::judge::{Judge, Nobody};
use crate::edge::limits::{JournalSettings, SyncMode};
use crate::edge::log::{Log, Opened};
use crate::edge::snapshot::Snapshots;
use crate::edge::telemetry::Metrics;

/// How often to look again where a file went away between being listed and being opened: somebody writes there.
const LOOKS: usize = 5;
/// Samples in one derived request where no rules were ever in force.
const SAMPLES_PER_REQUEST: u32 = 2000;

/// See [`Replay::open`].
pub(super) fn open(folder: &Path, wish: Wish) -> Result<Replay, ReplayError> {
    let (path, snapshots) = find(folder)?;
    let failed = |error| ReplayError::Read { path: path.clone(), error };
    let opened = look(|| open_log(&path)).map_err(failed)?;
    let snapshots = look(|| open_snapshots(snapshots.as_deref())).map_err(failed)?;
    let rules = journal::oldest_rules(&opened).map_err(failed)?;
    let Opened { log, cut_bytes, damaged, .. } = opened;
    let mut survey = Survey::of(&log, rules).map_err(failed)?;
    let end = log.next().min(wish.to);
    let known = match wish.begin {
        // Before its first record nothing was known.
        Begin::Known if log.first() > 0 || wish.from > 0 => {
            saved(&snapshots, &survey, &wish, log.first()..end)
        }
        Begin::Known | Begin::Empty => None,
    };
    let from_snapshots = known.is_some();
    let judges = match known {
        Some(judges) => judges,
        None => unknowing(survey.rules.as_deref(), &wish, log.first())?,
    };
    let starts: Vec<u64> = judges.iter().map(Judge::next).collect();
    let begin = starts.iter().min().copied().unwrap_or(0);
    survey.count(&log, begin, end).map_err(failed)?;
    let damaged = survey.damaged.max(damaged);
    let report = Report { from_snapshots, begin, end, damaged, cut_bytes, ..Report::default() };
    Ok(Replay { path, log, survey, judges, starts, wish, held: None, report })
}

/// Where the segments are, and the snapshots if there is a place for them.
fn find(folder: &Path) -> Result<(PathBuf, Option<PathBuf>), ReplayError> {
    let inner = folder.join("journal");
    let (journal, data) = if inner.is_dir() {
        (inner, Some(folder))
    } else {
        let beside = folder.file_name().is_some_and(|name| name == "journal");
        (folder.to_owned(), folder.parent().filter(|_| beside))
    };
    let missing = || ReplayError::Missing(folder.to_owned());
    let names =
        Folder::read_only(&journal).and_then(|disk| disk.list()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(),
            _ => ReplayError::Read { path: journal.clone(), error },
        })?;
    let is_segment = |name: &String| name.len() == 24 && name.ends_with(".log");
    if !names.iter().any(is_segment) {
        return Err(missing());
    }
    let snapshots = data.map(|data| data.join("snapshots")).filter(|path| path.is_dir());
    Ok((journal, snapshots))
}

/// Looks again where a file has gone meanwhile.
fn look<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let again =
        |looked: &io::Result<T>| looked.as_ref().is_err_and(|it| it.kind() == io::ErrorKind::NotFound);
    let mut looked = open();
    for _ in 1..LOOKS {
        if !again(&looked) {
            break;
        }
        looked = open();
    }
    looked
}

fn open_log(path: &Path) -> io::Result<Opened> {
    let options = journal::options(JournalSettings::default().max_bytes, SyncMode::Never);
    Log::open(Arc::new(Folder::read_only(path)?), options)
}

fn open_snapshots(path: Option<&Path>) -> io::Result<Snapshots> {
    let disk: Arc<dyn Disk> = match path {
        Some(path) => Arc::new(Folder::read_only(path)?),
        None => Arc::new(MemoryDisk::default()),
    };
    Snapshots::on(disk, Arc::new(Metrics::new()))
}

/// Judges from good snapshots that the journal goes on from, all of them from between two divisions.
fn saved(snapshots: &Snapshots, survey: &Survey, wish: &Wish, within: Range<u64>) -> Option<Vec<Judge>> {
    let ends = survey.divisions.iter().skip(1).map(|(sequence, _)| *sequence).chain([u64::MAX]);
    let between: Vec<_> = survey.divisions.iter().zip(ends).collect();
    let set = |((begin, shards), end): (&(u64, usize), u64)| {
        let fits = |next: &u64| *next > *begin && *next <= end && within.contains(next);
        let one = |shard| {
            let mut sequences = snapshots.sequences(shard, *shards);
            sequences.retain(fits);
            if wish.from > 0 {
                sequences.retain(|next| *next <= wish.from);
                sequences.reverse();
            }
            sequences.into_iter().find_map(|next| snapshots.load_at(shard, *shards, next))
        };
        (0..*shards).map(one).collect::<Option<Vec<_>>>()
    };
    let mut judges = match wish.from {
        0 => between.into_iter().find_map(|(division, end)| set((division, end)))?,
        _ => between.into_iter().rev().find_map(|(division, end)| set((division, end)))?,
    };
    if let Some(plan) = &wish.plan {
        judges.iter_mut().for_each(|judge| overrule(judge, plan.clone()));
    }
    Some(judges)
}

/// Has a judge go on by another plan, as a reload would.
fn overrule(judge: &mut Judge, plan: crate::engine::monitor::Plan) {
    let shards = u16::try_from(judge.shard().count).unwrap_or(u16::MAX);
    let samples_per_request = u32::try_from(judge.samples_per_request()).unwrap_or(u32::MAX);
    let rules = Rules { plan, shards, samples_per_request };
    let record = Record {
        sequence: judge.next().saturating_sub(1),
        arrival: i64::MAX,
        received: Instant::now(),
        entry: Entry::Rules(Arc::new(rules)),
    };
    judge.take(&record, &mut Nobody, |_, _| ());
}

/// Judges that know nothing, from `first` on.
fn unknowing(recorded: Option<&Rules>, wish: &Wish, first: u64) -> Result<Vec<Judge>, ReplayError> {
    let rules = match (recorded, &wish.plan) {
        (Some(recorded), None) => recorded.clone(),
        (Some(recorded), Some(plan)) => Rules { plan: plan.clone(), ..*recorded },
        (None, Some(plan)) => {
            Rules { plan: plan.clone(), shards: 1, samples_per_request: SAMPLES_PER_REQUEST }
        }
        (None, None) => return Err(ReplayError::NoRules),
    };
    Ok((0..rules.shards()).map(|shard| Judge::new(shard, &rules, first)).collect())
}
