//! Compares what was flagged with what went wrong, and counts both kinds of error.

use serde::Serialize;

use super::answers::{Episode, Labels, Signal};
use super::faults::{Deploy, Fault, Kind, MINUTE_MS, Schedule};

/// A flag that rises so soon after a deployment of its service is put down to it, milliseconds.
const DEPLOY_MS: i64 = 15 * MINUTE_MS;

/// What a demo found, as it is written with `--json`. Times are Unix milliseconds.
#[derive(Serialize, Debug)]
pub(super) struct Report {
    pub(super) run: Run,
    pub(super) faults: Vec<Finding>,
    pub(super) false_alarms: FalseAlarms,
    pub(super) deploys: usize,
    pub(super) flags: Vec<Flag>,
    /// Flags that rose in all; more than are listed where the first were forgotten.
    pub(super) flags_raised: u64,
}

/// What was run, and how fast.
#[derive(Serialize, Debug)]
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) days: u32,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) series: usize,
    pub(super) signals: usize,
    pub(super) samples: u64,
    pub(super) derived_samples: u64,
    pub(super) seconds: f64,
    pub(super) samples_per_second: f64,
}

/// A fault, and how it was found.
#[derive(Serialize, Debug)]
pub(super) struct Finding {
    pub(super) fault: &'static str,
    /// The metric that shows it; empty where all of the target do.
    pub(super) metric: &'static str,
    pub(super) target: &'static str,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) found: bool,
    /// From its start until the flag rose or the derived series ended, seconds.
    pub(super) seconds_to_detect: Option<f64>,
    /// From the end of the run until the limit is crossed, as foretold then, seconds.
    pub(super) seconds_to_breach: Option<f64>,
    /// Derived signals that its silence ended.
    pub(super) signals_ended: Option<usize>,
}

/// A raised flag and what explains it.
#[derive(Serialize, Debug)]
pub(super) struct Flag {
    #[serde(flatten)]
    pub(super) episode: Episode,
    /// The fault that it belongs to; none for a false alarm.
    pub(super) fault: Option<&'static str>,
    /// Whether it is a false alarm just after a healthy deployment.
    pub(super) at_deploy: bool,
}

/// Flags that no fault explains.
#[derive(Serialize, Debug)]
pub(super) struct FalseAlarms {
    pub(super) count: usize,
    /// Per signal and day that was judged.
    pub(super) per_series_day: f64,
    /// How many of them rose just after a healthy deployment.
    pub(super) at_deploys: usize,
}

/// What was asked of the API when the run was over.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) episodes: Vec<Episode>,
    pub(super) signals: Vec<Signal>,
    pub(super) flags_raised: u64,
}

impl Report {
    pub(super) fn new(run: Run, schedule: &Schedule, observed: Observed) -> Self {
        let happened: Vec<_> = schedule.faults.iter().filter(|fault| fault.start < run.end).collect();
        let flags: Vec<_> = observed
            .episodes
            .iter()
            .rev()
            .map(|episode| explain(episode, &happened, &schedule.deploys))
            .collect();
        let false_alarms = count(&flags, observed.signals.iter().map(|it| u64::from(it.observations)).sum());
        Self {
            faults: happened.into_iter().map(|fault| find(fault, &observed)).collect(),
            false_alarms,
            deploys: schedule.deploys.len(),
            flags,
            flags_raised: observed.flags_raised,
            run,
        }
    }
}

/// The service, queue or node that a derived series is about.
fn target(labels: &Labels) -> &str {
    let of = |name: &str| labels.get(name).map(String::as_str);
    of("service").or_else(|| of("queue")).or_else(|| of("job")).unwrap_or_default()
}

fn metric(labels: &Labels) -> &str {
    labels.get("metric_name").map_or("", String::as_str)
}

fn explain(episode: &Episode, faults: &[&Fault], deploys: &[Deploy]) -> Flag {
    let target = target(&episode.labels);
    let fault = faults.iter().find(|fault| fault.explains(target, episode.since));
    let deployed = |deploy: &Deploy| {
        deploy.service == target && (0..DEPLOY_MS).contains(&episode.since.saturating_sub(deploy.at))
    };
    let at_deploy = fault.is_none() && deploys.iter().any(deployed);
    Flag { episode: episode.clone(), fault: fault.map(|fault| fault.kind.name()), at_deploy }
}

fn count(flags: &[Flag], observations: u64) -> FalseAlarms {
    let count = flags.iter().filter(|flag| flag.fault.is_none()).count();
    let days = observations as f64 / 1440.0;
    let at_deploys = flags.iter().filter(|flag| flag.at_deploy).count();
    FalseAlarms { count, per_series_day: count as f64 / days.max(1.0), at_deploys }
}

