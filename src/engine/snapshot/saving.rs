//! An engine that is being saved, a block at a time, while it goes on.
//!
//! What is saved is the engine of the moment when it began. A series that changes before its turn is saved first, as it
//! is until then (copy on write), so that it stands before its turn: series are not in the order of their slots.

use super::{Blocks, FORMAT, Head, Kind};
use crate::engine::Engine;
use crate::engine::table::{Reader, Table};
use crate::series::LabelRun;

/// What was saved of an engine, and what is still to be.
#[derive(Debug)]
pub(in crate::engine) struct Saving {
    blocks: Blocks,
    /// Slots whose turn has not come: from here to the last that there was.
    turn: u32,
    end: u32,
    /// Those of them whose turn will be passed over: saved already, or taken since. A bit for each slot.
    passed: Vec<u64>,
    reader: Reader,
    ended: bool,
}

impl Saving {
    /// Begins with all that is no series.
    pub(in crate::engine) fn of(engine: &Engine, block_bytes: usize) -> Self {
        let mut blocks = Blocks::of(block_bytes);
        let table = &engine.table;
        let head = Head {
            format: FORMAT,
            shard: engine.shard,
            plan: &*engine.plan,
            generation: engine.generation,
            pace: table.pace(),
            replicas: &engine.replicas,
        };
        blocks.item(Kind::Head, &head);
        engine.families.iter().for_each(|family| blocks.item(Kind::Family, &family));
        table.ignored().iter().for_each(|hash| blocks.item(Kind::Ignored, hash));
        table.free().iter().for_each(|slot| blocks.item(Kind::Free, slot));
        let end = table.slot_count() as u32;
        let passed = vec![0; (end as usize).div_ceil(u64::BITS as usize)];
        Self { blocks, turn: 0, end, passed, reader: Reader::default(), ended: false }
    }

    /// Saves the series in `slot` if it has not been and is one of those that there were: it is about to change. Where
    /// its `labels` are not at hand they are read.
    #[inline(never)]
    pub(in crate::engine) fn save_before_change(
        &mut self,
        slot: u32,
        labels: Option<LabelRun<'_>>,
        table: &mut Table,
    ) {
        if !self.pass(slot) {
            return;
        }
        match (labels, table.get(slot)) {
            (Some(labels), Some(entry)) => self.blocks.series(slot, labels, &entry.known),
            _ => self.save(slot, table),
        }
    }

    fn save(&mut self, slot: u32, table: &Table) {
        if let Some((labels, known)) = table.known(slot, &mut self.reader) {
            self.blocks.series(slot, labels, known);
        }
    }

    /// Passes over `slot` when its turn comes: it is being saved, or from now on it has a series that there was not.
    /// Whether its turn would have come.
    pub(in crate::engine) fn pass(&mut self, slot: u32) -> bool {
        let (word, bit) = (slot as usize / u64::BITS as usize, 1 << (slot % u64::BITS));
        if !(self.turn..self.end).contains(&slot) || self.passed[word] & bit != 0 {
            return false;
        }
        self.passed[word] |= bit;
        true
    }

    /// The next block, for whose sake at most as many series are saved as fill one. `None` once there is none.
    pub(super) fn next(&mut self, table: &Table) -> Option<Vec<u8>> {
        while self.blocks.full.is_empty() && self.turn < self.end {
            let slot = self.turn;
            if self.pass(slot) {
                self.save(slot, table);
            }
            self.turn += 1;
        }
        if self.turn == self.end && !self.ended {
            self.ended = true;
            let counts = self.blocks.counts;
            self.blocks.item(Kind::End, &counts);
            self.blocks.flush();
        }
        self.blocks.full.pop_front()
    }

    /// Bytes of blocks that nobody has fetched.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.full.iter().map(Vec::len).sum()
    }
}
