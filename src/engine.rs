//! The engine: a pure function from batches to derived samples.
//!
//! Takes batches with their arrival time, hands what is to be written back to a [`Sink`]. No clock, no
//! socket, no file, no thread, no log: the same input gives the same output, byte for byte. An engine
//! owns the series whose hash falls to its shard and passes over all others.
//!
//! One sample's way: `replicas` (does its sender count?) → `table` (is it known?) → [`select`] (once per
//! series) → [`transform`] → [`bank`] (score) → [`decide`] → [`bank`] (learn) → [`mod@derive`].

pub mod bank;
pub mod baseline;
pub mod decide;
pub mod derive;
pub mod detect;
mod families;
pub mod forecast;
pub mod monitor;
mod prefetch;
mod replicas;
mod reshard;
pub mod select;
mod signal;
pub mod sink;
pub mod snapshot;
mod table;
pub mod transform;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::series::{Batch, LabelRun, MetricKind, Series};

use bank::Named;
use derive::{Origin, PREFIX, Scratch, Way};
use families::Families;
use monitor::{Monitor, Plan};
use prefetch::{Ahead, prefetch};
use replicas::Replicas;
use signal::{Effect, News, Signal};
use sink::Sink;
use snapshot::Saving;
use table::{Known, Reader, Table};
use transform::{Skip, Transform, admit};

/// Which part of all series an engine owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// At least 1.
    pub count: usize,
}

/// What happened during one call, to be added to the own metrics.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Observations judged.
    pub judged: u64,
    /// Samples that no detector saw, in the order of [`Skip::ALL`].
    pub skipped: [u64; Skip::ALL.len()],
    /// Derived samples made.
    pub derived: u64,
    /// Series forgotten because they were idle.
    pub evicted: u64,
    /// Flags that rose.
    pub raised: u64,
    /// New normals accepted.
    pub shifts: u64,
}

/// All series of one shard, and what is known of them.
#[derive(Debug)]
pub struct Engine {
    shard: Shard,
    plan: Arc<Plan>,
    /// By each monitor of the plan.
    named: Vec<Named>,
    table: Table,
    families: Families,
    replicas: Replicas,
    /// Raised when selection or types change; series of an older one are selected anew.
    generation: u32,
    flagged: i64,
    scratch: Scratch,
    /// For labels of series that no request at hand has.
    reader: Reader,
    /// While it is being saved.
    saving: Option<Box<Saving>>,
}

impl Engine {
    /// Makes an engine that has seen nothing.
    pub fn new(shard: Shard, plan: Arc<Plan>) -> Self {
        Self {
            table: Table::new(&plan.limits, shard.count),
            families: Families::default(),
            replicas: Replicas::default(),
            generation: 0,
            flagged: 0,
            scratch: Scratch::default(),
            reader: Reader::default(),
            saving: None,
            shard,
            named: named(&plan),
            plan,
        }
    }

    /// Judges the samples of a batch that arrived at `arrival`, in Unix milliseconds.
    ///
    /// Of the replicas of a cluster one counts, and samples of the others are skipped. Metadata counts
    /// whoever sends it.
    pub fn ingest(&mut self, batch: &Batch, arrival: i64, sink: &mut impl Sink) -> Counts {
        let mut counts = Counts::default();
        self.learn_families(batch);
        let elected = self.replicas.elect(batch.sources(), arrival);
        let shard = self.shard;
        let own = batch.hashes().enumerate().filter(|(_, hash)| hash.shard(shard.count) == shard.index);
        // Another thread has written the labels.
        let ask = |&place: &usize| prefetch(batch.labels_at(place).as_bytes());
        for place in Ahead::new(own.map(|(place, _)| place), ask) {
            let Series { source, samples, .. } = batch.at(place);
            if elected.has(source) {
                self.ingest_series((batch, place), arrival, sink, &mut counts);
            } else {
                counts.skip(Skip::Replica, samples.len() as u64);
            }
        }
        counts
    }

    /// Lets arrival time pass: ends what derives from series that are quiet, and forgets those without a
    /// sample for `idle_eviction_ms`.
    ///
    /// To be called every second or so. Looks at a part of the table each time, so that a call's cost is
    /// bounded; every series is looked at within 64 calls.
    pub fn tick(&mut self, arrival: i64, sink: &mut impl Sink) -> Counts {
        let mut counts = Counts::default();
        self.replicas.forget(arrival);
        let limits = self.plan.limits;
        let quiet_since = arrival.saturating_sub(limits.quiet_ms());
        let idle_since = arrival.saturating_sub(limits.idle_eviction_ms);
        let mut budget = self.table.slot_count() / 64 + 16;
        while let Some(slot) = self.table.next_idle(quiet_since, &mut budget) {
            self.save_before_change(slot, None);
            let found = self.table.get_with_labels(slot, &mut self.reader);
            let (known, origin) = found.expect("an idle slot is taken");
            let end = known.newest().unwrap_or(i64::MIN);
            for signal in &mut known.signals {
                self.flagged -= i64::from(signal.is_flagged());
                let monitor = &*self.plan.monitors[signal.monitor as usize];
                counts.derived += signal.end(end, (origin, monitor), &mut self.scratch, sink);
            }
            if known.arrival < idle_since {
                counts.evicted += 1;
                self.table.remove(slot);
            }
        }
        counts
    }

