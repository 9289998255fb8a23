//! What was measured, put together: medians over rounds, and ratios within each.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::MODES;
use crate::server::Measured;

/// Connections, and samples in a request.
type Shape = (usize, usize);

/// Everything that was measured, by load and mode, a round after the other.
#[derive(Default)]
pub(crate) struct Table(BTreeMap<Shape, BTreeMap<&'static str, Vec<Measured>>>);

/// What is told of one mode under one load.
struct Row {
    samples_per_cpu_second: f64,
    /// CPU time of a journal in memory by this one's, the median of all rounds.
    against_memory: f64,
    p50: Duration,
    p99: Duration,
    syncs_per_second: f64,
    refused: usize,
}

impl Table {
    pub(crate) fn add(&mut self, shape: Shape, mode: &'static str, measured: Measured) {
        self.0.entry(shape).or_default().entry(mode).or_default().push(measured);
    }

    fn rows(&self) -> impl Iterator<Item = (Shape, &'static str, Row)> {
        self.0.iter().flat_map(|(shape, modes)| {
            let row = |mode| modes.get(mode).map(|rounds| (*shape, mode, row(rounds, &modes["memory"])));
            MODES.into_iter().map(|(mode, _)| mode).chain(["other"]).filter_map(row)
        })
    }

    pub(crate) fn json(&self, sentence: &str) -> Value {
        let rows = self.rows().map(|((connections, samples), mode, row)| {
            json!({
                "connections": connections,
                "samples_per_request": samples,
                "journal": mode,
                "samples_per_cpu_second": row.samples_per_cpu_second,
                "against_memory": row.against_memory,
                "answer_p50_seconds": row.p50.as_secs_f64(),
                "answer_p99_seconds": row.p99.as_secs_f64(),
                "syncs_per_second": row.syncs_per_second,
                "requests_refused": row.refused,
            })
        });
        json!({"run": sentence, "rows": rows.collect::<Vec<_>>()})
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| connections × samples | journal | samples per CPU second | : memory | p50 ms | p99 ms | syncs/s | 503 |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for ((connections, samples), mode, row) in self.rows() {
            let Row { samples_per_cpu_second, against_memory, p50, p99, syncs_per_second, refused } = row;
            writeln!(
                f,
                "| {connections} × {samples} | {mode} | {:.0} k | {against_memory:.2} | {:.1} | {:.1} | {syncs_per_second:.0} | {refused} |",
                samples_per_cpu_second / 1e3,
                p50.as_secs_f64() * 1e3,
                p99.as_secs_f64() * 1e3,
            )?;
        }
        Ok(())
    }
}

fn row(rounds: &[Measured], memory: &[Measured]) -> Row {
    let mut answers: Vec<_> = rounds.iter().flat_map(|round| &round.sent.answers).copied().collect();
    answers.sort_unstable();
    let quantile = |share: f64| {
        let at = (answers.len() as f64 * share) as usize;
        answers.get(at.min(answers.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    Row {
        samples_per_cpu_second: median(rounds.iter().map(|it| it.samples as f64 / it.cpu_seconds)),
        against_memory: median(
            rounds.iter().zip(memory).map(|(it, memory)| memory.cpu_seconds / it.cpu_seconds),
        ),
        p50: quantile(0.5),
        p99: quantile(0.99),
        syncs_per_second: median(rounds.iter().map(|it| it.syncs_per_second)),
        refused: rounds.iter().map(|it| it.sent.refused).sum(),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
