//! Judges a made-up series with the engine alone: no network, no clock.
//!
//! `cargo run --example judge`

use std::sync::Arc;

use promantis::engine::derive::Derived;
use promantis::engine::sink::{Judgement, Sink};
use promantis::engine::{Engine, Shard};
use promantis::series::{Batch, LabelRun, LabelRunBuf, MetricKind, Sample};

/// Prints each change of a flag; writes nothing back.
struct Print;

impl Sink for Print {
    fn derived(&mut self, _derived: &Derived<'_>) {}

    fn judged(&mut self, judgement: &Judgement<'_>) {
        if let Some(decided) = judgement.decided.filter(|decided| decided.changed) {
            let Sample { timestamp, value } = judgement.sample;
            let band = decided.band;
            println!(
                "minute {:4}: flag {} at {value:.1}, normal is {:.1} to {:.1}, score {:.1}, by {}",
                timestamp / 60_000,
                u8::from(decided.flag),
                band.lower,
                band.upper,
                decided.score,
                decided.by.name(),
            );
        }
    }

    fn ended(&mut self, _signal: u64, _timestamp: i64) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = promantis::config::parse("monitors: [{name: latency, select: latency_seconds}]")?;
    let mut engine = Engine::new(Shard { index: 0, count: 1 }, Arc::clone(&config.plan));
    let labels: LabelRunBuf = [("__name__", "latency_seconds"), ("service", "shop")].into_iter().collect();
    let run = labels.encode();
    for minute in 0..1440 {
        let noise = f64::from(minute * 7919 % 101) / 20.0;
        let fault = if (900..930).contains(&minute) { 40.0 } else { 0.0 };
        let timestamp = i64::from(minute) * 60_000;
        let mut batch = Batch::default();
        let sample = Sample { timestamp, value: 100.0 + noise + fault };
        batch.push(LabelRun::from_canonical(&run), MetricKind::Gauge, &[sample]);
        engine.ingest(&batch, timestamp, &mut Print);
    }
    Ok(())
}