    /// The plan in force.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Takes a new plan. Signals of monitors that are the same live on; the others end.
    pub fn replace_plan(&mut self, plan: Arc<Plan>, sink: &mut impl Sink) -> Counts {
        let mut counts = Counts::default();
        // Every series would have to be saved before.
        self.saving = None;
        let moved: Vec<Option<u32>> = self
            .plan
            .monitors
            .iter()
            .map(|old| plan.monitors.iter().position(|new| new == old).map(|index| index as u32))
            .collect();
        for slot in 0..self.table.slot_count() as u32 {
            let Some((known, origin)) = self.table.get_with_labels(slot, &mut self.reader) else { continue };
            let end = known.newest().unwrap_or(i64::MIN);
            let mut signals = std::mem::take(&mut known.signals).into_vec();
            signals.retain_mut(|signal| {
                let old = &*self.plan.monitors[signal.monitor as usize];
                let Some(new) = moved[signal.monitor as usize] else {
                    self.flagged -= i64::from(signal.is_flagged());
                    counts.derived += signal.end(end, (origin, old), &mut self.scratch, sink);
                    return false;
                };
                signal.monitor = new;
                true
            });
            known.signals = signals.into();
        }
        self.table.limit(&plan.limits, self.shard.count);
        self.table.forget_ignored();
        self.generation = self.generation.wrapping_add(1);
        self.named = named(&plan);
        self.plan = plan;
        counts
    }

    /// Which part of all series it owns.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// Monitored series.
    pub fn series_count(&self) -> usize {
        self.table.len()
    }

    /// Series remembered because they match no monitor.
    pub fn ignored_count(&self) -> usize {
        self.table.ignored_len()
    }

    /// Signals whose flag is raised.
    pub fn flagged_count(&self) -> i64 {
        self.flagged
    }

    /// Bytes that series hold on the heap. Walks all of them.
    pub fn heap_bytes(&self) -> usize {
        let signals = self.table.iter().map(|entry| entry.known.signals.heap_bytes());
        self.table.heap_bytes() + signals.sum::<usize>()
    }

    fn learn_families(&mut self, batch: &Batch) {
        let mut news = false;
        for said in batch.metadata() {
            news |= self.families.learn(said);
        }
        if news {
            self.generation = self.generation.wrapping_add(1);
        }
    }

