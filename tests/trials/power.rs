//! The whole over a machine that loses power: whatever was acknowledged is judged and delivered, as if nothing had
//! happened.
//!
//! `PROMANTIS_SEEDS` says how many schedules are tried, `PROMANTIS_SEEDS==7` tries the seed 7 alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use promantis::config;
use promantis::edge::journal::Rules;
use promantis::edge::judge::{Judge, Nobody};
use promantis::edge::limits::SyncMode;
use promantis::edge::log::Record;
use promantis::edge::recovery;
use promantis::edge::telemetry::Metrics;
use promantis::series::{LabelRunBuf, Sample};
use promantis::wire::encode::RequestBuilder;
use promantis::wire::snappy;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::sim::dice::Dice;
use super::sim::disk::{SimDisk, Weather};
use super::sim::process::{Process, Setup};
use super::sim::target::{Delivered, Mood, Target};
use super::sim::{Found, seeds_from, seeds_until, trial_all};

const CONFIG: &str = "
monitors:
  - name: load
    select: load
    detectors: [zscore, mad]
    static: {upper: 80}
";

/// Shards, and so streams.
const SHARDS: usize = 2;

struct Trial {
    dice: Dice,
    disks: [SimDisk; 2],
    setup: Setup,
    process: Process,
    targets: Vec<Target>,
    now: i64,
    /// What engines take, as the journal has it, or had it before it was let go.
    inputs: BTreeMap<u64, Record>,
    acknowledged: BTreeSet<u64>,
    /// What is below was let go. Some of it may come back, since nobody waits until a removal is durable.
    gone: u64,
    /// Requests that wait for their answer.
    open: BTreeSet<u64>,
    trace: Xxh3,
    found: Found,
}

fn setup(sync: SyncMode) -> Setup {
    let plan = config::parse(CONFIG).expect("the configuration is valid").plan;
    let rules = Rules { plan: Arc::unwrap_or_clone(plan), shards: SHARDS as u16, samples_per_request: 3 };
    let targets = vec!["one".to_owned(), "two".to_owned()];
    Setup { rules, sync, targets, metrics: Arc::new(Metrics::new()) }
}

/// A request of some of ten series, and sometimes of much that nobody monitors, so that segments fill up.
fn body(dice: &mut Dice, now: i64) -> Vec<u8> {
    let mut builder = RequestBuilder::new();
    for host in 0..10 {
        if dice.once_in(3) {
            let value = dice.below(100) as f64 + if dice.once_in(20) { 1000.0 } else { 0.0 };
            let host = host.to_string();
            let labels =
                [("__name__", "load"), ("host", &host)].into_iter().collect::<LabelRunBuf>().encode();
            builder.push(&[&labels], Sample { timestamp: now, value });
        }
    }
    let filling = if dice.once_in(6) { dice.below(30) } else { 0 };
    for _ in 0..filling {
        let noise: String = (0..250).map(|_| format!("{:016x}", dice.throw())).collect();
        let labels =
            [("__name__", "filling"), ("noise", &noise)].into_iter().collect::<LabelRunBuf>().encode();
        builder.push(&[&labels], Sample { timestamp: now, value: 1.0 });
    }
    snappy::compress(&builder.finish())
}

impl Trial {
    fn begin(seed: u64, sync: SyncMode) -> Result<Self, String> {
        let mut dice = Dice::new(seed);
        let disks = [SimDisk::new(dice.split()), SimDisk::new(dice.split())];
        let setup = setup(sync);
        let now = 1_700_000_000_000;
        let process = Process::start(&disks, &setup, now)?;
        let targets = setup.targets.iter().map(|name| Target::new(name)).collect();
        let mut trial = Self {
            dice,
            disks,
            setup,
            process,
            targets,
            now,
            inputs: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            gone: 0,
            open: BTreeSet::new(),
            trace: Xxh3::new(),
            found: Found::default(),
        };
        trial.reconcile()?;
        Ok(trial)
    }

    fn note(&mut self, event: u8, number: u64) {
        self.trace.update(&[event]);
        self.trace.update(&number.to_le_bytes());
    }

    fn receive(&mut self) {
        let body = body(&mut self.dice, self.now);
        if let Some(record) = self.process.receive(self.now, body) {
            let sequence = record.head.sequence;
            self.note(1, xxh3_64(&record.payload));
            self.inputs.insert(sequence, record);
            self.open.insert(sequence);
        } else {
            self.found.refused += 1;
        }
    }

