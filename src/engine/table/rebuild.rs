//! A table taken apart, and put together again as it was.
//!
//! Slots are part of it: the sweep follows them, and the order in which free ones are taken decides where the next
//! series goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Entry, Known, Reader, Table};
use crate::engine::derive::Way;
use crate::engine::monitor::SeriesLimits;
use crate::series::{LabelRun, SeriesHash};

/// What a table knows beside its series: how many new ones it may admit, and how far it has looked for idle ones.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::engine) struct Pace {
    tokens: f64,
    refilled: i64,
    sweep_at: u32,
}

/// Why parts make no table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in crate::engine) enum Misplaced {
    /// Taken already, or farther than there are series and free ones to fill the gap.
    #[error("a slot is taken, or too far from the others")]
    Slot,
    /// Said to be free, and is not, or is named twice.
    #[error("free slots are taken")]
    Free,
    /// It has a slot already.
    #[error("a series stands in two slots")]
    Twice,
    /// More of them than a table remembers, or one of them twice.
    #[error("ignored series are too many")]
    Ignored,
    /// Beyond the last slot.
    #[error("the sweep stands beyond the last slot")]
    Sweep,
}

impl Pace {
    /// What tables with the paces `of` know together, an equal part for each of `count` new ones.
    pub(in crate::engine) fn shared(of: &[Self], count: usize) -> Self {
        let tokens: f64 = of.iter().map(|pace| pace.tokens).sum();
        let refilled = of.iter().map(|pace| pace.refilled).max().unwrap_or(i64::MIN);
        Self { tokens: tokens / count as f64, refilled, sweep_at: 0 }
    }
}

impl Table {
    pub(in crate::engine) fn pace(&self) -> Pace {
        let admission = &self.admission;
        Pace { tokens: admission.tokens, refilled: admission.refilled, sweep_at: self.sweep_at as u32 }
    }

    /// Takes a pace, but for its place in the sweep, which stays.
    pub(in crate::engine) fn set_pace(&mut self, pace: Pace) {
        (self.admission.tokens, self.admission.refilled) = (pace.tokens, pace.refilled);
    }

