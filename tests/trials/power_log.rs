//! The log over a disk that loses power: whatever happens, what was durable is there, and nothing else.
//!
//! `PROMANTIS_LOG_SEEDS` says how many schedules are tried.

use std::collections::BTreeMap;

use promantis::edge::log::{Durable, Entry, Log, LogError, Opened, Options, Reader, Record};

use super::sim::dice::Dice;
use super::sim::disk::{SimDisk, Weather};
use super::sim::{Found, seeds_from, seeds_until, trial_all};

/// Records by sequence, each as the number under which it was appended.
type Records = BTreeMap<u64, usize>;

/// What the log should know.
#[derive(Default, Debug)]
struct Model {
    /// Sequence and length of everything that was ever to be appended, by its number.
    appended: Vec<(u64, usize)>,
    /// What was said to be durable.
    durable: Records,
    /// What was appended and may still get lost.
    at_risk: Records,
    /// What was not appended, or not quite: its bytes may be there all the same.
    torn: Records,
    /// What is below may be gone.
    trimmed: u64,
    /// Whether a failed attempt to go on may have left some of what was at risk behind.
    tried: bool,
    checkpoints: u64,
    /// Number of the newest checkpoint that is durable, and the first sequence after it.
    checkpoint: (u64, u64),
}

struct Trial {
    dice: Dice,
    disk: SimDisk,
    options: Options,
    log: Log,
    model: Model,
    reader: Reader,
    /// Whether the disk only loses power, and does not fail otherwise.
    is_calm: bool,
    /// Faults of the disk when all that was at risk was last made durable.
    faults: u64,
}

fn options(dice: &mut Dice, durable: Durable) -> Options {
    let segment_bytes = 200 + dice.below(4000) as u64;
    Options { segment_bytes, tail_bytes: dice.below(3) * 1000, durable }
}

fn payload(number: usize, bytes: usize) -> Vec<u8> {
    let mut payload = (number as u64).to_le_bytes().to_vec();
    payload.extend((0..bytes).map(|at| (at as u8).wrapping_mul(31).wrapping_add(number as u8) | 1));
    payload
}

/// Which of the records at risk are worth keeping after an error.
fn is_kept(number: usize) -> bool {
    !number.is_multiple_of(3)
}

impl Model {
    fn number_of(&self, record: &Record) -> Result<usize, String> {
        let sequence = record.head.sequence;
        let number = record.payload.first_chunk().map(|bytes| u64::from_le_bytes(*bytes) as usize);
        let known = number.and_then(|number| self.appended.get(number).map(|known| (number, known)));
        match known {
            Some((number, (at, bytes))) if *at == sequence && record.payload == payload(number, *bytes) => {
                Ok(number)
            }
            _ => Err(format!("record {sequence} was never appended")),
        }
    }

    /// Makes durable what is below `sequence`.
    fn settle(&mut self, sequence: u64) {
        let rest = self.at_risk.split_off(&sequence);
        self.durable.append(&mut self.at_risk);
        self.at_risk = rest;
    }

    fn next_checkpoint(&mut self) -> [u8; 8] {
        self.checkpoints += 1;
        self.checkpoints.to_le_bytes()
    }

    /// The log went on in a new segment, whose first sequence is `first`.
    fn began(&mut self, log: &Log, first: u64) {
        self.checkpoint = (self.checkpoints, first);
        self.torn.clear();
        self.tried = false;
        self.settle(log.durable());
    }

    /// Everything that was durable is among what was found, and the rest is a first part of what was at risk.
    fn check(&self, found: &Records, is_whole: bool) -> Result<(), String> {
        let lost =
            self.durable.range(self.trimmed..).find(|(sequence, number)| found.get(sequence) != Some(number));
        if let Some((sequence, _)) = lost {
            return Err(format!("record {sequence} was durable and is lost"));
        }
        let newer: Vec<usize> = found
            .range(self.trimmed..)
            .filter(|(at, _)| !self.durable.contains_key(at))
            .map(|it| *it.1)
            .collect();
        let mut maybe = self.at_risk.clone();
        maybe.extend(&self.torn);
        let all: Vec<usize> = maybe.values().copied().collect();
        let kept: Vec<usize> = self.at_risk.values().copied().filter(|number| is_kept(*number)).collect();
        let is_first_part = all.starts_with(&newer) || self.tried && kept.starts_with(&newer);
        if !is_first_part {
            return Err(format!("found {newer:?} of {all:?}"));
        }
        if is_whole && newer.len() < self.at_risk.len() {
            return Err(format!("the process was killed and {all:?} became {newer:?}"));
        }
        Ok(())
    }
}

