//! What the API answers, as the demo reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A part of a list.
#[derive(Deserialize, Debug)]
pub(super) struct Paged<T> {
    pub(super) total: usize,
    pub(super) data: Vec<T>,
}

/// Counts of the process.
#[derive(Deserialize, Debug)]
pub(super) struct Status {
    pub(super) samples_received: u64,
    pub(super) samples_judged: u64,
    pub(super) derived_samples: u64,
    pub(super) flags_raised: u64,
    pub(super) journal_waiting_bytes: i64,
}

/// Labels of derived series, without a name.
pub(super) type Labels = BTreeMap<String, String>;

/// From the moment a flag rose until it fell. Times are Unix milliseconds.
#[derive(Clone, Deserialize, Serialize, Debug)]
pub(super) struct Episode {
    pub(super) labels: Labels,
    pub(super) since: i64,
    pub(super) until: Option<i64>,
    pub(super) value: f64,
    pub(super) expected: f64,
    pub(super) lower: f64,
    pub(super) upper: f64,
    pub(super) score: f64,
    pub(super) peak_score: f64,
    pub(super) by: String,
    pub(super) votes: Vec<(String, f64)>,
    pub(super) accepted: bool,
}

/// A signal, as far as the demo asks about it.
#[derive(Deserialize, Debug)]
pub(super) struct Signal {
    pub(super) labels: Labels,
    pub(super) observations: u32,
    pub(super) ended: Option<i64>,
    #[serde(default)]
    pub(super) breach: Vec<Breach>,
}

/// When a limit will be crossed.
#[derive(Deserialize, Debug)]
pub(super) struct Breach {
    seconds: serde_json::Value,
}

impl Breach {
    /// Seconds until then; infinite for never, which JSON cannot write as a number.
    pub(super) fn seconds(&self) -> f64 {
        self.seconds.as_f64().unwrap_or(f64::INFINITY)
    }
}
