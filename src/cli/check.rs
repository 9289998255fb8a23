//! `promantis check`: whether a configuration is right, and how much it will write back.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Failure, show};
use crate::app::Source;
use crate::config::derived_per_series;

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
    monitors: Vec<MonitorReport>,
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
    let monitors = config.plan.monitors.iter().map(|monitor| MonitorReport {
        name: monitor.name.clone(),
        select: monitor.select.to_string(),
        detectors: monitor.detectors.iter().map(|kind| kind.name()).collect(),
        derived_series_per_source_series: derived_per_series(monitor),
    });
    let report = Report {
        listen: config.listen,
        targets: config.targets.iter().map(|target| target.shown_url()).collect(),
        monitors: monitors.collect(),
    };
    let shown = if options.json {
        serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)? + "\n"
    } else {
        text(&report)
    };
    Ok(show(&shown)?)
}

fn text(report: &Report) -> String {
    let writes = match report.targets.as_slice() {
        [] => "writes nowhere: derived series are kept in memory for queries".to_owned(),
        targets => format!("writes to {}", targets.join(", ")),
    };
    let mut text = format!("configuration is valid\nlistens on {}\n{writes}\n", report.listen);
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
