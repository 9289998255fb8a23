//! `promantis check`: whether a configuration is right, and how much it will write back.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Failure, show};
use crate::app::Source;
use crate::config::{Config, derived_per_series};
use crate::edge::history::HistorySpec;
use crate::edge::limits::{JournalSettings, Place, SyncMode};
use crate::edge::send::spec::TargetSpec;

/// What `check` can be told.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Configuration file. Without it, the defaults are shown.
    #[arg(value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write JSON.
    #[arg(long)]
    json: bool,
    /// Write every key with its default and meaning, as a Markdown table.
    #[arg(long)]
    reference: bool,
}

#[derive(Serialize)]
struct Report {
    listen: std::net::SocketAddr,
    targets: Vec<String>,
    forward: Vec<String>,
    history: Option<String>,
    journal: JournalReport,
    monitors: Vec<MonitorReport>,
}

#[derive(Serialize)]
struct JournalReport {
    /// The folder, or nothing where it is kept in memory.
    path: Option<String>,
    max_bytes: u64,
    max_age_seconds: u64,
    sync: &'static str,
}

#[derive(Serialize)]
struct MonitorReport {
    name: Box<str>,
    select: String,
    detectors: Vec<&'static str>,
    derived_series_per_source_series: usize,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    if options.reference {
        return Ok(show(&crate::config::reference())?);
    }
    let config = Source { origin: options.config.clone().into(), listen: None }.load()?;
    let report = report(&config);
    let shown = if options.json {
        serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)? + "\n"
    } else {
        text(&report)
    };
    Ok(show(&shown)?)
}

fn report(config: &Config) -> Report {
    let monitors = config.plan.monitors.iter().map(|monitor| MonitorReport {
        name: monitor.name.clone(),
        select: monitor.select.to_string(),
        detectors: monitor.detectors.iter().map(|kind| kind.name()).collect(),
        derived_series_per_source_series: derived_per_series(monitor),
    });
    let shown_urls = |targets: &[TargetSpec]| targets.iter().map(TargetSpec::shown_url).collect();
    Report {
        listen: config.listen,
        targets: shown_urls(&config.targets),
        forward: shown_urls(&config.forward),
        history: config.history.as_ref().map(HistorySpec::shown_url),
        journal: journal(&config.journal),
        monitors: monitors.collect(),
    }
}

fn journal(settings: &JournalSettings) -> JournalReport {
    JournalReport {
        path: match &settings.place {
            Place::Memory => None,
            Place::Folder(path) => Some(path.display().to_string()),
        },
        max_bytes: settings.max_bytes,
        max_age_seconds: settings.max_age.as_secs(),
        sync: match settings.sync {
            SyncMode::Batch => "batch",
            SyncMode::Interval => "interval",
            SyncMode::Never => "never",
        },
    }
}

fn text(report: &Report) -> String {
    let writes = match report.targets.as_slice() {
        [] => "writes nowhere: derived series are not kept, the page shows the last judgements".to_owned(),
        targets => format!("writes to {}", targets.join(", ")),
    };
    let mut text = format!("configuration is valid\nlistens on {}\n{writes}\n", report.listen);
    if !report.forward.is_empty() {
        text += &format!("forwards to {}\n", report.forward.join(", "));
    }
    text += &kept(&report.journal);
    if let Some(history) = &report.history {
        text += &format!("fills gaps from {history}\n");
    }
    for monitor in &report.monitors {
        text += &format!(
            "monitor {:?} over {}: {} derived series per source series, by {}\n",
            monitor.name,
            monitor.select,
            monitor.derived_series_per_source_series,
            monitor.detectors.join(", ")
        );
    }
    text
}

fn kept(journal: &JournalReport) -> String {
    let JournalReport { path, max_bytes, max_age_seconds, sync } = journal;
    let place = path.as_ref().map_or("in memory".to_owned(), |path| format!("in {path:?}, sync {sync}"));
    format!("journal {place}, at most {max_bytes} bytes and {max_age_seconds} s\n")
}
