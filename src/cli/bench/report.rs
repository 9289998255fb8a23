//! What was measured, put together: medians of all rounds, and ratios within each.

use std::time::Duration;

use serde::Serialize;

use super::entrant::{Entrant, Kind, Measured};

/// The whole report.
#[derive(Serialize)]
pub(super) struct Report {
    /// What was run, and where.
    pub(super) run: String,
    pub(super) series: u32,
    /// How long each had the load in each round.
    pub(super) seconds: u64,
    pub(super) rounds: u32,
    /// One for each that took turns; the first is what the others are compared with.
    pub(super) servers: Vec<Row>,
    /// The first at half of what it took, where it was sent as much as it takes.
    pub(super) half_load: Option<Row>,
}

/// One server under the load.
#[derive(Clone, Serialize)]
pub(super) struct Row {
    name: String,
    samples: u64,
    samples_per_second: f64,
    samples_per_cpu_second: f64,
    /// How many samples the first takes in the CPU time in which this one takes one.
    first_against_it: f64,
    bytes_per_series: f64,
    answer_p50_seconds: f64,
    answer_p99_seconds: f64,
    requests_refused: u64,
    /// Only promantis tells these.
    #[serde(skip_serializing_if = "Option::is_none")]
    judged: Option<Judged>,
}

/// What promantis tells of its work.
#[derive(Clone, Serialize)]
struct Judged {
    samples: f64,
    derived: f64,
    derived_per_second: f64,
    /// From the last byte of a request to its scores handed to the sender.
    p50_seconds: Option<f64>,
    p99_seconds: Option<f64>,
    syncs_per_second: f64,
}

impl Row {
    /// Puts together the rounds of one; `first` are those of the one that it is compared with.
    pub(super) fn new(entrant: &Entrant, rounds: &[Measured], first: &[Measured]) -> Self {
        let mut answers: Vec<_> = rounds.iter().flat_map(|round| &round.answers).copied().collect();
        answers.sort_unstable();
        let pairs = first.iter().zip(rounds);
        Self {
            name: entrant.name.clone(),
            samples: rounds.iter().map(|round| round.samples).sum(),
            samples_per_second: median(rounds.iter().map(Measured::per_second)),
            samples_per_cpu_second: median(rounds.iter().map(Measured::per_cpu_second)),
            first_against_it: median(pairs.map(|(first, it)| first.per_cpu_second() / it.per_cpu_second())),
            bytes_per_series: entrant.bytes_per_series,
            answer_p50_seconds: quantile(&answers, 0.5),
            answer_p99_seconds: quantile(&answers, 0.99),
            requests_refused: rounds.iter().map(|round| round.refused).sum(),
            judged: matches!(entrant.kind, Kind::Promantis { .. }).then(|| Judged::new(rounds)),
        }
    }

    pub(super) fn samples_per_second(&self) -> f64 {
        self.samples_per_second
    }
}

impl Judged {
    fn new(rounds: &[Measured]) -> Self {
        let middle = |of: &dyn Fn(&Measured) -> Option<f64>| {
            let known: Vec<_> = rounds.iter().filter_map(of).collect();
            (!known.is_empty()).then(|| median(known.into_iter()))
        };
        Self {
            samples: rounds.iter().map(|round| round.judged).sum(),
            derived: rounds.iter().map(|round| round.derived).sum(),
            derived_per_second: median(rounds.iter().map(|round| round.derived / round.seconds)),
            p50_seconds: middle(&|round| round.judgement.quantile(0.5)),
            p99_seconds: middle(&|round| round.judgement.quantile(0.99)),
            syncs_per_second: median(rounds.iter().map(|round| round.syncs / round.seconds)),
        }
    }
}

/// The report for people, as Markdown.
pub(super) fn text(report: &Report) -> String {
    let first = report.servers.first().map_or("", |row| row.name.as_str());
    let mut text = format!(
        "{}\n\n| server | samples/s | samples per CPU second | {first} against it | bytes per series | \
         answer p50 / p99 | scores handed on p50 / p99 | written back/s | syncs/s | 503 |\n|{}\n",
        report.run,
        "---|".repeat(10)
    );
    let half = report.half_load.iter().map(|row| (row, format!("{}, half load", row.name)));
    for (row, name) in report.servers.iter().map(|row| (row, row.name.clone())).chain(half) {
        text += &line(row, &name);
    }
    text
}

fn line(row: &Row, name: &str) -> String {
    let ms = |seconds: Option<f64>| seconds.map_or("?".to_owned(), |seconds| short(seconds * 1e3));
    let judged = row.judged.as_ref().map_or("| | | ".to_owned(), |judged| {
        format!(
            "| {} / {} ms | {} k | {:.0} ",
            ms(judged.p50_seconds),
            ms(judged.p99_seconds),
            short(judged.derived_per_second / 1e3),
            judged.syncs_per_second
        )
    });
    format!(
        "| {name} | {} k | {} k | {:.2} × | {:.0} | {} / {} ms {judged}| {} |\n",
        short(row.samples_per_second / 1e3),
        short(row.samples_per_cpu_second / 1e3),
        row.first_against_it,
        row.bytes_per_series,
        ms(Some(row.answer_p50_seconds)),
        ms(Some(row.answer_p99_seconds)),
        row.requests_refused
    )
}

/// Two or three digits.
fn short(value: f64) -> String {
    let decimals = match value {
        value if value >= 10.0 => 0,
        value if value >= 1.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).map_or(0.0, Duration::as_secs_f64)
}

/// The middle one, or the mean of the middle two; 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => at(count / 2),
        count => (at(count / 2 - 1) + at(count / 2)) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_quantiles_are_of_what_is_there() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0].into_iter()), 2.5);
        assert_eq!(median(std::iter::empty()), 0.0);
        let sorted: Vec<_> = (1..=100).map(Duration::from_secs).collect();
        assert_eq!((quantile(&sorted, 0.5), quantile(&sorted, 0.99), quantile(&[], 0.5)), (51.0, 100.0, 0.0));
    }

    #[test]
    fn a_row_of_the_table_has_as_many_cells_as_its_head() {
        let judged = Judged {
            samples: 1.0,
            derived: 2.0,
            derived_per_second: 2e6,
            p50_seconds: Some(0.0012),
            p99_seconds: None,
            syncs_per_second: 99.6,
        };
        let mut row = Row {
            name: "one".to_owned(),
            samples: 1,
            samples_per_second: 123_456.0,
            samples_per_cpu_second: 9_876.0,
            first_against_it: 2.345,
            bytes_per_series: 512.4,
            answer_p50_seconds: 0.0123,
            answer_p99_seconds: 0.000_51,
            requests_refused: 7,
            judged: Some(judged),
        };
        let told = line(&row, "one");
        assert_eq!(
            told,
            "| one | 123 k | 9.9 k | 2.35 × | 512 | 12 / 0.51 ms | 1.2 / ? ms | 2000 k | 100 | 7 |\n"
        );
        row.judged = None;
        let servers = vec![row.clone()];
        let report =
            Report { run: String::new(), series: 1, seconds: 1, rounds: 1, servers, half_load: Some(row) };
        for line in text(&report).lines().skip(2) {
            assert_eq!(line.matches('|').count(), 11, "{line}");
        }
    }
}
