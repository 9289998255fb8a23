//! A sink that takes every byte down.

use promantis::engine::derive::Derived;
use promantis::engine::sink::{Judgement, Sink};

/// Labels, timestamp and bits of what was derived.
#[derive(Default, PartialEq, Debug)]
pub(crate) struct Written(pub(crate) Vec<(Box<[u8]>, i64, u64)>);

impl Sink for Written {
    fn derived(&mut self, derived: &Derived<'_>) {
        self.0.extend(derived.series().map(|(run, it)| (run, it.timestamp, it.value.to_bits())));
    }

    fn judged(&mut self, _: &Judgement<'_>) {}

    fn ended(&mut self, _: u64, _: i64) {}
}
