//! What promantis is configured to do with the load.

use std::path::PathBuf;

use super::super::workload::Shape;
use super::entrant::Journal;
use super::interrupt::Interrupt;
use super::{Options, Pace};
use crate::config::{self, ConfigErrors};

/// What all that are measured have in common.
pub(super) struct Scenario {
    /// Where all of them keep what they keep.
    pub(super) folder: PathBuf,
    pub(super) interrupt: Interrupt,
    /// How many cores each may use; without it, all.
    pub(super) cores: Option<usize>,
    sink: std::net::SocketAddr,
    series: u32,
    monitor: String,
}

impl Scenario {
    /// # Errors
    /// When no configuration can be as the options say.
    pub(super) fn new(
        options: &Options,
        (folder, sink): (PathBuf, std::net::SocketAddr),
        interrupt: Interrupt,
    ) -> Result<Self, ConfigErrors> {
        let monitor = monitor(&options.detectors, &options.emit);
        let (series, cores) = (options.series, options.cores);
        let scenario = Self { folder, interrupt, cores, sink, series, monitor };
        config::parse(&scenario.configuration(Journal::Memory))?;
        Ok(scenario)
    }

    /// Where derived samples go.
    pub(super) fn sink_url(&self) -> String {
        format!("http://{}/api/v1/write", self.sink)
    }

    /// The whole file.
    pub(super) fn configuration(&self, journal: Journal) -> String {
        let journal = match journal {
            Journal::Batch => "path: data, sync: batch",
            Journal::Interval => "path: data, sync: interval",
            Journal::Never => "path: data, sync: never",
            Journal::Memory => "path: memory",
        };
        // Each shard has its part of the limit, and not the same part of the series.
        let series_max = 2 * u64::from(self.series) + 1000;
        format!(
            "journal: {{{journal}}}
remote_write: [{{name: sink, url: \"{}\", max_sample_age: 0}}]
limits: {{series_max: {series_max}, new_series_per_second: {series_max}, connections_per_ip: 0}}
monitors: [{}]
",
            self.sink_url(),
            self.monitor
        )
    }
}

fn monitor(detectors: &str, emit: &str) -> String {
    match detectors {
        "none" => "{name: bench, select: promantis_bench_of_nothing}".to_owned(),
        "fast" => format!("{{name: bench, profile: fast, emit: [{emit}]}}"),
        list => format!("{{name: bench, detectors: [{list}], emit: [{emit}]}}"),
    }
}

/// What was asked for, in a sentence.
pub(super) fn sentence(options: &Options, file_system: &str) -> String {
    let rate = match options.rate {
        Pace::Max => "as fast as they are taken".to_owned(),
        Pace::Rate(rate) => format!("{rate} samples a second"),
    };
    format!(
        "{} series of {}, one sample each in requests of {} over {} connections, {rate}, for {} s \
         in each of {} rounds; detectors {}, written back: {}; files on {file_system}; {} of {}",
        options.series,
        match options.labels {
            Shape::Alike => "10 labels and 320 bytes",
            Shape::Mixed => "mixed families, 6 to 8 labels and 235 bytes",
        },
        options.requests,
        options.connections,
        options.seconds,
        options.rounds,
        options.detectors,
        if options.detectors == "none" { "nothing" } else { &options.emit },
        cores(options),
        processor()
    )
}

/// How many cores a server has.
fn cores(options: &Options) -> String {
    match (options.cores, all_cores()) {
        (Some(some), all) => format!("{some} of {all} cores"),
        (None, all) => format!("{all} cores"),
    }
}

/// How many cores there are.
pub(super) fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn processor() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = told.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("an unknown model", |(_, model)| model.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detectors_are_a_profile_a_list_or_none() {
        let plan = |detectors: &str, emit: &str| {
            let yaml = format!("monitors: [{}]", monitor(detectors, emit));
            config::parse(&yaml).map(|config| config.plan.monitors[0].clone())
        };
        let fast = plan("fast", "score,flag").unwrap();
        assert_eq!((fast.detectors.len(), config::derived_per_series(&fast)), (5, 2));
        let two = plan("zscore,mad", "score").unwrap();
        assert_eq!((two.detectors.len(), config::derived_per_series(&two)), (2, 1));
        assert_eq!(plan("none", "").unwrap().select.to_string(), "promantis_bench_of_nothing");
        assert!(plan("tea", "score").is_err());
        assert!(plan("fast", "coffee").is_err());
    }
}
