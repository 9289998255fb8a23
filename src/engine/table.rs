//! The series table: who is known, who is monitored, and who is one too many.
//!
//! Keyed by the 128-bit hash of a series' labels, which are not compared. Monitored series stand in
//! slots; series known to match no monitor are remembered by their hash alone, and when there are too many
//! of those, all are forgotten and found anew. Nothing depends on the order of a hash table.
//!
//! Senders name series in the same order round after round, and slots are taken in the order of first sight: so the
//! series in the next slot is tried before the hash table is asked.

mod hashes;
mod labels;
mod rebuild;

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::derive::{Origin, Way};
use super::monitor::SeriesLimits;
use super::prefetch::prefetch;
use super::signal::{Signal, Signals};
use super::transform::Skip;
use crate::series::{LabelRun, MetricKind, SeriesHash};

use hashes::Hashes;
pub(super) use labels::Reader;
use labels::{Labels, Place};
pub(super) use rebuild::{Misplaced, Pace, Rebuild};

/// One monitored series, in 216 bytes, among them its signal where it has one.
#[derive(Debug)]
pub(super) struct Entry {
    /// As bytes, which need not stand at a multiple of sixteen.
    hash: [u8; 16],
    labels: Place,
    pub(super) way: Way,
    pub(super) known: Known,
}

impl Entry {
    fn hash(&self) -> SeriesHash {
        self.hash.into()
    }
}

/// What is known of a series beside its labels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Known {
    /// Timestamp of the newest sample, judged or not, once there was one.
    newest: i64,
    sampled: bool,
    /// The type that remote write 2.0 said first.
    pub(super) said: MetricKind,
    /// Which selection its signals were made by; an older one is made anew.
    pub(super) generation: u32,
    /// Arrival time of the newest sample.
    pub(super) arrival: i64,
    pub(super) signals: Signals,
}

impl Known {
    /// Of a series that brings its first samples.
    pub(super) fn new(arrival: i64, generation: u32, said: MetricKind, signals: Signals) -> Self {
        Self { newest: i64::MIN, sampled: false, said, generation, arrival, signals }
    }

    /// Whether `said` is the first that is said about its type.
    pub(super) fn is_told(&self, said: MetricKind) -> bool {
        self.said == MetricKind::Unknown && said != MetricKind::Unknown
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.sampled.then_some(self.newest)
    }

    pub(super) fn see(&mut self, timestamp: i64) {
        (self.newest, self.sampled) = (timestamp, true);
    }
}

/// All series of one shard.
#[derive(Debug)]
pub(super) struct Table {
    index: HashTable<u32>,
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    labels: Labels,
    /// The slot that was found last.
    last: u32,
    ignored: Hashes,
    ignored_max: usize,
    admission: Admission,
    sweep_at: usize,
}

/// How many series before its turn the slot of one is asked for.
const SLOT_AHEAD: usize = 8;

/// The same for signals that do not stand in the slot.
const SIGNALS_AHEAD: usize = 5;

/// The same for what the signals point to.
const STATES_AHEAD: usize = 3;

