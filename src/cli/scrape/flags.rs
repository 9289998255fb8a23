//! Flags as they rise and fall, each told once, on standard output.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;

use crate::edge::recent::{Episode, Labels};
use crate::series::{LabelRun, LabelRunBuf, METRIC_NAME};

/// How flags are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Which episodes were told, and how far.
#[derive(Debug)]
pub(super) struct Flags {
    style: Style,
    raised: u64,
    /// Episodes by signal and begin; whether their end was told, too.
    told: BTreeMap<(Labels, i64), bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
enum Event {
    Raised,
    Fell,
}

/// One line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    event: Event,
    #[serde(flatten)]
    episode: &'a Episode,
}

impl Flags {
    pub(super) fn new(style: Style) -> Self {
        Self { style, raised: 0, told: BTreeMap::new() }
    }

    /// Writes what is new in `episodes`, in the order of time. Episodes that are no longer remembered are forgotten.
    pub(super) fn tell(&mut self, episodes: &[Episode]) -> io::Result<()> {
        let news = self.news(episodes);
        let mut out = io::stdout().lock();
        for (event, episode) in news {
            match self.style {
                Style::Text => writeln!(out, "{}", text(event, episode))?,
                Style::Json => writeln!(out, "{}", serde_json::to_string(&Line { event, episode })?)?,
            }
        }
        out.flush()
    }

    /// How many flags rose so far, and how many have not fallen.
    pub(super) fn counts(&self) -> (u64, usize) {
        (self.raised, self.told.values().filter(|fell| !**fell).count())
    }

    fn news<'a>(&mut self, episodes: &'a [Episode]) -> Vec<(Event, &'a Episode)> {
        let mut before = std::mem::take(&mut self.told);
        let mut news = Vec::new();
        for episode in episodes {
            let key = (episode.labels.clone(), episode.since);
            let known = before.remove(&key);
            if known.is_none() {
                self.raised += 1;
                news.push((episode.since, Event::Raised, episode));
            }
            if let (Some(until), None | Some(false)) = (episode.until, known) {
                news.push((until, Event::Fell, episode));
            }
            self.told.insert(key, episode.until.is_some());
        }
        news.sort_by(|(a, event_a, one), (b, event_b, other)| {
            (a, event_a, &one.labels).cmp(&(b, event_b, &other.labels))
        });
        news.into_iter().map(|(_, event, episode)| (event, episode)).collect()
    }
}

fn text(event: Event, episode: &Episode) -> String {
    let series = source(episode.labels.run());
    match event {
        Event::Raised => {
            let Episode { value, lower, upper, score, by, .. } = episode;
            let [value, lower, upper, score] = [value, lower, upper, score].map(|number| short(*number));
            let time = time(episode.since);
            format!("{time} raised {series} = {value}, normal is {lower} to {upper}, score {score}, by {by}")
        }
        Event::Fell => {
            let until = episode.until.unwrap_or(episode.since);
            let seconds = until.saturating_sub(episode.since) as f64 / 1000.0;
            let accepted = if episode.accepted { ", accepted as the new normal" } else { "" };
            let peak = short(episode.peak_score);
            format!("{} fell {series} after {seconds:.1} s, peak score {peak}{accepted}", time(until))
        }
    }
}

/// The source series with the name of its monitor, without characters that could steer a terminal.
fn source(derived: LabelRun<'_>) -> String {
    let renamed = derived.iter().map(|label| match label.name {
        "metric_name" => (METRIC_NAME, label.value),
        name => (name, label.value),
    });
    let run = renamed.collect::<LabelRunBuf>().encode();
    let shown = LabelRun::from_canonical(&run).to_string();
    shown.replace(char::is_control, "\u{fffd}")
}

fn time(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).map_or_else(|_| format!("{unix_ms} ms"), |time| time.to_string())
}

/// About four digits of a number.
fn short(number: f64) -> String {
    let magnitude = number.abs();
    if number == 0.0 || (0.01..1e6).contains(&magnitude) {
        let text = format!("{number:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{number:.3e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 1.0, -2.5, 1234.56789, 0.0123, 0.000_012_3, 5e9, f64::INFINITY];
        let expected = ["0", "1", "-2.5", "1234.568", "0.012", "1.230e-5", "5.000e9", "inf"];
        assert_eq!(numbers.map(short), expected);
    }

    #[test]
    fn a_series_is_shown_as_its_source_and_cannot_steer_a_terminal() {
        let labels = [("metric_name", "up"), ("monitor", "all"), ("job", "a\u{1b}[2J")];
        let run = labels.into_iter().collect::<LabelRunBuf>().encode();
        assert_eq!(source(LabelRun::from_canonical(&run)), r#"up{job="a\u{1b}[2J", monitor="all"}"#);
        let run = [("metric_name", "u\u{1b}p")].into_iter().collect::<LabelRunBuf>().encode();
        assert_eq!(source(LabelRun::from_canonical(&run)), "u\u{fffd}p");
    }

    #[test]
    fn a_time_is_written_by_the_calendar_where_it_has_one() {
        assert_eq!(time(1_700_000_000_500), "2023-11-14T22:13:20.5Z");
        assert_eq!(time(i64::MAX), "9223372036854775807 ms");
    }
}
