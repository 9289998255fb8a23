//! A remote end that knows what it has got.

use std::collections::{BTreeMap, BTreeSet};

use promantis::edge::journal::record::Origin;
use xxhash_rust::xxh3::xxh3_64;

/// Which derived request it was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Delivered {
    pub(crate) stream: u16,
    pub(crate) origin: Origin,
}

/// How it feels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// Takes everything.
    Up,
    /// Cannot be reached.
    Down,
    /// Refuses for good.
    Refusing,
    /// Takes everything, and its answers get lost.
    Mute,
}

/// What the sender learns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Taken, or refused for good: never to be sent again.
    Final,
    /// Nothing, although it was taken.
    Lost,
    /// Nothing, and nothing happened.
    None,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) mood: Mood,
    /// What it got or refused, and the hash of that.
    pub(crate) known: BTreeMap<Delivered, u64>,
    pub(crate) duplicates: u64,
    /// What may come again: its delivery was not durable when a process ended, or its answer was lost.
    may_come: BTreeSet<Delivered>,
    /// What was delivered since all was made durable.
    fresh: BTreeSet<Delivered>,
    /// What was taken without an answer.
    unanswered: BTreeSet<Delivered>,
}

impl Target {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            mood: Mood::Up,
            known: BTreeMap::new(),
            duplicates: 0,
            may_come: BTreeSet::new(),
            fresh: BTreeSet::new(),
            unanswered: BTreeSet::new(),
        }
    }

    /// A request arrives.
    pub(crate) fn take(&mut self, delivered: Delivered, body: &[u8]) -> Result<Answer, String> {
        if self.mood == Mood::Down {
            return Ok(Answer::None);
        }
        let hash = xxh3_64(body);
        match self.known.insert(delivered, hash) {
            None => self.check_order(delivered)?,
            Some(before) if before != hash => {
                return Err(format!("{delivered:?} came again with other bytes"));
            }
            Some(_) if !self.may_come.contains(&delivered) && !self.unanswered.contains(&delivered) => {
                return Err(format!("{delivered:?} came to {} again without need", self.name));
            }
            Some(_) => self.duplicates += 1,
        }
        if self.mood == Mood::Mute {
            self.unanswered.insert(delivered);
            return Ok(Answer::Lost);
        }
        self.unanswered.remove(&delivered);
        self.fresh.insert(delivered);
        Ok(Answer::Final)
    }

    /// All that was delivered is durably known as delivered.
    pub(crate) fn settle(&mut self) {
        self.fresh.clear();
    }

    /// The process ended, and what it wrote and did not sync is lost or not.
    pub(crate) fn process_lost_power(&mut self) {
        self.may_come.append(&mut self.fresh);
    }

    /// New requests of a stream come in the order in which they were caused.
    fn check_order(&self, delivered: Delivered) -> Result<(), String> {
        let newest =
            self.known.range(..=Delivered { stream: delivered.stream, origin: (u64::MAX, u32::MAX) });
        match newest.last() {
            Some((newest, _)) if newest.stream == delivered.stream && *newest > delivered => {
                Err(format!("{delivered:?} came to {} after {newest:?}", self.name))
            }
            _ => Ok(()),
        }
    }
}