/// Slots grow by this part of themselves, and not by as many again.
const GROWTH: usize = 64;

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
            labels: Labels::default(),
            last: u32::MAX,
            ignored: Hashes::default(),
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

    /// Slot of a monitored series. Costs least where it is the one after the slot that was found before.
    #[inline]
    pub(super) fn find(&mut self, hash: SeriesHash) -> Option<u32> {
        let next = self.last.wrapping_add(1);
        self.last = if self.hash_at(next) == Some(hash) { next } else { self.look_up(hash)? };
        self.prefetch();
        Some(self.last)
    }

    /// Asks for what the next series will need, if they come in the order of slots: first for the slots, then for
    /// what these point to.
    fn prefetch(&self) {
        let last = self.last as usize;
        let Some(ahead) = self.slots.get(last..=last + SLOT_AHEAD) else { return };
        prefetch(&ahead[SLOT_AHEAD]);
        if let Some(Signals::Others(signals)) = signals_of(&ahead[SIGNALS_AHEAD]) {
            prefetch(&**signals);
        }
        match signals_of(&ahead[STATES_AHEAD]) {
            Some(Signals::One(signal)) => signal.prefetch(),
            Some(Signals::Others(signals)) => signals.iter().for_each(Signal::prefetch),
            None => {}
        }
    }

    #[inline(never)]
    fn look_up(&self, hash: SeriesHash) -> Option<u32> {
        self.index.find(hash.low(), |&slot| self.hash_at(slot) == Some(hash)).copied()
    }

    pub(super) fn get(&mut self, slot: u32) -> Option<&mut Entry> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// A series and its labels.
    pub(super) fn get_with_labels<'a>(
        &'a mut self,
        slot: u32,
        reader: &'a mut Reader,
    ) -> Option<(&'a mut Known, Origin<'a>)> {
        let entry = self.slots.get_mut(slot as usize)?.as_mut()?;
        let labels = self.labels.read(entry.labels, reader);
        Some((&mut entry.known, entry.way.origin(labels)))
    }

    /// Whether the series is known to match no monitor.
    pub(super) fn is_ignored(&self, hash: SeriesHash) -> bool {
        self.ignored.contains(hash)
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
    pub(super) fn insert(&mut self, hash: SeriesHash, labels: (LabelRun<'_>, Way), known: Known) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.grow(self.slots.len() + 1);
            (self.slots.len() - 1) as u32
        });
        let (labels, way) = labels;
        let entry = Entry { hash: hash.into(), labels: self.labels.keep(labels), way, known };
        self.place(slot, hash, entry);
        slot
    }

    /// Makes empty slots up to `count`. Memory that is large is not copied, since the system moves its pages.
    fn grow(&mut self, count: usize) {
        if count > self.slots.capacity() {
            self.slots.reserve_exact(count - self.slots.len() + count / GROWTH);
        }
        self.slots.resize_with(count, || None);
    }

    /// Fills an empty slot.
    fn place(&mut self, slot: u32, hash: SeriesHash, entry: Entry) {
        self.slots[slot as usize] = Some(entry);
        let slots = &self.slots;
        self.index.insert_unique(hash.low(), slot, |&slot| hash_at(slots, slot).map_or(0, SeriesHash::low));
    }

    /// Takes a series out of its slot.
    pub(super) fn remove(&mut self, slot: u32) {
        let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        if let Ok(found) = self.index.find_entry(entry.hash().low(), |&other| other == slot) {
            found.remove();
        }
        self.free.push(slot);
        for run in self.labels.let_go(entry.labels) {
            let run = LabelRun::from_canonical(&run);
            let slot =
                self.look_up(SeriesHash::of(run)).expect("labels are kept of series that stand in slots");
            let place = self.labels.keep(run);
            self.get(slot).expect("a slot that was found is taken").labels = place;
        }
    }

    /// The next slot whose series was idle since before `idle_since`, looking at no more than
    /// `budget` slots, which is counted down.
    pub(super) fn next_idle(&mut self, idle_since: i64, budget: &mut usize) -> Option<u32> {
        while *budget > 0 && !self.slots.is_empty() {
            *budget -= 1;
            self.sweep_at = (self.sweep_at + 1) % self.slots.len();
            let entry = self.slots[self.sweep_at].as_ref();
            if entry.is_some_and(|entry| entry.known.arrival < idle_since) {
                return Some(self.sweep_at as u32);
            }
        }
        None
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
            + self.labels.heap_bytes()
            + self.iter().map(|entry| entry.way.heap_bytes()).sum::<usize>()
            + self.index.allocation_size()
            + self.ignored.heap_bytes()
            + self.free.capacity() * size_of::<u32>()
    }

    fn hash_at(&self, slot: u32) -> Option<SeriesHash> {
        hash_at(&self.slots, slot)
    }
}

