//! `promantis bench`: what samples cost, through real HTTP, beside what they cost installed peers.
//!
//! Each server is a process of its own. This process sends the load, whose requests are made before the clock starts,
//! and is the target that takes what is written back; nothing of that is in the CPU time that is told. Servers take
//! turns in every round, because machines are shared, and ratios are those of the same minutes.

mod entrant;
mod http;
mod interrupt;
mod load;
mod page;
mod report;
mod scenario;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::scratch::Scratch;
use super::workload::Shape;
use super::{Failure, Signals, runtime, show};
use crate::wire::decode::Protocol;

use entrant::{Entrant, Journal, Kind, Measured, Peer};
use http::Sink;
use interrupt::Interrupt;
use load::Load;
use report::{Report, Row};
use scenario::Scenario;

/// Steps until all windows of the detectors are full.
const WARM_UP_MAX: u64 = 64;
/// Steps at least: detectors have something to say after fifteen.
const WARM_UP_MIN: u64 = 15;
/// Samples in all that a warm-up is to have, between those.
const WARM_UP_SAMPLES: u64 = 64_000_000;
/// Steps of peers, who learn nothing but which series there are.
const WARM_UP_PEERS: u64 = 3;

/// What `bench` can be told.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// How many series there are.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    series: u32,
    /// What their labels are like.
    #[arg(long, value_enum, default_value = "alike")]
    labels: Shape,
    /// How long each server has the load in each round.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// `fast`, `none` for series that no monitor wants, or a list such as `zscore,mad`.
    #[arg(long, value_name = "NAMES", default_value = "fast")]
    detectors: String,
    /// What is written back.
    #[arg(long, value_name = "NAMES", default_value = "score,flag")]
    emit: String,
    /// Version of remote write in which the load comes.
    #[arg(long, default_value = "1.0", value_parser = protocol)]
    protocol: Protocol,
    /// How promantis keeps its journal. Several, with commas, take turns.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "batch")]
    journal: Vec<Journal>,
    /// Samples a second, or `max`: as many as are taken; then, promantis is measured at half of that, too. The warm-up
    /// comes as fast: where queues are long by then, they are in the bytes per series.
    #[arg(long, value_name = "RATE", default_value = "max", value_parser = pace)]
    rate: Pace,
    /// Samples of a request.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    requests: u32,
    /// Connections, each with series of its own and one request on its way: few senders, or shards of one.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// An installed program that has the same load in turn. May be given several times.
    #[arg(long, value_enum)]
    peer: Vec<Peer>,
    /// Another build of promantis that has the same load in turn.
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Cores that each server may use, by `taskset`. Left out: all.
    #[arg(long, value_name = "N")]
    cores: Option<usize>,
    /// How often each has its turn.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Samples of each series before the clock counts. Left out: 64, which fill the windows of all detectors; fewer
    /// for more than a million series, down to 15.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    warm_up: Option<u64>,
    /// Where to keep journals and stores while it runs; on a real disk, for figures that mean something.
    #[arg(long, value_name = "FOLDER", default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// Write JSON.
    #[arg(long)]
    json: bool,
}

/// How fast the load comes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Pace {
    /// As fast as it is taken.
    Max,
    /// So many samples a second.
    Rate(u32),
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "1.0" => Ok(Protocol::V1),
        "2.0" => Ok(Protocol::V2),
        _ => Err("write 1.0 or 2.0".to_owned()),
    }
}

fn pace(text: &str) -> Result<Pace, String> {
    if text == "max" {
        return Ok(Pace::Max);
    }
    let rate = text.parse().ok().filter(|rate| *rate > 0);
    rate.map(Pace::Rate).ok_or_else(|| "write `max`, or samples a second above 0".to_owned())
}

pub(super) fn run(options: Options) -> Result<(), Failure> {
    check(&options).map_err(Failure::Usage)?;
    let interrupt = Interrupt::default();
    let seen = interrupt.clone();
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let mut measuring = tokio::task::spawn_blocking(move || measure(&options, seen));
        let measured = tokio::select! {
            measured = &mut measuring => measured,
            () = signals.until_stopped(|| ()) => {
                interrupt.raise();
                measuring.await
            }
        };
        measured.map_err(anyhow::Error::from)?
    })
}

/// What no single option can say of itself.
fn check(options: &Options) -> Result<(), String> {
    if options.protocol == Protocol::V2 && !options.peer.is_empty() {
        return Err(
            "--peer goes with --protocol 1.0 only: the peers that Debian has speak no other".to_owned()
        );
    }
    if let Some(cores) = options.cores.filter(|cores| !(1..=scenario::all_cores()).contains(cores)) {
        return Err(format!("--cores {cores} is not from 1 to {}", scenario::all_cores()));
    }
    let mut words: Vec<_> = options.journal.iter().map(word).chain(options.peer.iter().map(word)).collect();
    words.sort_unstable();
    match words.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("{} has more than one turn", pair[0])),
        None => Ok(()),
    }
}

