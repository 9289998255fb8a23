//! What durability costs: the same load through HTTP against each way to keep the journal.
//!
//! `cargo run --release --example durability -- [--rate 100000] [--seconds 4] [--rounds 5] [--folder DIR] \
//!   [--against PROGRAM] [--json]`
//!
//! One server a mode, each a process of its own with its own folder, and all of them in one run: they take turns in
//! every round, because machines are shared and only ratios of the same minutes mean something. Requests come at a
//! fixed rate over so many keep-alive connections, 500 samples each as Prometheus sends them, or 10,000 as vmagent
//! does; derived samples go to a sink in this process that takes everything. CPU time is the server's, from the
//! first request until all is judged and delivered. `DIR` has to be on a real disk; the default is `target`. `PROGRAM` is another build of promantis, to be compared
//! with this one: it has a turn with `sync: batch`.

mod load;
mod peer;
mod server;
mod table;
#[path = "../support/workload.rs"]
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use load::Load;
use server::Server;
use table::Table;

/// Each way to keep the journal, and its configuration.
const MODES: [(&str, &str); 4] = [
    ("memory", "path: memory"),
    ("never", "path: data, sync: never"),
    ("interval", "path: data, sync: interval"),
    ("batch", "path: data, sync: batch"),
];
/// Connections and samples in a request of each load.
const LOADS: [(usize, usize); 3] = [(4, 500), (64, 500), (4, 10_000)];
/// Series, each with one sample a step.
const SERIES: usize = 40_000;
/// Steps before the clock counts: the windows of the detectors fill.
const WARM_UP: usize = 60;

struct Options {
    /// Samples a second.
    rate: usize,
    /// How long each server has the load in each round.
    span: Duration,
    rounds: usize,
    folder: PathBuf,
    against: Option<PathBuf>,
    json: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    if std::env::args().nth(1).is_some_and(|first| first == "serve") {
        return Ok(promantis::cli::run());
    }
    let options = options()?;
    let sink = peer::sink().context("start the sink")?;
    let folder = tempfile::tempdir_in(&options.folder).context("make a folder for the journals")?;
    let this = std::env::current_exe()?;
    let start = |(name, journal)| Server::start(name, (&this, journal), sink, folder.path());
    let mut servers = MODES.into_iter().map(start).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(program) = &options.against {
        servers.push(Server::start("other", (program, MODES[3].1), sink, folder.path())?);
    }
    let mut table = Table::default();
    let mut step = warm_up(&mut servers)?;
    for (connections, samples) in LOADS {
        for _ in 0..options.rounds {
            let steps = steps(&options);
            let load = Load::new(connections, samples, step..step + steps);
            step += steps;
            // Each has each place in turn, so that none is always the first or the last.
            servers.rotate_left(1);
            for server in &mut servers {
                let measured = server.measure(&load, options.rate)?;
                table.add((connections, samples), server.name, measured);
            }
        }
    }
    let sentence = format!(
        "{} samples a second, {SERIES} series, {} rounds of {:?}; journals on {}",
        options.rate,
        options.rounds,
        options.span,
        peer::file_system(folder.path())?
    );
    if options.json {
        println!("{}", table.json(&sentence))
    } else {
        println!("{sentence}\n{table}")
    }
    Ok(ExitCode::SUCCESS)
}

/// Fills the windows of all detectors and returns the next step.
fn warm_up(servers: &mut [Server]) -> anyhow::Result<usize> {
    for step in 0..WARM_UP {
        let load = Load::new(2, 10_000, step..step + 1);
        for server in &mut *servers {
            server.measure(&load, usize::MAX)?;
        }
    }
    Ok(WARM_UP)
}

/// Steps that fill a round. A server has to have seen them all, so a round has whole ones.
fn steps(options: &Options) -> usize {
    let samples = options.rate as f64 * options.span.as_secs_f64();
    (samples / SERIES as f64).ceil().max(1.0) as usize
}

fn options() -> anyhow::Result<Options> {
    let mut options = Options {
        rate: 100_000,
        span: Duration::from_secs(4),
        rounds: 5,
        folder: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target")),
        against: None,
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
            "--rate" => options.rate = number()? as usize,
            "--seconds" => options.span = Duration::from_secs(number()?.into()),
            "--rounds" => options.rounds = number()? as usize,
            "--against" => options.against = Some(std::path::absolute(value)?),
            "--folder" => options.folder = value.into(),
            _ => bail!("unknown option {name}; see the head of the example"),
        }
    }
    Ok(options)
}
