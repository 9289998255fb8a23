//! The command line: one file a command.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.

pub mod huge_pages;
pub mod workload;

mod bench;
mod check;
mod demo;
mod replay;
mod scrape;
mod scratch;
mod serve;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{Origin, Source};
use crate::config::{Config, ConfigErrors};
use crate::edge::disk::descriptors;

/// Judges every sample on Prometheus's remote-write path and writes scores, flags and forecasts back.
#[derive(Parser, Debug)]
#[command(version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// How much to log: a level, or a filter such as `info,promantis::edge::send=debug`.
    #[arg(long, global = true, default_value = "info", env = "PROMANTIS_LOG")]
    log: String,
    /// How to write logs, to standard error.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum, Debug)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run: receive remote write, judge, write back.
    Serve(serve::Options),
    /// Check a configuration and say what it will do.
    Check(check::Options),
    /// Judge what an exporter exposes, without a Prometheus.
    Scrape(scrape::Options),
    /// See it work: weeks of made-up metrics with faults, through the real road, in seconds.
    Demo(demo::Options),
    /// Judge a journal anew, by the same rules or by others, and compare.
    Replay(replay::Options),
    /// Measure what samples cost, beside installed peers under the same load.
    Bench(bench::Options),
}

/// Why a command ended without doing its work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The configuration, or what was asked for, is wrong: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Something else went wrong: exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Usage(errors.to_string())
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(message) = start_log(&arguments) {
        eprintln!("promantis: {message}");
        return ExitCode::from(2);
    }
    if let Err(error) = descriptors::raise_limit() {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
    let outcome = match arguments.command {
        Command::Serve(options) => serve::run(options),
        Command::Check(options) => check::run(&options),
        Command::Scrape(options) => scrape::run(options),
        Command::Demo(options) => demo::run(options),
        Command::Replay(options) => replay::run(&options),
        Command::Bench(options) => bench::run(options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("promantis: {failure}");
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}

fn start_log(arguments: &Arguments) -> Result<(), String> {
    let filter = tracing_subscriber::EnvFilter::try_new(&arguments.log)
        .map_err(|error| format!("--log {:?}: {error}", arguments.log))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // Where the log itself cannot be written, as on a full disk, to say so there would end a thread.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// Loads the configuration and says in the log which one.
fn load(source: &Source) -> Result<Config, Failure> {
    let config = source.load()?;
    let name = match &source.origin {
        Origin::File(path) => path.display().to_string(),
        Origin::Defaults | Origin::Text(_) => "built in".to_owned(),
    };
    tracing::info!(
        config = %name,
        monitors = config.plan.monitors.len(),
        targets = config.targets.len(),
        "configuration loaded"
    );
    Ok(config)
}

/// A runtime with a thread for each processor.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    Ok(runtime)
}

/// Writes `text` to standard output.
///
/// # Errors
/// When it cannot be written: nobody reads it any more, or a disk is full.
fn show(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to standard output")
}

/// The signals that a command answers from the moment it listens: before it tells anybody that it runs.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens, inside a runtime.
    ///
    /// # Errors
    /// When the system does not let it.
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until the process is asked to stop. That it was asked to reload is kept for later.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits until the process is asked to stop; calls `reload` whenever it is asked to reload.
    async fn until_stopped(&mut self, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload(),
            }
        }
    }
}
