//! The report for people.

use super::answers::Labels;
use super::report::{Finding, Flag, Report};

/// False alarms that are listed one by one; of more, the last.
const FALSE_ALARMS_SHOWN: usize = 20;

/// The whole report, lines ended.
pub(super) fn report(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    let run = &report.run;
    line(format!(
        "{} days of {} series judged in {:.1} s: {} samples, {:.0} a second, {} derived samples",
        run.days, run.series, run.seconds, run.samples, run.samples_per_second, run.derived_samples
    ));
    line(String::new());
    line("What was flagged because something was wrong (times are UTC):".to_owned());
    report.flags.iter().filter(|flag| flag.fault.is_some()).flat_map(flagged).for_each(&mut line);
    line(String::new());
    let false_alarms: Vec<_> = report.flags.iter().filter(|flag| flag.fault.is_none()).collect();
    let skipped = false_alarms.len().saturating_sub(FALSE_ALARMS_SHOWN);
    if !false_alarms.is_empty() {
        let earlier = if skipped > 0 { format!(", the last {FALSE_ALARMS_SHOWN}") } else { String::new() };
        line(format!("What was flagged although nothing was wrong{earlier}:"));
        false_alarms.into_iter().skip(skipped).flat_map(flagged).for_each(&mut line);
        line(String::new());
    }
    line("What went wrong, and whether it was found:".to_owned());
    report.faults.iter().map(|finding| found(finding, run.end)).for_each(&mut line);
    line(String::new());
    let found = report.faults.iter().filter(|finding| finding.found).count();
    let alarms = &report.false_alarms;
    line(format!(
        "{found} of {} faults found; {} false alarms, {:.3} per series and day; {} of them at {} healthy deployments",
        report.faults.len(),
        alarms.count,
        alarms.per_series_day,
        alarms.at_deploys,
        report.deploys
    ));
    if report.flags_raised > report.flags.len() as u64 {
        line(format!(
            "{} flags were raised, of which the last {} are known",
            report.flags_raised,
            report.flags.len()
        ));
    }
    text
}

fn flagged(flag: &Flag) -> [String; 3] {
    let episode = &flag.episode;
    let until = match episode.until {
        Some(until) if episode.accepted => format!("accepted as the new normal {}", time(until)),
        Some(until) => format!("until {}", time(until)),
        None => "still raised".to_owned(),
    };
    let why = match (flag.fault, flag.at_deploy) {
        (Some(fault), _) => format!(", {fault}"),
        (None, true) => ", at a deployment".to_owned(),
        (None, false) => String::new(),
    };
    let votes = episode.votes.iter().map(|(method, score)| format!("{method} {score:+.1}"));
    [
        format!("  {}  {}", time(episode.since), name(&episode.labels)),
        format!(
            "      {} where {} to {} was expected; {until}{why}",
            number(episode.value),
            number(episode.lower),
            number(episode.upper)
        ),
        format!(
            "      score {:.1}, at most {:.1}; {} spoke; {}",
            episode.score,
            episode.peak_score,
            episode.by,
            votes.collect::<Vec<_>>().join(", ")
        ),
    ]
}

fn found(finding: &Finding, end: i64) -> String {
    let how = match (finding.seconds_to_breach, finding.signals_ended, finding.seconds_to_detect) {
        (Some(breach), ..) => {
            let truth = (finding.end - end) as f64 / 1e3;
            format!("will cross its limit in {}; in truth in {}", span(breach), span(truth))
        }
        (_, Some(count), Some(after)) => format!("{count} derived signals ended after {}", span(after)),
        (.., Some(after)) => format!("after {}", span(after)),
        _ => String::new(),
    };
    let (word, where_) = (if finding.found { "found" } else { "MISSED" }, finding.target);
    format!("  {:<6} {:<14} {:<9} {}  {how}", word, finding.fault, where_, time(finding.start))
}

/// The source series: its metric, and the labels that tell it from others.
fn name(labels: &Labels) -> String {
    let metric = labels.get("metric_name").map_or("", String::as_str);
    let stat = labels.get("stat").map_or(String::new(), |stat| format!(" ({stat})"));
    let own = ["metric_name", "monitor", "stat"];
    let others = labels.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let others: Vec<_> = others.map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{metric}{{{}}}{stat}", others.join(", "))
}

fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.strftime("%a %d %b %H:%M").to_string(),
        Err(_) => ms.to_string(),
    }
}

fn span(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round();
    match minutes {
        _ if seconds < 60.0 => format!("{seconds:.0} s"),
        minutes if minutes < 120.0 => format!("{minutes:.0} min"),
        minutes => format!("{:.0} h {:02.0} min", (minutes / 60.0).floor(), minutes % 60.0),
    }
}

/// Four digits and a unit prefix.
fn number(value: f64) -> String {
    const PREFIXES: [(f64, &str); 4] = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    let size = value.abs();
    let (unit, prefix) = PREFIXES.into_iter().find(|(unit, _)| size >= *unit).unwrap_or((1.0, ""));
    let decimals = match size / unit {
        size if size >= 100.0 => 1,
        size if size >= 1.0 => 2,
        _ => 4,
    };
    format!("{:.decimals$}{prefix}", value / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.123456, -4.5, 123.45, 12_345.0, 5.5e9].map(number);
        assert_eq!(texts, ["0.0000", "0.1235", "-4.50", "123.5", "12.35 k", "5.50 G"]);
    }

    #[test]
    fn spans_and_times_are_read_at_a_glance() {
        assert_eq!([59.0, 180.0, 10_800.0, 9_060.0].map(span), ["59 s", "3 min", "3 h 00 min", "2 h 31 min"]);
        assert_eq!(time(0), "Thu 01 Jan 00:00");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn a_series_is_named_by_its_source() {
        let labels = [("job", "shop"), ("metric_name", "up"), ("monitor", "default"), ("stat", "rate")];
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(name(&labels), r#"up{job="shop"} (rate)"#);
    }
}
