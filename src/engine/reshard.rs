//! Engines that hand their series to others, because the number of shards changed.

use std::sync::Arc;

use super::derive::{Derived, Way};
use super::families::Families;
use super::sink::{Judgement, Sink};
use super::table::{Known, Pace};
use super::{Engine, Shard};
use crate::series::{LabelRun, SeriesHash};

impl Engine {
    /// Makes `count` engines, at least one, of those that together own all series; of none it makes none. Nothing that
    /// was learned is lost, and the same engines give the same ones, in the order of their shards. Each takes an equal
    /// part of the limits.
    ///
    /// They have the plan of the first. Where another has a different one, which it should not, it
    /// [takes](Self::replace_plan) that plan, without stale markers for what ends. To change both, change the plan
    /// first.
    pub fn reshard(engines: Vec<Self>, count: usize) -> Vec<Self> {
        let Some(first) = engines.first() else { return Vec::new() };
        let count = count.max(1);
        let empty = |index| Self {
            generation: first.generation,
            ..Self::new(Shard { index, count }, Arc::clone(&first.plan))
        };
        let mut made: Vec<_> = (0..count).map(empty).collect();
        let paces: Vec<_> = engines.iter().map(|engine| engine.table.pace()).collect();
        let mut families = Families::default();
        // Every engine saw every batch, so all know the same.
        let replicas = first.replicas.clone();
        for engine in engines {
            engine.hand_over(&mut made, &mut families);
        }
        for engine in &mut made {
            engine.table.set_pace(Pace::shared(&paces, count));
            engine.families = families.clone();
            engine.replicas = replicas.clone();
        }
        made
    }

    /// Gives every series to the one of `others` that owns it.
    fn hand_over(mut self, others: &mut [Self], families: &mut Families) {
        if self.plan != others[0].plan {
            self.replace_plan(Arc::clone(&others[0].plan), &mut Nobody);
        }
        self.families.iter().for_each(|(family, kind)| {
            families.take(family.into(), kind);
        });
        for hash in self.table.ignored() {
            others[hash.shard(others.len())].table.ignore(hash);
        }
        let generation = self.generation;
        self.table.hand_over(|hash, labels, known| {
            others[hash.shard(others.len())].adopt((hash, labels), known, generation);
        });
    }

    /// Takes a series of an engine at `generation`.
    fn adopt(
        &mut self,
        (hash, labels): (SeriesHash, (LabelRun<'_>, Way)),
        mut known: Known,
        generation: u32,
    ) {
        if self.table.find(hash).is_some() {
            return;
        }
        let current = known.generation == generation;
        known.generation = if current { self.generation } else { self.generation.wrapping_sub(1) };
        self.flagged += known.signals.iter().filter(|signal| signal.is_flagged()).count() as i64;
        self.table.insert(hash, labels, known);
    }
}

/// Takes nothing.
struct Nobody;

impl Sink for Nobody {
    fn derived(&mut self, _derived: &Derived<'_>) {}

    fn judged(&mut self, _judgement: &Judgement<'_>) {}

    fn ended(&mut self, _signal: u64, _timestamp: i64) {}
}