fn measure(options: &Options, interrupt: Interrupt) -> Result<(), Failure> {
    let sink = Sink::start().context("start the target")?;
    let scratch = Scratch::new(&options.folder, "bench");
    let scratch = scratch.with_context(|| format!("make a folder in {}", options.folder.display()))?;
    let scenario = Scenario::new(options, (scratch.path().to_owned(), sink.addr), interrupt)?;
    let report = Bench { options, scenario: &scenario, load: load(options) }.run()?;
    let (requests, bytes) = sink.taken();
    eprintln!("the target took {requests} requests of {bytes} bytes in all");
    let told = if options.json {
        serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)? + "\n"
    } else {
        report::text(&report)
    };
    Ok(show(&told)?)
}

fn load(options: &Options) -> Load {
    let Options { labels, protocol, series, requests, connections, .. } = *options;
    Load::new(labels, protocol, series as usize, requests as usize, connections as usize)
}

/// A run.
struct Bench<'a> {
    options: &'a Options,
    scenario: &'a Scenario,
    load: Load,
}

impl Bench<'_> {
    fn run(&mut self) -> anyhow::Result<Report> {
        let mut entrants = self.enter()?;
        let mut rounds: Vec<Vec<Measured>> = entrants.iter().map(|_| Vec::new()).collect();
        for round in 0..self.options.rounds as usize {
            for turn in 0..entrants.len() {
                // Each has each place in turn, so that none is always the first or the last.
                let index = (turn + round) % entrants.len();
                let measured = self.measure(&mut entrants[index], self.rate())?;
                rounds[index].push(measured);
            }
        }
        let row = |(entrant, measured): (&Entrant, &Vec<Measured>)| Row::new(entrant, measured, &rounds[0]);
        let servers: Vec<_> = entrants.iter().zip(&rounds).map(row).collect();
        let half_load = match self.options.rate {
            Pace::Max => Some(self.half_load(&mut entrants[0], &servers[0])?),
            Pace::Rate(_) => None,
        };
        let file_system = server::file_system(&self.scenario.folder)?;
        let run = scenario::sentence(self.options, &file_system);
        let Options { series, seconds, rounds, .. } = *self.options;
        Ok(Report { run, series, seconds, rounds, servers, half_load })
    }

    fn rate(&self) -> Option<f64> {
        match self.options.rate {
            Pace::Max => None,
            Pace::Rate(rate) => Some(rate.into()),
        }
    }

    /// Starts all that take turns, promantis first.
    fn enter(&mut self) -> anyhow::Result<Vec<Entrant>> {
        let this = std::env::current_exe().context("find this program")?;
        let promantis = |program: &PathBuf, journal| Kind::Promantis { program: program.clone(), journal };
        let journals = &self.options.journal;
        let mut kinds: Vec<_> = journals
            .iter()
            .map(|&journal| match journals.as_slice() {
                [_] => ("promantis".to_owned(), promantis(&this, journal)),
                _ => (format!("promantis-{}", word(&journal)), promantis(&this, journal)),
            })
            .collect();
        if let Some(other) = &self.options.against {
            let other = std::path::absolute(other)?;
            kinds.push(("other".to_owned(), promantis(&other, journals[0])));
        }
        kinds.extend(self.options.peer.iter().map(|&peer| (word(&peer), Kind::Peer(peer))));
        kinds.into_iter().map(|(name, kind)| self.warm_up(name, kind)).collect()
    }

    fn warm_up(&mut self, name: String, kind: Kind) -> anyhow::Result<Entrant> {
        let series = u64::from(self.options.series);
        let steps = match kind {
            Kind::Peer(_) => WARM_UP_PEERS,
            Kind::Promantis { .. } => {
                let steps = (WARM_UP_SAMPLES / series).clamp(WARM_UP_MIN, WARM_UP_MAX);
                self.options.warm_up.unwrap_or(steps)
            }
        };
        eprintln!("{name}: warm-up, {steps} samples of {series} series");
        let rate = self.rate();
        let entrant = Entrant::enter(name, kind, (self.scenario, &mut self.load), (steps, rate))?;
        eprintln!("{}: {:.0} bytes per series", entrant.name, entrant.bytes_per_series);
        Ok(entrant)
    }

    fn measure(&mut self, entrant: &mut Entrant, rate: Option<f64>) -> anyhow::Result<Measured> {
        let span = Duration::from_secs(self.options.seconds);
        let measured = entrant.measure(&mut self.load, (span, rate), &self.scenario.interrupt)?;
        eprintln!(
            "{}: {:.0} samples/s, {:.0} per CPU second",
            entrant.name,
            measured.per_second(),
            measured.per_cpu_second()
        );
        Ok(measured)
    }

    fn half_load(&mut self, entrant: &mut Entrant, whole: &Row) -> anyhow::Result<Row> {
        let half = [self.measure(entrant, Some(whole.samples_per_second() / 2.0))?];
        Ok(Row::new(entrant, &half, &half))
    }
}

/// As it is written on the command line.
fn word(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_max_or_a_number_above_0() {
        assert_eq!(pace("max"), Ok(Pace::Max));
        assert_eq!(pace("1000"), Ok(Pace::Rate(1000)));
        for wrong in ["0", "-1", "1e6", "", "fast"] {
            assert!(pace(wrong).is_err(), "{wrong}");
        }
    }
}