fn find(fault: &Fault, observed: &Observed) -> Finding {
    let mut finding = Finding {
        fault: fault.kind.name(),
        metric: fault.kind.metric(),
        target: fault.kind.service(),
        start: fault.start,
        end: fault.end,
        found: false,
        seconds_to_detect: None,
        seconds_to_breach: None,
        signals_ended: None,
    };
    match fault.kind {
        Kind::Silence => silence(&mut finding, observed),
        Kind::DiskFilling => breach(&mut finding, observed),
        _ => flag(&mut finding, observed),
    }
    finding
}

/// Found by a flag that rises on the metric that shows the fault, while it lasts.
fn flag(finding: &mut Finding, observed: &Observed) {
    let shows = |episode: &&Episode| {
        metric(&episode.labels) == finding.metric
            && target(&episode.labels) == finding.target
            && (finding.start..finding.end).contains(&episode.since)
    };
    let first = observed.episodes.iter().filter(shows).map(|episode| episode.since).min();
    finding.found = first.is_some();
    finding.seconds_to_detect = first.map(|since| seconds(since - finding.start));
}

/// Found when the limit is foretold to be crossed, and not before or long after it will be.
fn breach(finding: &mut Finding, observed: &Observed) {
    let shows = |signal: &&Signal| metric(&signal.labels) == finding.metric;
    let breaches = observed.signals.iter().filter(shows).flat_map(|signal| &signal.breach);
    let soonest = breaches.map(|breach| breach.seconds()).min_by(f64::total_cmp).filter(|it| it.is_finite());
    finding.seconds_to_breach = soonest;
    finding.found = soonest.is_some_and(|seconds| seconds > 0.0 && seconds < 4.0 * 3600.0);
}

/// Found when the derived series of the target ended, all those that ever were.
fn silence(finding: &mut Finding, observed: &Observed) {
    let of_target = observed.signals.iter().filter(|signal| target(&signal.labels) == finding.target);
    let ends: Vec<_> = of_target.filter_map(|signal| signal.ended).collect();
    finding.found = !ends.is_empty();
    finding.seconds_to_detect = ends.iter().min().map(|end| seconds(end - finding.start));
    finding.signals_ended = Some(ends.len());
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn episode(metric: &str, service: &str, since: i64) -> Episode {
        let labels = [("metric_name", metric), ("service", service)];
        Episode {
            labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            since,
            until: None,
            value: 9.0,
            expected: 1.0,
            lower: 0.0,
            upper: 2.0,
            score: 8.0,
            peak_score: 8.0,
            by: "mad".to_owned(),
            votes: Vec::new(),
            accepted: false,
        }
    }

    const SPIKE: Fault = Fault { kind: Kind::LatencySpike, start: 60_000, end: 600_000 };

    /// Whether the spike was found, after how long, and what the one flag was put down to.
    fn check(flag: Episode, deploys: Vec<Deploy>, expected: (bool, Option<f64>, Option<&str>, bool)) {
        let schedule = Schedule { faults: vec![SPIKE], deploys };
        let observed = Observed { episodes: vec![flag], signals: Vec::new(), flags_raised: 1 };
        let run = Run {
            seed: 1,
            days: 8,
            start: 0,
            end: 700_000,
            series: 1,
            signals: 1,
            samples: 1,
            derived_samples: 1,
            seconds: 1.0,
            samples_per_second: 1.0,
        };
        let report = Report::new(run, &schedule, observed);
        let (finding, flag) = (&report.faults[0], &report.flags[0]);
        assert_eq!((finding.found, finding.seconds_to_detect, flag.fault, flag.at_deploy), expected);
        assert_eq!(report.false_alarms.count, usize::from(flag.fault.is_none()));
    }

    #[test]
    fn a_fault_is_found_by_a_flag_on_its_metric_while_it_lasts() {
        let latency = "http_request_duration_seconds";
        let spike = Some("latency spike");
        check(episode(latency, "checkout", 240_000), vec![], (true, Some(180.0), spike, false));
        check(episode(latency, "checkout", 650_000), vec![], (false, None, spike, false));
        check(episode("up", "checkout", 240_000), vec![], (false, None, spike, false));
        check(episode(latency, "cart", 240_000), vec![], (false, None, None, false));
        check(episode(latency, "checkout", 59_999), vec![], (false, None, None, false));
    }

    #[test]
    fn a_false_alarm_after_a_deployment_says_so() {
        let deploys = vec![Deploy { service: "cart", at: 200_000 }];
        check(episode("up", "cart", 240_000), deploys, (false, None, None, true));
    }
}
