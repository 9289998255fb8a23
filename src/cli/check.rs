//! `promantis check`: whether a configuration is right, and how much it will write back.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Failure;
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
        print!("{}", crate::config::reference());
        return Ok(());
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
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(anyhow::Error::from)?);
    } else {
        print_text(&report);
    }
    Ok(())
}

fn print_text(report: &Report) {
    println!("configuration is valid");
    println!("listens on {}", report.listen);
    match report.targets.as_slice() {
        [] => println!("writes nowhere: derived series are kept in memory for queries"),
        targets => println!("writes to {}", targets.join(", ")),
    }
    for monitor in &report.monitors {
        println!(
            "monitor {:?} over {}: {} derived series per source series, by {}",
            monitor.name,
            monitor.select,
            monitor.derived_series_per_source_series,
            monitor.detectors.join(", ")
        );
    }
}