    fn tick(&mut self) {
        let ticked = self.process.tick(self.now);
        self.inputs.extend(ticked.map(|record| (record.head.sequence, record)));
    }

    fn sync(&mut self) -> Result<(), String> {
        let heals = self.is_broken();
        if self.process.journal.sync().is_ok() {
            self.targets.iter_mut().for_each(Target::settle);
            if heals {
                self.found.heals += 1;
                self.reconcile()?;
            }
        }
        Ok(())
    }

    fn trim(&mut self) {
        let first = self.process.journal.first();
        self.process.trim();
        self.found.trims += u64::from(self.process.journal.first() > first);
        self.gone = self.gone.max(self.process.journal.first());
    }

    fn is_broken(&self) -> bool {
        self.process.journal.refusal().is_some()
    }

    /// Tells senders what has become of their requests.
    fn answer(&mut self) {
        for sequence in std::mem::take(&mut self.open) {
            match self.process.outcome(sequence) {
                None => drop(self.open.insert(sequence)),
                Some(true) => drop(self.acknowledged.insert(sequence)),
                Some(false) => self.found.refused += 1,
            }
        }
    }

    /// Compares what the journal has with what it must have, and takes note of what else it has or lost.
    fn reconcile(&mut self) -> Result<(), String> {
        let first = self.gone.max(self.process.journal.first());
        let there: BTreeMap<u64, Record> =
            self.process.inputs()?.into_iter().map(|record| (record.head.sequence, record)).collect();
        for (sequence, before) in self.inputs.range(first..) {
            match there.get(sequence) {
                None if self.acknowledged.contains(sequence) => {
                    return Err(format!("request {sequence} was acknowledged and is lost"));
                }
                Some(now) if now.payload != before.payload && self.acknowledged.contains(sequence) => {
                    return Err(format!("request {sequence} was acknowledged and is another one"));
                }
                _ => {}
            }
        }
        drop(self.inputs.split_off(&first));
        self.inputs.extend(there.into_iter().filter(|(sequence, _)| *sequence >= first));
        Ok(())
    }

    /// A shard takes its next record, if there is one. False where there is none.
    fn judge(&mut self, shard: usize) -> Result<bool, String> {
        let waiting = self.process.next(shard)..self.process.shown();
        // On a disk that fails it would wait.
        if waiting.is_empty() || self.is_broken() || self.inputs.range(waiting).next().is_none() {
            return Ok(false);
        }
        let parts = self.process.judge(shard);
        self.note(2, parts);
        if self.is_broken() {
            // It failed meanwhile, and this thread cannot wait for it.
            self.crash()?;
        }
        Ok(true)
    }

    fn send(&mut self, lane: usize) -> Result<bool, String> {
        let sent = self.process.send(lane, &mut self.targets)?;
        if let Some(Delivered { stream, origin: (cause, part) }) = sent {
            self.note(3, cause << 16 | u64::from(part) << 8 | u64::from(stream));
        }
        Ok(sent.is_some())
    }