fn signals_of(slot: &Option<Entry>) -> Option<&Signals> {
    slot.as_ref().map(|entry| &entry.known.signals)
}

fn hash_at(slots: &[Option<Entry>], slot: u32) -> Option<SeriesHash> {
    slots.get(slot as usize)?.as_ref().map(Entry::hash)
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
    use crate::series::LabelRunBuf;

    fn table(series_max: usize, per_second: u32) -> Table {
        let limits = SeriesLimits { series_max, new_series_per_second: per_second, idle_eviction_ms: 1000 };
        Table::new(&limits, 1)
    }

    fn insert(table: &mut Table, number: u32, arrival: i64) -> u32 {
        let (hash, run) = series(number);
        let known = Known::new(arrival, 0, MetricKind::Unknown, Signals::default());
        let labels = LabelRun::from_canonical(&run);
        table.insert(hash, (labels, Way::of(labels)), known)
    }

    fn series(number: u32) -> (SeriesHash, Box<[u8]>) {
        let run = [("__name__", &*format!("m{number}"))].into_iter().collect::<LabelRunBuf>().encode();
        (SeriesHash::of(LabelRun::from_canonical(&run)), run)
    }

    fn labels(table: &mut Table, slot: u32) -> String {
        let mut reader = Reader::default();
        table.get_with_labels(slot, &mut reader).expect("the slot is taken").1.labels.to_string()
    }

    #[test]
    fn series_are_found_in_whatever_order_they_come_and_keep_their_labels() {
        let mut table = table(1000, 1000);
        let slots: Vec<_> = (0..300).map(|number| insert(&mut table, number, 0)).collect();
        for step in 0..900_usize {
            let number = step * [1, 7, 0][step / 300] % 300;
            assert_eq!(table.find(series(number as u32).0), Some(slots[number]), "{step}");
        }
        (0..300).filter(|number| number % 10 > 0).for_each(|number| table.remove(slots[number]));
        for (number, &slot) in (0..).zip(&slots) {
            let slot = (number % 10 == 0).then_some(slot);
            assert_eq!(table.find(series(number).0), slot);
            slot.inspect(|&slot| assert_eq!(labels(&mut table, slot), format!("m{number}")));
        }
    }

    #[test]
    fn a_slot_is_as_large_as_stated() {
        assert_eq!(size_of::<Option<Entry>>(), 216);
    }

    #[test]
    fn a_slot_is_used_again_after_its_series_left() {
        let mut table = table(10, 10);
        let slots: Vec<_> = (0..3).map(|number| insert(&mut table, number, 0)).collect();
        assert_eq!(table.find(series(1).0), Some(slots[1]));
        (0..2).for_each(|_| table.remove(slots[1]));
        assert_eq!((table.find(series(1).0), table.len()), (None, 2));
        assert_eq!(insert(&mut table, 7, 0), slots[1]);
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn admission_is_bounded_in_number_and_in_rate() {
        let mut limited = table(2, 100);
        insert(&mut limited, 1, 0);
        assert_eq!(limited.may_admit(0), Ok(()));
        insert(&mut limited, 2, 0);
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
        for number in 1..10_000 {
            table.ignore(SeriesHash(number));
            assert!(table.is_ignored(SeriesHash(number)));
        }
        assert!(table.ignored_len() <= 1024);
    }

    #[test]
    fn the_sweep_finds_each_idle_series_within_one_round() {
        let mut table = table(10, 10);
        for number in 0..6 {
            insert(&mut table, number, if number % 2 == 0 { 0 } else { 100 });
        }
        let mut budget = table.slot_count();
        let mut idle = Vec::new();
        while let Some(slot) = table.next_idle(50, &mut budget) {
            idle.push(labels(&mut table, slot));
            table.remove(slot);
        }
        idle.sort_unstable();
        assert_eq!(idle, ["m0", "m2", "m4"]);
    }
}