impl Trial {
    fn begin(seed: u64, durable: Durable) -> Result<Self, String> {
        let mut dice = Dice::new(seed);
        let disk = SimDisk::new(dice.split());
        let options = options(&mut dice, durable);
        let Opened { log, .. } = Log::open(disk.mount(), options).map_err(|error| error.to_string())?;
        let (reader, is_calm) = (Reader::from(0), seed.is_multiple_of(4));
        let mut trial =
            Self { is_calm, dice, disk, options, log, model: Model::default(), reader, faults: 0 };
        trial.roll();
        Ok(trial)
    }

    fn roll(&mut self) {
        self.roll_from(self.log.next());
    }

    fn roll_from(&mut self, first: u64) {
        let checkpoint = self.model.next_checkpoint();
        let before = self.disk.faults();
        if self.log.roll(&checkpoint).is_ok() {
            self.model.began(&self.log, first);
            self.faults = before;
        }
        // What was before may be durable all the same.
        self.model.settle(self.log.durable());
    }

    fn append(&mut self) {
        if self.log.is_segment_full() {
            self.roll();
        }
        let (number, sequence) = (self.model.appended.len(), self.log.next());
        let limit = if self.dice.once_in(8) { 3000 } else { 200 };
        let bytes = self.dice.below(limit);
        let payload = payload(number, bytes);
        let (front, back) = payload.split_at(payload.len() / 2);
        let entry = Entry { arrival: sequence as i64, kind: 1, stream: 0, parts: &[front, back] };
        match self.log.append(&entry) {
            Ok(appended) => {
                assert_eq!(appended, sequence, "sequences are told in advance");
                self.model.at_risk.insert(sequence, number);
            }
            Err(LogError::Broken) => return,
            Err(_) => {
                self.model.torn.insert(sequence, number);
            }
        }
        self.model.appended.push((sequence, bytes));
        self.model.settle(self.log.durable());
    }

    fn sync(&mut self) {
        if let Ok(durable) = self.log.sync() {
            self.model.settle(durable);
            self.faults = self.disk.faults();
        }
    }

    fn heal(&mut self) {
        let checkpoint = self.model.next_checkpoint();
        let first = self.log.durable();
        let keep = |record: &Record| self.model.number_of(record).is_ok_and(is_kept);
        if self.log.heal(|_| checkpoint.to_vec(), keep).is_ok() {
            self.model.at_risk.retain(|_, number| is_kept(*number));
            self.model.began(&self.log, first);
            self.faults = self.disk.faults();
        } else {
            self.model.tried = true;
        }
    }

    fn trim(&mut self) {
        let sequence = self.log.durable().saturating_sub(self.dice.below(20) as u64);
        let trimmed = self.log.trim(sequence);
        self.reader.pass_to(sequence);
        self.model.trimmed = self.model.trimmed.max(sequence);
        drop(trimmed);
    }

    /// A reader that lags behind sees all that is durable, once and in order.
    fn read(&mut self) -> Result<(), String> {
        for _ in 0..self.dice.below(20) {
            let from = self.reader.next().max(self.model.trimmed);
            let expected = self.model.durable.range(from..).next().map(|it| *it.1);
            let below = self.model.durable.last_key_value().map_or(0, |(last, _)| last + 1);
            let Ok(record) = self.log.read(&mut self.reader, below, |_| true) else { return Ok(()) };
            let number = record.as_ref().map(|record| self.model.number_of(record)).transpose()?;
            if number != expected {
                return Err(format!("the reader at {from} was shown {number:?} instead of {expected:?}"));
            }
        }
        match self.reader.damaged() {
            damaged if damaged > 0 && self.is_calm => Err(format!("the reader met damage {damaged} times")),
            _ => Ok(()),
        }
    }

