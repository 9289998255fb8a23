//! `promantis demo`: weeks of a made-up shop with faults of known truth, through the real road, in seconds.
//!
//! The same program as `serve` runs in this process. The demo speaks to it over HTTP only, as a sender and as a
//! reader, and compares what it says with what went wrong.

mod answers;
mod drive;
mod faults;
mod noise;
mod report;
mod stack;
mod text;
mod world;

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Context;
use clap::Args;

use super::{Failure, Signals, runtime};
use crate::app::{App, Origin, Source};
use crate::edge::clock::unix_ms;

use drive::Driver;
use faults::{DAYS_MIN, MINUTE_MS, Schedule};
use report::{Observed, Report, Run};
use world::{STEP_MS, World};

/// More days take more than a minute and show nothing new.
const DAYS_MAX: u32 = 400;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// What the demo configures, as anybody could write it.
const CONFIGURATION: &str = r#"
# Nothing of the demo is left behind.
journal: {path: memory}

monitors:
  # Everything, judged by the defaults.
  - name: default
    select: '{__name__!~"node_filesystem_.*|process_resident_memory_bytes"}'
    emit: [score, flag, expected]

  # A leak is slow: methods that look at the last hour follow it, so only those with a long memory are asked,
  # and a level that stays is not taken for a new normal during a working day.
  - name: memory
    select: process_resident_memory_bytes
    detectors: [zscore, baseline]
    direction: above
    accept_after: 12h
    emit: [score, flag, expected]

  # When will the disk be full?
  - name: disk
    select: node_filesystem_avail_bytes
    forecast: { horizons: [1h, 4h], lower: 5GiB }
    emit: [score, flag, expected, forecast]
"#;

/// What `demo` can be told.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Which world: the same seed gives the same noise and faults.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Days of the past to make up, 8 to 400. The hour-of-week baseline speaks from the second week on.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(i64::from(DAYS_MIN)..=i64::from(DAYS_MAX)))]
    days: u32,
    /// Where the page and the API are. Port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// End after the report; otherwise the world goes on, a sample a minute, until it is interrupted.
    #[arg(long)]
    exit: bool,
    /// Write the report as JSON.
    #[arg(long)]
    json: bool,
    /// Instead of the made-up world: start the installed Prometheus, Alertmanager and node exporter around
    /// promantis, on free ports and in a temporary directory, until it is interrupted.
    #[arg(long, conflicts_with_all = ["seed", "days", "listen", "exit", "json", "end"])]
    stack: bool,
    /// When the made-up past ends, Unix seconds, not in the future; rounded down to a minute. The same seed and end
    /// give the same report. Left out: now.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(0..))]
    end: Option<i64>,
}

pub(super) fn run(options: Options) -> Result<(), Failure> {
    if options.stack {
        return stack::run();
    }
    let end = end(options.end)?;
    let source = Source { origin: Origin::Text(CONFIGURATION), listen: Some(options.listen) };
    let config = source.load()?;
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let app = App::start(config, source).await?;
        let outcome = tokio::select! {
            () = signals.until_stopped(|| ()) => Ok(()),
            shown = show(&options, end, app.addr()) => shown,
        };
        app.stop().await;
        Ok(outcome?)
    })
}

/// When the past ends, Unix milliseconds, on a full minute.
fn end(asked: Option<i64>) -> Result<i64, Failure> {
    let now = unix_ms();
    match asked.map(|seconds| seconds.saturating_mul(1000)) {
        Some(end) if end > now => {
            Err(Failure::Usage(format!("--end {} is in the future, it is {} now", end / 1000, now / 1000)))
        }
        end => Ok(end.unwrap_or(now).div_euclid(MINUTE_MS) * MINUTE_MS),
    }
}

/// Runs the demo against the promantis at `addr`.
async fn show(options: &Options, end: i64, addr: SocketAddr) -> anyhow::Result<()> {
    let start = end - i64::from(options.days) * DAY_MS;
    let schedule = Schedule::new(options.seed, start, end);
    let mut world = World::new(options.seed, start, schedule.clone());
    let mut driver = Driver::new(addr);
    let report = drive(options, &mut world, &mut driver, (&schedule, end)).await?;
    let told =
        if options.json { serde_json::to_string_pretty(&report)? + "\n" } else { text::report(&report) };
    super::show(&told)?;
    if options.exit {
        return Ok(());
    }
    eprintln!("See http://{addr}/ ; a sample of each series follows every minute until you press Ctrl-C");
    feed(&mut world, &mut driver).await
}

async fn drive(
    options: &Options,
    world: &mut World,
    driver: &mut Driver,
    (schedule, end): (&Schedule, i64),
) -> anyhow::Result<Report> {
    let (start, began) = (world.now(), Instant::now());
    driver.send_until(world, end).await?;
    let status = driver.until_judged().await?;
    let seconds = began.elapsed().as_secs_f64();
    let observed = Observed {
        episodes: driver.list("/api/v1/anomalies").await.context("ask for what was flagged")?,
        signals: driver.list("/api/v1/series").await.context("ask for the signals")?,
        flags_raised: status.flags_raised,
    };
    let run = Run {
        seed: options.seed,
        days: options.days,
        start,
        end,
        series: world.series_count(),
        signals: observed.signals.len(),
        samples: driver.samples,
        derived_samples: status.derived_samples,
        seconds,
        samples_per_second: driver.samples as f64 / seconds,
    };
    Ok(Report::new(run, schedule, observed))
}

/// Sends a step of the world whenever as much time has passed.
async fn feed(world: &mut World, driver: &mut Driver) -> anyhow::Result<()> {
    let mut interval = tokio::time::interval(std::time::Duration::from_millis(STEP_MS.unsigned_abs()));
    loop {
        interval.tick().await;
        driver.send_step(world).await?;
    }
}