    /// Judges the samples of the series at a place of a batch. Whatever is seldom needed is told the place, and not the
    /// series, which then need not stand in memory.
    #[inline(always)]
    fn ingest_series(
        &mut self,
        (batch, place): (&Batch, usize),
        arrival: i64,
        sink: &mut impl Sink,
        counts: &mut Counts,
    ) {
        let series = batch.at(place);
        let slot = match self.table.find(series.hash) {
            Some(slot) => slot,
            None => match self.take_in((batch, place), arrival, counts) {
                Some(slot) => slot,
                None => return,
            },
        };
        self.save_before_change(slot, Some(series.labels));
        let entry = loop {
            let entry = self.table.get(slot).expect("a slot that was found is taken");
            if entry.known.generation == self.generation && !entry.known.is_told(series.kind) {
                break entry;
            }
            if let Err(skip) = self.select_again(slot, (batch, place), sink, counts) {
                return counts.skip(skip, series.samples.len() as u64);
            }
        };
        let origin = entry.way.origin(series.labels);
        let known = &mut entry.known;
        known.arrival = arrival;
        for &sample in series.samples {
            let admitted = admit(sample, known.newest());
            if !matches!(admitted, Err(Skip::OutOfOrder | Skip::Duplicate)) {
                known.see(sample.timestamp);
            }
            if let Err(skip) = admitted {
                counts.skip(skip, 1);
            }
            for signal in &mut known.signals {
                let index = signal.monitor as usize;
                let (monitor, named) = (&self.plan.monitors[index], self.named[index]);
                match admitted {
                    Ok(()) => match signal.judge(sample, (origin, monitor, named), &mut self.scratch, sink) {
                        Ok(Effect { derived, news }) => {
                            counts.judged += 1;
                            counts.derived += derived;
                            if let Some(news) = news {
                                self.flagged += news.flagged;
                                counts.tell(news);
                            }
                        }
                        Err(skip) => counts.skip(skip, 1),
                    },
                    Err(Skip::Stale) => {
                        self.flagged -= i64::from(signal.is_flagged());
                        let end = sample.timestamp;
                        counts.derived += signal.end(end, (origin, monitor), &mut self.scratch, sink);
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// Takes in a series that is not known, or counts why it is not.
    #[cold]
    #[inline(never)]
    fn take_in(&mut self, (batch, place): (&Batch, usize), arrival: i64, counts: &mut Counts) -> Option<u32> {
        let series = batch.at(place);
        match self.admit_series(series, arrival) {
            Ok(slot) => return Some(slot),
            Err(Some(skip)) => counts.skip(skip, series.samples.len() as u64),
            Err(None) => {
                let reasons = series.samples.iter().filter_map(|&sample| admit(sample, None).err());
                reasons.for_each(|reason| counts.skip(reason, 1));
            }
        }
        None
    }

    /// Selects and admits a series that is not monitored, where it may be. Says why not, unless it is because of each
    /// sample.
    fn admit_series(&mut self, series: Series<'_>, arrival: i64) -> Result<u32, Option<Skip>> {
        if self.table.is_ignored(series.hash) {
            return Err(Some(Skip::Unmonitored));
        }
        let name = series.labels.metric_name().unwrap_or_default();
        if name.starts_with(PREFIX) {
            return Err(Some(Skip::OwnSeries));
        }
        if series.samples.iter().all(|&sample| admit(sample, None).is_err()) {
            return Err(None);
        }
        let kind = self.kind_of(name, series.kind);
        let monitors = self.plan.monitors.iter().enumerate();
        let mut selected = monitors.filter(|(_, monitor)| monitor.select.matches(series.labels)).peekable();
        if selected.peek().is_none() {
            self.table.ignore(series.hash);
            return Err(Some(Skip::Unmonitored));
        }
        self.table.may_admit(arrival)?;
        let way = Way::of(series.labels);
        let origin = way.origin(series.labels);
        let signals = selected.map(|(index, monitor)| draw(index, monitor, origin, kind)).collect();
        let known = Known::new(arrival, self.generation, series.kind, signals);
        let slot = self.table.insert(series.hash, (series.labels, way), known);
        if let Some(saving) = &mut self.saving {
            saving.pass(slot);
        }
        Ok(slot)
    }

    #[inline(always)]
    fn save_before_change(&mut self, slot: u32, labels: Option<LabelRun<'_>>) {
        if let Some(saving) = &mut self.saving {
            saving.save_before_change(slot, labels, &mut self.table);
        }
    }

    /// Brings the signals of a known series up to the present selection and types.
    #[cold]
    #[inline(never)]
    fn select_again(
        &mut self,
        slot: u32,
        (batch, place): (&Batch, usize),
        sink: &mut impl Sink,
        counts: &mut Counts,
    ) -> Result<(), Skip> {
        let series = batch.at(place);
        let generation = self.generation;
        let entry = self.table.get(slot).expect("a slot that was found is taken");
        let known = &mut entry.known;
        if known.is_told(series.kind) {
            known.said = series.kind;
        }
        let said = known.said;
        known.generation = generation;
        let mut old = std::mem::take(&mut known.signals).into_vec();
        let end = known.newest().unwrap_or(i64::MIN);
        let way = entry.way.clone();
        let origin = way.origin(series.labels);
        let kind = self.kind_of(series.labels.metric_name().unwrap_or_default(), said);
        let mut signals = Vec::new();
        for (index, monitor) in self.plan.monitors.iter().enumerate() {
            if !monitor.select.matches(series.labels) {
                continue;
            }
            let stat = transform(monitor, origin, kind).stat();
            let same = |it: &Signal| it.monitor as usize == index && it.transform.stat() == stat;
            signals.push(match old.iter().position(same) {
                Some(position) => old.swap_remove(position),
                None => draw(index, monitor, origin, kind),
            });
        }
        for mut signal in old {
            self.flagged -= i64::from(signal.is_flagged());
            let monitor = &*self.plan.monitors[signal.monitor as usize];
            counts.derived += signal.end(end, (origin, monitor), &mut self.scratch, sink);
        }
        if signals.is_empty() {
            self.table.remove(slot);
            self.table.ignore(series.hash);
            return Err(Skip::Unmonitored);
        }
        if let Some(entry) = self.table.get(slot) {
            entry.known.signals = signals.into();
        }
        Ok(())
    }

    fn kind_of(&self, name: &str, said: MetricKind) -> MetricKind {
        if said == MetricKind::Unknown { self.families.kind_of(name) } else { said }
    }
}

/// The methods that each monitor of a plan names.
fn named(plan: &Plan) -> Vec<Named> {
    plan.monitors.iter().map(|monitor| Named::by(monitor)).collect()
}

fn draw(index: usize, monitor: &Monitor, origin: Origin<'_>, kind: MetricKind) -> Signal {
    Signal::new(index as u32, monitor, origin, transform(monitor, origin, kind))
}

fn transform(monitor: &Monitor, origin: Origin<'_>, kind: MetricKind) -> Transform {
    Transform::choose(monitor.transform, origin.labels.metric_name().unwrap_or_default(), kind)
}

impl Counts {
    fn skip(&mut self, skip: Skip, count: u64) {
        self.skipped[skip as usize] += count;
    }

    fn tell(&mut self, news: News) {
        self.raised += u64::from(news.flagged > 0);
        self.shifts += u64::from(news.shifted);
    }

    /// Samples skipped for a reason.
    pub fn skipped_for(&self, skip: Skip) -> u64 {
        self.skipped[skip as usize]
    }
}

#[cfg(test)]
mod tests;