    /// The machine comes back, and the log with it.
    fn restart(&mut self, is_whole: bool) -> Result<(), String> {
        let opened = Log::open(self.disk.mount(), self.options).map_err(|error| format!("open: {error}"))?;
        let (checkpoint, damaged) = (opened.checkpoint, opened.damaged);
        self.log = opened.log;
        let mut found = Records::new();
        let mut reader = Reader::from(0);
        while let Some(record) =
            self.log.read(&mut reader, u64::MAX, |_| true).map_err(|it| it.to_string())?
        {
            found.insert(record.head.sequence, self.model.number_of(&record)?);
        }
        self.model.check(&found, is_whole)?;
        if damaged > 0 || reader.damaged() > 0 && self.is_calm {
            return Err(format!("{damaged} and {} places count as damaged", reader.damaged()));
        }
        let (newest, first) = self.model.checkpoint;
        let checkpoint =
            checkpoint.and_then(|bytes| bytes.first_chunk().copied()).map_or(0, u64::from_le_bytes);
        let since: Vec<u64> = opened.since.iter().map(|record| record.head.sequence).collect();
        let expected: Vec<u64> = found.range(first..).map(|it| *it.0).collect();
        if checkpoint < newest || checkpoint == newest && since != expected {
            return Err(format!("checkpoint {checkpoint} with {since:?}, not {newest} with {expected:?}"));
        }
        self.model.at_risk = found.split_off(&self.model.durable.last_key_value().map_or(0, |it| it.0 + 1));
        self.model.at_risk.retain(|sequence, _| *sequence >= self.model.trimmed);
        self.model.torn.clear();
        self.model.tried = false;
        self.reader = Reader::from(self.reader.next().min(self.log.durable()).max(self.model.trimmed));
        if self.dice.once_in(4) {
            self.disk.strike_after(self.dice.below(6) as u64);
        }
        self.faults = self.disk.faults();
        self.roll_from(self.log.durable());
        Ok(())
    }

    fn crash(&mut self) -> Result<(), String> {
        if self.dice.once_in(3) && !self.disk.is_off() {
            let is_whole = self.disk.faults() == self.faults && !self.log.is_broken();
            self.disk.kill();
            self.restart(is_whole)
        } else {
            self.disk.lose_power();
            self.restart(false)
        }
    }

    fn step(&mut self) -> Result<(), String> {
        match self.dice.below(32) {
            0 => self.crash()?,
            1 => self.disk.strike_after(self.dice.below(12) as u64),
            2 if self.is_calm => {}
            2 => self.disk.turn([Weather::Flaky, Weather::Full, Weather::Dead][self.dice.below(3)]),
            3..7 => self.disk.turn(Weather::Fair),
            7 => self.roll(),
            8 => self.trim(),
            9..14 => self.sync(),
            14..17 => self.read()?,
            _ => self.append(),
        }
        if self.disk.is_off() {
            self.crash()?;
        }
        if self.log.is_broken() && self.dice.once_in(2) {
            self.heal();
        }
        Ok(())
    }
}

/// Tries one schedule; the hash of all that the disk was asked.
fn run(seed: u64, durable: Durable) -> Result<Found, String> {
    let mut trial = Trial::begin(seed, durable)?;
    for _ in 0..20 + trial.dice.below(180) {
        trial.step()?;
    }
    trial.disk.lose_power();
    trial.restart(false)?;
    let (operations, hash) = trial.disk.trace();
    Ok(Found { operations, hash, ..Found::default() })
}

#[test]
fn sim_log() {
    let total = trial_all(seeds_from("PROMANTIS_LOG_SEEDS", 20_000), |seed| run(seed, Durable::Synced));
    println!("{total}");
    assert!(total.failed.is_empty(), "{total}");
}

#[test]
fn the_same_seed_gives_the_same_schedule_of_the_log() {
    let hash = |seed| run(seed, Durable::Synced).map(|found| found.hash);
    for seed in 0..50 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(1), hash(2));
}

#[test]
fn a_log_that_calls_durable_what_is_only_written_is_found_out() {
    let taken = seeds_until("was durable and is lost", 0..300, |seed| run(seed, Durable::Written));
    println!("found after {taken:?} seeds");
    assert!(taken.is_some());
}
