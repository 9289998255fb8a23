//! Where an engine's results go.

use std::sync::Arc;

use super::decide::{Decided, Votes};
use super::derive::{Derived, DerivedLabels};
use super::forecast::linear::Line;
use super::monitor::Monitor;
use crate::series::Sample;

/// Takes what an engine writes back and tells.
pub trait Sink {
    /// Samples to write back.
    fn derived(&mut self, derived: &Derived<'_>);

    /// An observation was judged.
    fn judged(&mut self, judgement: &Judgement<'_>);

    /// A signal ended: its derived series got their stale markers at `timestamp`.
    fn ended(&mut self, signal: u64, timestamp: i64);
}

/// Everything about one judged observation, for whoever explains or shows it.
#[derive(Clone, Copy, Debug)]
pub struct Judgement<'a> {
    /// Identity of the signal, the same for the life of the process and after a restart.
    pub signal: u64,
    /// Labels of its derived series, without a name.
    pub labels: &'a DerivedLabels<'a>,
    /// What was observed.
    pub sample: Sample,
    /// What was decided; `None` while no method knows anything.
    pub decided: Option<Decided>,
    /// What each method said.
    pub votes: &'a Votes,
    /// How many observations came before it, up to 2³⁰ − 1.
    pub observations: u32,
    /// The line that forecasts are read from, where the monitor asks for them and enough is known.
    pub line: Option<Line>,
    /// By which monitor.
    pub monitor: &'a Arc<Monitor>,
}
