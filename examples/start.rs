//! How long a start takes with so many series in a snapshot, and how long a shard is busy with saving them.
//!
//! `cargo run --release --example start -- [--series 1000000] [--samples 3] [--step 15] [--folder DIR] [--json]`
//!
//! Makes engines with that many series, `profile: fast`, each with so many samples, `step` seconds apart; saves them
//! as a server does at its end, and recovers them in a process of its own, so that its memory is what a start takes. 168 samples
//! an hour apart fill every hour of the weekly baseline, which is the most that a series can hold. The files were just
//! written, so most likely they are read from the system's cache. Beside the time on the wall stands the CPU time of
//! all threads, since machines are shared. `DIR` has to be on a real disk; the default is `target`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use promantis::cli::workload::{STEP_MS, Shape, bodies};
use promantis::edge::disk::Folder;
use promantis::edge::journal::{Entry, Record, Rules, Settings};
use promantis::edge::judge::{Judge, Nobody};
use promantis::edge::limits::SyncMode;
use promantis::edge::recent::Recent;
use promantis::edge::recovery::{Recovered, Replaying, recover};
use promantis::edge::snapshot::Snapshots;
use promantis::edge::telemetry::Metrics;
use promantis::series::Batch;
use promantis::wire::decode::{Limits, Protocol, decode};
use promantis::wire::snappy;

const REQUEST_SERIES: usize = 10_000;
/// The first sample, Unix milliseconds.
const BEGIN_MS: i64 = 1_700_000_000_000;

struct Options {
    series: usize,
    samples: i64,
    step: Duration,
    folder: PathBuf,
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    if let (Some("recover"), Some(folder), Some(series)) =
        (arguments.next().as_deref(), arguments.next(), arguments.next())
    {
        println!("{}", start(Path::new(&folder), series.parse()?)?);
        return Ok(());
    }
    let options = options()?;
    let folder = tempfile::tempdir_in(&options.folder).context("make a folder for the snapshots")?;
    let saved = save(&options, folder.path())?;
    let mut start = Command::new(std::env::current_exe()?);
    start.arg("recover").arg(folder.path()).arg(options.series.to_string());
    let recovered = start.output()?;
    ensure!(recovered.status.success(), "the start failed: {}", String::from_utf8_lossy(&recovered.stderr));
    let recovered: Value = serde_json::from_slice(&recovered.stdout)?;
    if options.json {
        println!("{}", json!({"saved": saved, "recovered": recovered}));
    } else {
        println!("saved:     {saved}\nrecovered: {recovered}");
    }
    Ok(())
}

/// Makes the engines and saves them, one after the other.
fn save(options: &Options, folder: &Path) -> anyhow::Result<Value> {
    let metrics = Arc::new(Metrics::new());
    let snapshots = snapshots(folder, &metrics)?;
    let rules = rules(options.series)?;
    let Recovered { journal, mut judges, .. } = open(folder, &snapshots, &rules, &metrics)?;
    let sequence = journal.end() - 1;
    let runs = Shape::Alike.runs(options.series);
    let resident = resident_bytes()?;
    for step in 0..options.samples {
        let timestamp = BEGIN_MS + step * options.step.as_millis() as i64;
        for chunk in runs.chunks(REQUEST_SERIES * 10) {
            let batches = batches(chunk, step, timestamp)?;
            take(&mut judges, (sequence, timestamp), batches);
        }
    }
    let resident = resident_bytes()? - resident;
    let cpu = cpu_seconds();
    let mut took = Duration::ZERO;
    let mut durable = Duration::ZERO;
    for judge in &judges {
        let begin = Instant::now();
        let unfinished = snapshots.write(judge)?;
        took += begin.elapsed();
        snapshots.finish(unfinished)?;
        durable += begin.elapsed();
    }
    let series: usize = judges.iter().map(|judge| judge.engine().series_count()).sum();
    ensure!(series == options.series, "{series} series were admitted, not {}", options.series);
    Ok(json!({
        "series": series,
        "samples": options.samples,
        "shards": judges.len(),
        "resident_bytes": resident,
        "snapshot_bytes": metrics.snapshot_bytes.get(),
        "seconds": durable.as_secs_f64(),
        "cpu_seconds": cpu_seconds() - cpu,
        "save_seconds_per_100k_series": took.as_secs_f64() * 1e5 / series as f64,
    }))
}

