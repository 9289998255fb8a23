//! The series table: who is known, who is monitored, and who is one too many.
//!
//! Keyed by the 128-bit hash of a series' labels, which are not compared. Monitored series stand in
//! slots; series known to match no monitor are remembered by their hash alone, and when there are too many
//! of those, all are forgotten and found anew. Nothing depends on the order of a hash table.

mod rebuild;

use hashbrown::{HashSet, HashTable};
use serde::{Deserialize, Serialize};

use super::monitor::SeriesLimits;
use super::signal::Signal;
use super::transform::Skip;
use crate::series::{MetricKind, SeriesHash};

pub(super) use rebuild::{Misplaced, Pace, Rebuild};

/// One monitored series, in 64 bytes and its signals.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) hash: SeriesHash,
    /// Timestamp of the newest sample, judged or not.
    pub(super) newest: Option<i64>,
    /// Arrival time of the newest sample.
    pub(super) arrival: i64,
    /// Which selection its signals were made by; an older one is made anew.
    pub(super) generation: u32,
    /// The type that remote write 2.0 said first.
    pub(super) said: MetricKind,
    pub(super) signals: Box<[Signal]>,
}

/// Hashes that are hashes already.
type Identity = std::hash::BuildHasherDefault<IdentityHasher>;

/// Passes the low half of a [`SeriesHash`] through.
#[derive(Default)]
pub(super) struct IdentityHasher(u64);

impl std::hash::Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}

/// All series of one shard.
#[derive(Debug)]
pub(super) struct Table {
    index: HashTable<u32>,
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    ignored: HashSet<SeriesHash, Identity>,
    ignored_max: usize,
    admission: Admission,
    sweep_at: usize,
}

/// For how many seconds of admissions tokens are saved up.
const BURST_SECONDS: f64 = 60.0;

/// Bounds how many series are let in, and how fast. Time is arrival time.
#[derive(Debug)]
struct Admission {
    series_max: usize,
    per_second: f64,
    tokens: f64,
    refilled: i64,
}

impl Table {
    pub(super) fn new(limits: &SeriesLimits, shards: usize) -> Self {
        let mut table = Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            ignored: HashSet::default(),
            ignored_max: 0,
            admission: Admission { series_max: 0, per_second: 0.0, tokens: 0.0, refilled: i64::MIN },
            sweep_at: 0,
        };
        table.limit(limits, shards);
        table
    }

    /// Takes new limits. Series above a lowered one stay until they are idle.
    pub(super) fn limit(&mut self, limits: &SeriesLimits, shards: usize) {
        self.admission.series_max = limits.series_max.div_ceil(shards);
        self.admission.per_second = f64::from(limits.new_series_per_second) / shards as f64;
        self.ignored_max = self.admission.series_max.max(1024);
        self.ignored.clear();
    }

    /// Slot of a monitored series.
    pub(super) fn find(&self, hash: SeriesHash) -> Option<u32> {
        self.index.find(hash.low(), |&slot| self.hash_at(slot) == Some(hash)).copied()
    }

    pub(super) fn get(&mut self, slot: u32) -> Option<&mut Entry> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Whether the series is known to match no monitor.
    pub(super) fn is_ignored(&self, hash: SeriesHash) -> bool {
        self.ignored.contains(&hash)
    }

    /// Remembers that the series matches no monitor.
    pub(super) fn ignore(&mut self, hash: SeriesHash) {
        if self.ignored.len() >= self.ignored_max {
            self.ignored.clear();
        }
        self.ignored.insert(hash);
    }

    /// Forgets who matches no monitor: the monitors are others now.
    pub(super) fn forget_ignored(&mut self) {
        self.ignored.clear();
    }

    /// Asks for room for one more monitored series.
    pub(super) fn may_admit(&mut self, arrival: i64) -> Result<(), Skip> {
        let count = self.len();
        self.admission.ask(count, arrival)
    }

    /// Puts a series into a slot.
    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.place(slot, entry);
        slot
    }

    /// Fills an empty slot.
    fn place(&mut self, slot: u32, entry: Entry) {
        let hash = entry.hash;
        self.slots[slot as usize] = Some(entry);
        let slots = &self.slots;
        self.index.insert_unique(hash.low(), slot, |&slot| hash_at(slots, slot).map_or(0, SeriesHash::low));
    }

    /// Takes a series out of its slot.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Entry> {
        let entry = self.slots.get_mut(slot as usize)?.take()?;
        if let Ok(found) = self.index.find_entry(entry.hash.low(), |&other| other == slot) {
            found.remove();
        }
        self.free.push(slot);
        Some(entry)
    }

    /// The next slot whose series was idle since before `idle_since`, looking at no more than
    /// `budget` slots, which is counted down.
    pub(super) fn next_idle(&mut self, idle_since: i64, budget: &mut usize) -> Option<(u32, &mut Entry)> {
        while *budget > 0 && !self.slots.is_empty() {
            *budget -= 1;
            self.sweep_at = (self.sweep_at + 1) % self.slots.len();
            let idle = self.slots[self.sweep_at].as_ref().is_some_and(|entry| entry.arrival < idle_since);
            if idle {
                let slot = self.sweep_at;
                return self.slots[slot].as_mut().map(|entry| (slot as u32, entry));
            }
        }
        None
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut().flatten()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }

    /// Monitored series.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Series known to match no monitor.
    pub(super) fn ignored_len(&self) -> usize {
        self.ignored.len()
    }

    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Bytes on the heap without what signals hold.
    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Entry>>()
            + self.index.allocation_size()
            + self.ignored.allocation_size()
            + self.free.capacity() * size_of::<u32>()
    }

    fn hash_at(&self, slot: u32) -> Option<SeriesHash> {
        hash_at(&self.slots, slot)
    }
}