    /// Labels of the series in a slot, and what is known of it.
    pub(in crate::engine) fn known<'a>(
        &'a self,
        slot: u32,
        reader: &'a mut Reader,
    ) -> Option<(LabelRun<'a>, &'a Known)> {
        let entry = self.slots.get(slot as usize)?.as_ref()?;
        Some((self.labels.read(entry.labels, reader), &entry.known))
    }

    /// Slots that are free, the next one last.
    pub(in crate::engine) fn free(&self) -> &[u32] {
        &self.free
    }

    /// Series that match no monitor, ascending.
    pub(in crate::engine) fn ignored(&self) -> Vec<SeriesHash> {
        let mut ignored: Vec<_> = self.ignored.iter().collect();
        ignored.sort_unstable();
        ignored
    }

    /// Hands over all series, in the order of their slots.
    pub(in crate::engine) fn hand_over(self, mut take: impl FnMut(SeriesHash, (LabelRun<'_>, Way), Known)) {
        let mut reader = Reader::default();
        for entry in self.slots.into_iter().flatten() {
            let labels = self.labels.read(entry.labels, &mut reader);
            take(entry.hash(), (labels, entry.way), entry.known);
        }
    }
}

/// A table that is being put together: first what is ignored and free, then series.
#[derive(Debug)]
pub(in crate::engine) struct Rebuild {
    table: Table,
    pace: Pace,
    /// How many slots up to the last were left empty so far.
    gaps: usize,
    /// Series that came before so many others that their slots were too far, by slots.
    early: BTreeMap<u32, Entry>,
}

impl Rebuild {
    /// Begins with an empty table.
    pub(in crate::engine) fn new(limits: &SeriesLimits, shards: usize, pace: Pace) -> Self {
        Self { table: Table::new(limits, shards), pace, gaps: 0, early: BTreeMap::new() }
    }

    pub(in crate::engine) fn ignore(&mut self, hash: SeriesHash) -> Result<(), Misplaced> {
        let table = &mut self.table;
        let fits = table.ignored.len() < table.ignored_max && table.ignored.insert(hash);
        fits.then_some(()).ok_or(Misplaced::Ignored)
    }

    pub(in crate::engine) fn free(&mut self, slot: u32) {
        self.table.free.push(slot);
    }

    /// Puts a series into its slot. Memory grows with what was brought, not with the number of the slot.
    pub(in crate::engine) fn put(
        &mut self,
        slot: u32,
        labels: LabelRun<'_>,
        known: Known,
    ) -> Result<(), Misplaced> {
        let (hash, way) = (SeriesHash::of(labels), Way::of(labels));
        let entry = Entry { hash: hash.into(), labels: self.table.labels.keep(labels), way, known };
        if !has_room(&self.table, self.gaps, slot) {
            return match self.early.insert(slot, entry) {
                None => Ok(()),
                Some(_) => Err(Misplaced::Slot),
            };
        }
        self.settle(slot, entry)?;
        while let Some(early) = self.early.first_entry()
            && has_room(&self.table, self.gaps, *early.key())
        {
            let (slot, entry) = early.remove_entry();
            self.settle(slot, entry)?;
        }
        Ok(())
    }

    fn settle(&mut self, slot: u32, entry: Entry) -> Result<(), Misplaced> {
        let (table, hash) = (&mut self.table, entry.hash());
        if table.find(hash).is_some() {
            return Err(Misplaced::Twice);
        }
        match (slot as usize).checked_sub(table.slots.len()) {
            Some(skipped) => {
                self.gaps += skipped;
                table.grow(slot as usize + 1);
            }
            None if table.slots[slot as usize].is_some() => return Err(Misplaced::Slot),
            None => self.gaps -= 1,
        }
        table.place(slot, hash, entry);
        Ok(())
    }

    /// The table, where everything found its place.
    pub(in crate::engine) fn finish(mut self) -> Result<Table, Misplaced> {
        if !self.early.is_empty() {
            return Err(Misplaced::Slot);
        }
        let table = &mut self.table;
        let count = table.slots.len() + table.free.len() - self.gaps;
        table.grow(count);
        let mut free = table.free.clone();
        free.sort_unstable();
        free.dedup();
        let empty = |slot: &u32| matches!(table.slots.get(*slot as usize), Some(None));
        if free.len() != table.free.len() || !free.iter().all(empty) {
            return Err(Misplaced::Free);
        }
        table.sweep_at = self.pace.sweep_at as usize;
        if table.sweep_at >= count.max(1) {
            return Err(Misplaced::Sweep);
        }
        table.set_pace(self.pace);
        Ok(self.table)
    }
}

/// Whether no more slots of `table` would be empty, with one taken, than are free: so many `gaps` there are.
fn has_room(table: &Table, gaps: usize, slot: u32) -> bool {
    let skipped = (slot as usize).saturating_sub(table.slots.len());
    gaps + skipped <= table.free.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::signal::Signals;
    use crate::series::MetricKind;

    fn put(rebuild: &mut Rebuild, slot: u32, number: u8) -> Result<(), Misplaced> {
        let known = Known::new(0, 0, MetricKind::Unknown, Signals::default());
        rebuild.put(slot, LabelRun::from_canonical(&[number]), known)
    }

    /// Puts series 1, 2, … into `slots` and says which slots are found empty afterwards.
    fn rebuilt(free: &[u32], slots: &[u32], sweep_at: u32) -> Result<Vec<bool>, Misplaced> {
        let limits = SeriesLimits { series_max: 9, new_series_per_second: 9, idle_eviction_ms: 9 };
        let mut rebuild = Rebuild::new(&limits, 1, Pace { tokens: 0.0, refilled: 0, sweep_at });
        free.iter().for_each(|&slot| rebuild.free(slot));
        for (&slot, number) in slots.iter().zip(1..) {
            put(&mut rebuild, slot, number)?;
        }
        let mut table = rebuild.finish()?;
        assert_eq!(table.len(), slots.len());
        let hash = |number: u8| SeriesHash::of(LabelRun::from_canonical(&[number]));
        assert!((1..=slots.len() as u8).all(|number| table.find(hash(number)).is_some()));
        Ok(table.slots.iter().map(Option::is_none).collect())
    }

    #[test]
    fn free_slots_stand_between_series_and_behind_them() {
        assert_eq!(rebuilt(&[], &[], 0), Ok(vec![]));
        assert_eq!(rebuilt(&[], &[0, 1], 1), Ok(vec![false, false]));
        assert_eq!(rebuilt(&[4, 0, 2], &[1, 3], 4), Ok(vec![true, false, true, false, true]));
    }

    #[test]
    fn series_may_come_in_any_order() {
        assert_eq!(rebuilt(&[], &[1, 0], 0), Ok(vec![false; 2]));
        assert_eq!(rebuilt(&[], &[0, 5, 1, 4, 2, 3], 0), Ok(vec![false; 6]));
        assert_eq!(rebuilt(&[1], &[4, 3, 0, 2], 0), Ok(vec![false, true, false, false, false]));
        assert_eq!(rebuilt(&[1, 4], &[3, 2, 0], 0), Ok(vec![false, true, false, false, true]));
    }

    #[test]
    fn slots_that_cannot_be_are_refused() {
        let check = |free: &[u32], slots: &[u32], sweep_at, why| {
            assert_eq!(rebuilt(free, slots, sweep_at), Err(why), "{free:?} {slots:?}");
        };
        check(&[], &[1, 0, 1], 0, Misplaced::Slot);
        check(&[], &[5, 0, 1], 0, Misplaced::Slot);
        check(&[], &[0, 0], 0, Misplaced::Slot);
        check(&[], &[1], 0, Misplaced::Slot);
        check(&[0, 1], &[u32::MAX], 0, Misplaced::Slot);
        check(&[0], &[0], 0, Misplaced::Free);
        check(&[0, 0], &[2], 0, Misplaced::Free);
        check(&[9], &[1], 0, Misplaced::Free);
        check(&[], &[0], 1, Misplaced::Sweep);
    }

    #[test]
    fn a_series_is_known_once() {
        let limits = SeriesLimits { series_max: 9, new_series_per_second: 9, idle_eviction_ms: 9 };
        let mut rebuild = Rebuild::new(&limits, 1, Pace { tokens: 0.0, refilled: 0, sweep_at: 0 });
        assert_eq!(put(&mut rebuild, 0, 1), Ok(()));
        assert_eq!(put(&mut rebuild, 1, 1), Err(Misplaced::Twice));
        assert_eq!(rebuild.ignore(SeriesHash(7)), Ok(()));
        assert_eq!(rebuild.ignore(SeriesHash(7)), Err(Misplaced::Ignored));
    }
}
