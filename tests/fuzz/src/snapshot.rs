//! Snapshots of an engine: an error, or an engine that saves the same again.

use std::sync::Arc;

use promantis::engine::derive::Derived;
use promantis::engine::monitor::Plan;
use promantis::engine::sink::{Judgement, Sink};
use promantis::engine::{Engine, Shard};
use promantis::series::{Batch, FamilyMetadata, LabelRun, LabelRunBuf, MetricKind, Sample};

use crate::cost::bounded;

/// Checks the blocks of a snapshot, each with its length before it: two bytes, little-endian.
///
/// # Panics
/// Where something does not hold.
pub fn check(input: &[u8]) {
    let mut rest = input;
    let blocks = std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (block, behind) = after.split_at(length);
        rest = behind;
        Some(block)
    });
    let Ok(engine) = bounded(|| Engine::restore(blocks)) else { return };
    let saved = bounded(|| blocks_of(&engine));
    let again = bounded(|| Engine::restore(&saved)).expect("what an engine saved");
    assert!(saved == blocks_of(&again), "an engine restored saves what it was restored from");
}

fn blocks_of(engine: &Engine) -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    engine.save(&mut |block| blocks.push(block.to_vec()));
    blocks
}

/// Forgets everything.
struct Nobody;

impl Sink for Nobody {
    fn derived(&mut self, _: &Derived<'_>) {}

    fn judged(&mut self, _: &Judgement<'_>) {}

    fn ended(&mut self, _: u64, _: i64) {}
}

/// Engines of several plans and ages.
pub fn seeds() -> impl Iterator<Item = Vec<u8>> {
    let plans = [
        "",
        "monitors: [{name: a, select: 'up', detectors: [zscore, static], static: {upper: 9}, forecast: {upper: 9}}]",
        "monitors: [{name: a, select: '{job=~\"a|b\"}', detectors: [mad]}, {name: b, detectors: [iqr, rolling_zscore]}]",
    ];
    let rounds = [0, 1, 5, 70];
    plans.into_iter().flat_map(move |plan| {
        let plan = promantis::config::parse(plan).expect("plans are valid").plan;
        rounds.into_iter().map(move |rounds| seed(Arc::clone(&plan), rounds))
    })
}

fn seed(plan: Arc<Plan>, rounds: i64) -> Vec<u8> {
    let mut engine = Engine::new(Shard { index: 0, count: 1 }, plan);
    for round in 0..rounds {
        let timestamp = 1_700_000_000_000 + round * 15_000;
        engine.ingest(&batch(timestamp, round), timestamp, &mut Nobody);
    }
    let length = |block: &[u8]| u16::try_from(block.len()).expect("seeds are small").to_le_bytes();
    blocks_of(&engine).iter().flat_map(|block| [&length(block)[..], block].concat()).collect()
}

fn batch(timestamp: i64, round: i64) -> Batch {
    let mut batch = Batch::default();
    for (name, job) in [("up", "a"), ("requests_total", "b")] {
        let run = [("__name__", name), ("job", job)].into_iter().collect::<LabelRunBuf>().encode();
        let value = (round * round % 17) as f64;
        batch.push(LabelRun::from_canonical(&run), MetricKind::Unknown, &[Sample { timestamp, value }]);
    }
    batch.push_metadata(FamilyMetadata { family: "requests".into(), kind: MetricKind::Counter });
    batch
}