fn hash_at(slots: &[Option<Entry>], slot: u32) -> Option<SeriesHash> {
    slots.get(slot as usize)?.as_ref().map(|entry| entry.hash)
}

impl Admission {
    fn ask(&mut self, count: usize, arrival: i64) -> Result<(), Skip> {
        if count >= self.series_max {
            return Err(Skip::SeriesLimit);
        }
        let elapsed = arrival.saturating_sub(self.refilled).max(0) as f64 / 1000.0;
        self.refilled = self.refilled.max(arrival);
        self.tokens =
            (self.tokens + elapsed * self.per_second).min((self.per_second * BURST_SECONDS).max(1.0));
        if self.tokens < 1.0 {
            return Err(Skip::SeriesRate);
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(series_max: usize, per_second: u32) -> Table {
        let limits = SeriesLimits { series_max, new_series_per_second: per_second, idle_eviction_ms: 1000 };
        Table::new(&limits, 1)
    }

    fn entry(number: u128, arrival: i64) -> Entry {
        Entry {
            hash: SeriesHash(number),
            newest: None,
            arrival,
            generation: 0,
            said: MetricKind::Unknown,
            signals: Box::default(),
        }
    }

    #[test]
    fn a_slot_is_used_again_after_its_series_left() {
        let mut table = table(10, 10);
        let slots: Vec<_> = (0..3).map(|number| table.insert(entry(number, 0))).collect();
        assert_eq!(table.find(SeriesHash(1)), Some(slots[1]));
        assert!(table.remove(slots[1]).is_some());
        assert!(table.remove(slots[1]).is_none());
        assert_eq!(table.find(SeriesHash(1)), None);
        assert_eq!(table.insert(entry(7, 0)), slots[1]);
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn admission_is_bounded_in_number_and_in_rate() {
        let mut limited = table(2, 100);
        limited.insert(entry(1, 0));
        assert_eq!(limited.may_admit(0), Ok(()));
        limited.insert(entry(2, 0));
        assert_eq!(limited.may_admit(0), Err(Skip::SeriesLimit));

        let mut slow = table(1000, 2);
        let mut asked = |arrival, times| (0..times).filter(|_| slow.may_admit(arrival).is_ok()).count();
        assert_eq!(asked(0, 200), 120, "a minute's worth at once");
        assert_eq!(asked(400, 3), 0);
        assert_eq!(asked(1500, 5), 3);
        assert_eq!(asked(10 * 60_000, 200), 120, "no more is saved up");
    }

    #[test]
    fn what_matches_no_monitor_is_remembered_within_bounds() {
        let mut table = table(1, 1);
        for number in 0..10_000 {
            table.ignore(SeriesHash(number));
            assert!(table.is_ignored(SeriesHash(number)));
        }
        assert!(table.ignored_len() <= 1024);
    }

    #[test]
    fn the_sweep_finds_each_idle_series_within_one_round() {
        let mut table = table(10, 10);
        for number in 0..6 {
            table.insert(entry(number, if number % 2 == 0 { 0 } else { 100 }));
        }
        let mut budget = table.slot_count();
        let mut idle = Vec::new();
        while let Some((slot, entry)) = table.next_idle(50, &mut budget) {
            idle.push(entry.hash.0);
            table.remove(slot);
        }
        idle.sort_unstable();
        assert_eq!(idle, [0, 2, 4]);
    }
}