    /// The process ends without a word, the machine too or not; and it comes back.
    fn crash(&mut self) -> Result<(), String> {
        self.answer();
        loop {
            self.found.crashes += 1;
            let is_off = self.disks.iter().any(SimDisk::is_off);
            if is_off || self.is_broken() || self.dice.once_in(2) {
                self.disks.iter().for_each(SimDisk::lose_power);
                self.targets.iter_mut().for_each(Target::process_lost_power);
            } else {
                self.disks.iter().for_each(SimDisk::kill);
            }
            self.found.refused += std::mem::take(&mut self.open).len() as u64;
            let strikes = self.dice.once_in(4);
            if strikes {
                self.disks[0].strike_after(self.dice.below(12) as u64);
            }
            match Process::start(&self.disks, &self.setup, self.now) {
                Ok(process) => {
                    self.found.replayed += process.replayed;
                    self.process = process;
                }
                Err(_) if self.disks[0].is_off() => continue,
                Err(why) => return Err(format!("the start failed: {why}")),
            }
            match self.reconcile() {
                // The strike came while what is there was read.
                Err(_) if self.disks[0].is_off() => {}
                reconciled => return reconciled,
            }
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.now += self.dice.below(2000) as i64;
        let which = self.dice.below(2);
        match self.dice.below(64) {
            0 => self.crash()?,
            1 => self.disks[which].strike_after(self.dice.below(20) as u64),
            2 | 13 => {
                self.disks[which].turn([Weather::Flaky, Weather::Full, Weather::Dead][self.dice.below(3)])
            }
            3..7 => self.disks.iter().for_each(|disk| disk.turn(Weather::Fair)),
            7..9 => {
                let mood = [Mood::Up, Mood::Down, Mood::Refusing, Mood::Mute, Mood::Up][self.dice.below(5)];
                self.targets[which].mood = mood;
            }
            9 => self.tick(),
            10..12 => {
                self.sync()?;
                // Otherwise it would heal the journal.
                if !self.is_broken() {
                    self.process.save(which);
                }
            }
            12 => self.trim(),
            14..22 => self.sync()?,
            22..36 => drop(self.judge(which)?),
            36..52 => {
                let lane = self.dice.below(self.process.lanes());
                self.send(lane)?;
            }
            _ => self.receive(),
        }
        self.answer();
        if self.disks.iter().any(SimDisk::is_off) {
            self.crash()?;
        }
        Ok(())
    }

    /// Everything is well, and all that waits is done.
    fn finish(&mut self) -> Result<(), String> {
        self.crash()?;
        self.disks.iter().for_each(SimDisk::spare);
        while self.disks.iter().any(SimDisk::is_off) {
            self.crash()?;
        }
        self.targets.iter_mut().for_each(|target| target.mood = Mood::Up);
        self.sync()?;
        for shard in 0..SHARDS {
            while self.judge(shard)? {}
        }
        for lane in 0..self.process.lanes() {
            while self.send(lane)? {}
        }
        self.check()
    }

    /// What targets have is what an undisturbed run over the same inputs would have sent.
    fn check(&mut self) -> Result<(), String> {
        let expected = undisturbed(&self.setup.rules, self.inputs.values())?;
        for target in &self.targets {
            if let Some(lost) = expected.keys().find(|key| !target.known.contains_key(key)) {
                return Err(format!("{lost:?} never came to {}", target.name));
            }
            if let Some((other, _)) = target.known.iter().find(|(key, hash)| expected.get(key) != Some(hash))
            {
                return Err(format!("{other:?} came to {}, and should not, or not so", target.name));
            }
            self.found.duplicates += target.duplicates;
            self.found.delivered += target.known.len() as u64;
        }
        self.found.acknowledged = self.acknowledged.len() as u64;
        Ok(())
    }
}

/// What is derived where nothing ever fails.
fn undisturbed<'a>(
    rules: &Rules,
    inputs: impl Iterator<Item = &'a Record>,
) -> Result<BTreeMap<Delivered, u64>, String> {
    let mut judges: Vec<Judge> = (0..SHARDS).map(|shard| Judge::new(shard, rules, 0)).collect();
    let mut derived = BTreeMap::new();
    for input in inputs {
        let record = recovery::input(input).ok().flatten().ok_or("an input cannot be read")?;
        for judge in &mut judges {
            let stream = judge.stream();
            judge.take(&record, &mut Nobody, |part, request| {
                derived.insert(Delivered { stream, origin: (record.sequence, part) }, xxh3_64(&request.body));
            });
        }
    }
    Ok(derived)
}

fn run(seed: u64, sync: SyncMode) -> Result<Found, String> {
    let mut trial = Trial::begin(seed, sync)?;
    for _ in 0..50 + trial.dice.below(400) {
        trial.step()?;
    }
    trial.finish()?;
    for disk in &trial.disks {
        let (operations, hash) = disk.trace();
        trial.found.operations += operations;
        trial.trace.update(&hash.to_le_bytes());
    }
    Ok(Found { hash: trial.trace.digest(), ..trial.found })
}

#[test]
fn sim_powerloss() {
    let total = trial_all(seeds_from("PROMANTIS_SEEDS", 5000), |seed| run(seed, SyncMode::Batch));
    println!("{total}");
    assert!(total.failed.is_empty(), "{total}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hash = |seed| run(seed, SyncMode::Batch).map(|found| found.hash);
    for seed in 0..20 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(1), hash(2));
}

#[test]
fn a_journal_that_acknowledges_before_it_syncs_is_found_out() {
    let taken = seeds_until("acknowledged and is lost", 0..300, |seed| run(seed, SyncMode::Interval));
    println!("found after {taken:?} seeds");
    assert!(taken.is_some());
}