/// Recovers so many series that were saved, all shards at once, and tells how long it took.
fn start(folder: &Path, saved: usize) -> anyhow::Result<Value> {
    let metrics = Arc::new(Metrics::new());
    let resident = resident_bytes()?;
    let begin = Instant::now();
    let snapshots = snapshots(folder, &metrics)?;
    let recovered = open(folder, &snapshots, &rules(saved)?, &metrics)?;
    let (seconds, cpu_seconds) = (begin.elapsed().as_secs_f64(), cpu_seconds());
    let judges = &recovered.judges;
    let series: usize = judges.iter().map(|judge| judge.engine().series_count()).sum();
    ensure!(series == saved, "{series} series came back, not {saved}");
    ensure!(recovered.report.replayed == 0, "records were replayed");
    Ok(json!({
        "series": series,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "resident_bytes": resident_bytes()? - resident,
        "peak_bytes": status_bytes("VmHWM:")?,
    }))
}

fn rules(series: usize) -> anyhow::Result<Rules> {
    // Each shard has its part of the limit, and not the same part of the series.
    let yaml = format!("limits: {{series_max: {0}, new_series_per_second: {0}}}", 2 * series);
    let plan = promantis::config::parse(&yaml)?.plan;
    let shards = std::thread::available_parallelism()?.get() as u16;
    Ok(Rules { plan: (*plan).clone(), shards, samples_per_request: 2000 })
}

fn snapshots(folder: &Path, metrics: &Arc<Metrics>) -> anyhow::Result<Snapshots> {
    let disk = Folder::make(&folder.join("snapshots"))?;
    Ok(Snapshots::on(Arc::new(disk), Arc::clone(metrics))?)
}

fn open(
    folder: &Path,
    snapshots: &Snapshots,
    rules: &Rules,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Recovered> {
    let disk = Folder::make(&folder.join("journal"))?;
    let settings = Settings {
        max_bytes: 2 << 30,
        waiting_max: promantis::edge::journal::WAITING_BYTES_MAX,
        sync: SyncMode::Batch,
        readers: rules.shards(),
        lasting: true,
    };
    let around = (&Replaying::Threads(Recent::new(rules.shards())), metrics);
    Ok(recover(Arc::new(disk), snapshots, &settings, (rules, BEGIN_MS), around)?)
}

fn batches(runs: &[Box<[u8]>], step: i64, timestamp: i64) -> anyhow::Result<Vec<Batch>> {
    let bodies = bodies(runs, REQUEST_SERIES, step, timestamp);
    let batch = |body: Vec<u8>| {
        let raw = snappy::decompress(&body, 1 << 30)?;
        Ok(decode(Protocol::V1, raw, &Limits::default(), i64::MAX)?.batch)
    };
    bodies.into_iter().map(batch).collect()
}

/// Each judge takes all `batches`, as if they stood at one place of the journal.
fn take(judges: &mut [Judge], (sequence, arrival): (u64, i64), batches: Vec<Batch>) {
    let record =
        |batch| Record { sequence, arrival, received: Instant::now(), entry: Entry::Request { batch } };
    let records: Vec<_> = batches.into_iter().map(record).collect();
    std::thread::scope(|scope| {
        for judge in judges {
            scope.spawn(|| {
                for record in &records {
                    judge.take(record, &mut Nobody, |_, _| {});
                }
            });
        }
    });
}

/// CPU seconds of this process.
fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

fn resident_bytes() -> anyhow::Result<u64> {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the system does not tell")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        series: 1_000_000,
        samples: 3,
        step: Duration::from_millis(STEP_MS as u64),
        folder: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target")),
        json: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--json" {
            options.json = true;
            continue;
        }
        let value = arguments.next().with_context(|| format!("{name} takes a value"))?;
        let number = || value.parse::<u32>().ok().filter(|value| *value > 0).context("not a number above 0");
        match name.as_str() {
            "--series" => options.series = number()? as usize,
            "--samples" => options.samples = number()?.into(),
            "--step" => options.step = Duration::from_secs(number()?.into()),
            "--folder" => options.folder = value.into(),
            _ => bail!("unknown option {name}; see the head of the example"),
        }
    }
    Ok(options)
}
