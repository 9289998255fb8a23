//! `promantis replay`: judges a journal anew, aside, and shows that it brings forth the same bytes.

mod files;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::{Failure, load, show};
use crate::app::{Origin, Source};
use crate::edge::replay::{Begin, Pace, Replay, ReplayError, Report, Tell, Wish};
use crate::engine::monitor::Plan;
use files::{Files, Unusable};

/// What `replay` can be told.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// Folder of what a promantis keeps (its `journal.path`), or the journal in it. Nothing in it is changed, and a
    /// promantis may be running in it: then the journal ends where it ends now.
    #[arg(long, value_name = "DIR")]
    journal: PathBuf,
    /// Where to write: a new folder, or an empty one.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Judge everything by the monitors and limits of this configuration, instead of by those in the journal.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write only what records from this sequence on bring forth. Begins with the newest snapshots before it.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    from: u64,
    /// End before this sequence.
    #[arg(long, value_name = "SEQ", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Begin with nothing learned, whatever snapshots there are.
    #[arg(long)]
    empty: bool,
    /// Write every judged observation, not only those that are flagged or where the flag changes.
    #[arg(long)]
    all: bool,
    /// Write the summary as JSON.
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Writes into the folder:
  derived-SHARD.bin  each derived request: sequence of its cause (u64), part (u32), length (u32), little-endian, and \
the bytes that are posted
  derived.prom       their samples as text: series, value, milliseconds
  judgements.jsonl   judged observations that are flagged or where the flag changes, one JSON object a line

Each derived request is compared with the one that the journal has from the first time. Without --config, one that \
differs is exit code 1: the same records give the same bytes, unless records were damaged or what was learned before \
the journal's begin is not there any more.";

#[derive(Serialize)]
struct Summary<'a> {
    #[serde(flatten)]
    report: &'a Report,
    seconds: f64,
    samples_per_second: f64,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let begun = Instant::now();
    let replay = Replay::open(&options.journal, wish(options)?).map_err(failure)?;
    let mut files = Files::make(&options.out, &options.journal, Progress::new()).map_err(refused)?;
    let report = replay.run(&mut files).map_err(failure)?;
    files.finish().map_err(|error| failure(ReplayError::Write(error)))?;
    let summary = Summary::new(&report, begun.elapsed());
    let told = match options.json {
        true => serde_json::to_string_pretty(&summary).map_err(anyhow::Error::from)? + "\n",
        false => text(&summary),
    };
    show(&told)?;
    match report.different {
        0 => Ok(()),
        _ if options.config.is_some() => Ok(()),
        count => Err(anyhow::anyhow!("{count} derived requests differ from those in the journal").into()),
    }
}

fn wish(options: &Options) -> Result<Wish, Failure> {
    Ok(Wish {
        begin: if options.empty { Begin::Empty } else { Begin::Known },
        plan: options.config.as_deref().map(plan).transpose()?,
        from: options.from,
        to: options.to,
        tell: if options.all { Tell::All } else { Tell::Flagged },
        pace: Pace::Threads,
    })
}

fn plan(path: &Path) -> Result<Plan, Failure> {
    let config = load(&Source { origin: Origin::File(path.to_owned()), listen: None })?;
    Ok(Plan::clone(&config.plan))
}

fn failure(error: ReplayError) -> Failure {
    match error {
        ReplayError::Missing(_) | ReplayError::NoRules => Failure::Usage(error.to_string()),
        ReplayError::Read { .. } | ReplayError::Write(_) => Failure::Failed(error.into()),
    }
}

fn refused(error: Unusable) -> Failure {
    match error {
        Unusable::Io { .. } => Failure::Failed(error.into()),
        Unusable::NotEmpty(_) | Unusable::Inside { .. } => Failure::Usage(error.to_string()),
    }
}

impl<'a> Summary<'a> {
    fn new(report: &'a Report, took: Duration) -> Self {
        let seconds = took.as_secs_f64();
        Self { report, seconds, samples_per_second: report.samples as f64 / seconds }
    }
}

fn text(summary: &Summary<'_>) -> String {
    let Summary { report, seconds, samples_per_second } = summary;
    let Report { begin, end, records, requests, samples, judged, flags, .. } = report;
    let Report { derived, derived_samples, identical, different, missing, unexplained, .. } = report;
    let Report { from_snapshots, unreadable, damaged, cut_bytes, .. } = report;
    let knowing = if *from_snapshots { "what snapshots knew" } else { "nothing learned" };
    format!(
        "{records} records from sequence {begin}, before {end}; began with {knowing}
{requests} requests of {samples} samples in {seconds:.2} s, {samples_per_second:.0} samples/s
{judged} observations judged, {flags} flags raised
{derived} requests of {derived_samples} samples derived; of the journal's, {identical} identical, {different} different
{missing} not in the journal, {unexplained} only there
{unreadable} records unreadable, {damaged} places damaged, {cut_bytes} bytes torn at the end
"
    )
}

/// How far it is, on standard error, where that is a terminal.
#[derive(Debug)]
struct Progress {
    shown: bool,
    last: Option<Instant>,
}

/// From one time that it is told to the next.
const TELL_EVERY: Duration = Duration::from_millis(200);

impl Progress {
    fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), last: None }
    }

    fn tell(&mut self, done: u64, all: u64) {
        let due = self.last.is_none_or(|last| last.elapsed() >= TELL_EVERY);
        if self.shown && (due || done == all) {
            let end = if done == all { "\n" } else { "" };
            eprint!("\r{done} of {all} records{end}");
            self.last = Some(Instant::now());
        }
    }
}
