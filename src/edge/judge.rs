//! One shard's engine, and how what it derives becomes requests: a pure function of the records it takes.
//!
//! The same records give the same requests, byte for byte, whenever and by whomever they are taken: live, after a
//! crash, or from files years later.

pub mod guard;

use std::sync::Arc;

use bytes::Bytes;

use super::journal::{Entry, Record, Rules};
use super::recent::Part;
use super::send::{Outgoing, REQUEST_BYTES_MAX};
use crate::engine::derive::{Derived, Labels};
use crate::engine::sink::{Judgement, Sink};
use crate::engine::{Counts, Engine, Shard};
use crate::wire::encode::PackedBuilder;
use guard::TimeGuard;

/// See the module.
#[derive(Debug)]
pub struct Judge {
    engine: Engine,
    shard: Shard,
    /// Sequence from which on series are divided among so many shards.
    since: u64,
    /// Samples in one derived request; 0: none are made.
    samples_per_request: usize,
    /// Sequence of the first record that was not taken.
    next: u64,
    /// Empty between records; kept for the room it has.
    builder: PackedBuilder,
}

/// Who looks on while observations are judged.
pub trait Onlooker {
    /// An observation was judged.
    fn judged(&mut self, judgement: &Judgement<'_>);

    /// A signal ended at a time.
    fn ended(&mut self, signal: u64, timestamp: i64);
}

/// Sees nothing.
#[derive(Clone, Copy, Default, Debug)]
pub struct Nobody;

impl Onlooker for Nobody {
    fn judged(&mut self, _judgement: &Judgement<'_>) {}
    fn ended(&mut self, _signal: u64, _timestamp: i64) {}
}

impl Onlooker for Part {
    fn judged(&mut self, judgement: &Judgement<'_>) {
        self.observe(judgement);
    }
    fn ended(&mut self, signal: u64, timestamp: i64) {
        Part::ended(self, signal, timestamp);
    }
}

/// What came of one record, to be counted.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// What the engine counts.
    pub counts: Counts,
    /// Derived samples that were dropped because they were too far ahead of their arrival.
    pub ahead: u64,
}

impl Judge {
    /// A judge that has seen nothing before the record `next`.
    pub fn new(shard: usize, rules: &Rules, next: u64) -> Self {
        let shard = Shard { index: shard, count: rules.shards() };
        let engine = Engine::new(shard, Arc::new(rules.plan.clone()));
        Self::with(engine, rules.samples_per_request as usize, next, next)
    }

    /// Goes on with an engine that has seen everything before the record `next`, as one of those among whom series are
    /// divided from the record `since` on.
    pub fn with(engine: Engine, samples_per_request: usize, since: u64, next: u64) -> Self {
        let builder = PackedBuilder::new();
        Self { shard: engine.shard(), engine, since, samples_per_request, next, builder }
    }

    /// The same, as one of those among whom series are divided from the record `since` on.
    pub fn dividing_since(self, since: u64) -> Self {
        Self { since, ..self }
    }

    /// The same knowledge, divided among another number of shards.
    pub fn reshard(judges: Vec<Self>, count: usize) -> Vec<Self> {
        let next = judges.iter().map(|judge| judge.next).max().unwrap_or(0);
        let samples_per_request = judges.first().map_or(0, |judge| judge.samples_per_request);
        let engines = Engine::reshard(judges.into_iter().map(|judge| judge.engine).collect(), count);
        engines.into_iter().map(|engine| Self::with(engine, samples_per_request, next, next)).collect()
    }

    /// What it knows.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The same, to save it while it goes on.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Whether it judges by `rules`, and is one of as many as they say.
    pub fn is_under(&self, rules: &Rules) -> bool {
        self.shard.count == rules.shards()
            && self.samples_per_request == rules.samples_per_request as usize
            && *self.engine.plan() == rules.plan
    }

    /// Which part of all series it owns.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// The stream of its derived requests.
    pub fn stream(&self) -> u16 {
        u16::try_from(self.shard.index).unwrap_or(u16::MAX - 1)
    }

    /// Sequence of the first record that it has not taken.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Sequence from which on series are divided as they are: it tells shards of one count from those of the same
    /// count before the count changed and changed back.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Samples in one derived request.
    pub fn samples_per_request(&self) -> usize {
        self.samples_per_request
    }

    /// Takes a record, and hands the requests that it brings forth to `put`, numbered from 0.
    pub fn take(
        &mut self,
        record: &Record,
        onlooker: &mut impl Onlooker,
        put: impl FnMut(u32, Outgoing),
    ) -> Tally {
        if let Entry::Rules(rules) = &record.entry {
            self.samples_per_request = rules.samples_per_request as usize;
        }
        let mut egress = Egress {
            guard: TimeGuard::new(record.arrival),
            samples_max: self.samples_per_request,
            builder: &mut self.builder,
            oldest: i64::MAX,
            newest: i64::MIN,
            part: 0,
            onlooker,
            put,
        };
        let counts = match &record.entry {
            Entry::Request { batch } => self.engine.ingest(batch, record.arrival, &mut egress),
            Entry::Tick => self.engine.tick(record.arrival, &mut egress),
            Entry::Rules(rules) => self.engine.replace_plan(Arc::new(rules.plan.clone()), &mut egress),
        };
        egress.flush();
        self.next = record.sequence + 1;
        Tally { counts, ahead: egress.guard.held_back() }
    }
}

/// Encodes what one record brings forth, and hands it on.
struct Egress<'a, O, P> {
    guard: TimeGuard,
    samples_max: usize,
    builder: &'a mut PackedBuilder,
    oldest: i64,
    newest: i64,
    part: u32,
    onlooker: &'a mut O,
    put: P,
}

impl<O, P: FnMut(u32, Outgoing)> Egress<'_, O, P> {
    fn flush(&mut self) {
        if self.builder.is_empty() {
            return;
        }
        let samples = self.builder.samples();
        let body = Bytes::from(self.builder.finish());
        (self.put)(self.part, Outgoing { body, samples, oldest: self.oldest, newest: self.newest });
        self.part += 1;
        (self.oldest, self.newest) = (i64::MAX, i64::MIN);
    }
}

impl<O: Onlooker, P: FnMut(u32, Outgoing)> Sink for Egress<'_, O, P> {
    fn derived(&mut self, derived: &Derived<'_>) {
        let &Derived { labels, mut outputs, timestamp } = derived;
        if self.samples_max == 0 || !self.guard.admits(timestamp, outputs.len()) {
            return;
        }
        while !outputs.is_empty() {
            let room = self.samples_max - self.builder.samples();
            let (fitting, rest) = outputs.split_at(room.min(outputs.len()));
            match labels {
                Labels::Woven(woven) => self.builder.weave(woven, fitting, timestamp),
                Labels::Parts(before, after) => self.builder.push((before, after), fitting, timestamp),
            }
            self.oldest = self.oldest.min(timestamp);
            self.newest = self.newest.max(timestamp);
            if self.builder.samples() >= self.samples_max || self.builder.bytes() >= REQUEST_BYTES_MAX {
                self.flush();
            }
            outputs = rest;
        }
    }

    fn judged(&mut self, judgement: &Judgement<'_>) {
        self.onlooker.judged(judgement);
    }

    fn ended(&mut self, signal: u64, timestamp: i64) {
        self.onlooker.ended(signal, timestamp);
    }
}
