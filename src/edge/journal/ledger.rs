//! What the log is remembered by: how far targets are, what was derived last, which rules are in force.
//!
//! Every segment begins with one, so that it outlives the records that it was made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::{self, Foreign, Origin, Rules};
use crate::edge::log::{Head, Record};

/// For each stream, the sequence below which all is done.
type Cursors = BTreeMap<u16, u64>;

/// See the module. Serialised with postcard behind a version byte.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// Of each target.
    pub(super) cursors: BTreeMap<String, Cursors>,
    /// For each stream, what was derived last and where it stands.
    pub(super) derived: BTreeMap<u16, (Origin, u64)>,
    /// The newest request that is to be forwarded.
    pub(super) forwarded: Option<u64>,
    /// Encoded, since most of the time nobody asks.
    rules: Option<Vec<u8>>,
}

/// What it is, for errors, and its version: from 2 on its rules have one, too.
const FORM: (&str, u8) = ("checkpoints", 2);

impl Ledger {
    pub(super) fn encode(&self) -> Vec<u8> {
        record::encode(FORM.1, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Foreign> {
        record::decode(FORM, bytes)
    }

    /// Takes note of a record that is in the log.
    pub(super) fn apply(&mut self, record: &Record) {
        let Head { sequence, stream, kind, .. } = record.head;
        match kind {
            record::REQUEST if record::request(record).is_some_and(|request| request.forward) => {
                self.forwarded = Some(sequence);
            }
            record::RULES => drop(self.set_rules(record.payload.to_vec(), sequence)),
            record::DERIVED => {
                if let Some((origin, _)) = record::derived(record) {
                    self.derived.insert(stream, (origin, sequence));
                }
            }
            record::CURSOR => {
                if let Some((target, next)) = record::cursor(record) {
                    self.move_cursor(target, stream, next);
                }
            }
            _ => {}
        }
    }

    /// The rules in force; `None` before the first.
    pub(super) fn rules(&self) -> Result<Option<Arc<Rules>>, Foreign> {
        self.rules.as_deref().map(|bytes| Rules::decode(bytes).map(Arc::new)).transpose()
    }

    /// Puts rules in force from `sequence` on, where every target of derived requests begins with streams that are
    /// new. Returns those before.
    pub(super) fn set_rules(&mut self, encoded: Vec<u8>, sequence: u64) -> Option<Vec<u8>> {
        let shards = Rules::decode(&encoded).map_or(0, |rules| rules.shards);
        for streams in self.cursors.values_mut().filter(|streams| !is_forward(streams)) {
            for stream in 0..shards {
                streams.entry(stream).or_insert(sequence);
            }
        }
        self.rules.replace(encoded)
    }

    pub(super) fn restore_rules(&mut self, encoded: Option<Vec<u8>>) {
        self.rules = encoded;
    }

    /// Moves a cursor on, never back. Tells whether it moved.
    pub(super) fn move_cursor(&mut self, target: &str, stream: u16, next: u64) -> bool {
        if !self.cursors.contains_key(target) {
            self.cursors.insert(target.to_owned(), BTreeMap::new());
        }
        let cursor = self.cursors.get_mut(target).map(|streams| streams.entry(stream).or_insert(0));
        let before = cursor.map_or(u64::MAX, |cursor| std::mem::replace(cursor, next.max(*cursor)));
        before < next
    }

    /// Whether the request of that origin is in the log already.
    pub(super) fn has_derived(&self, stream: u16, origin: Origin) -> bool {
        self.derived.get(&stream).is_some_and(|(newest, _)| origin <= *newest)
    }

    /// The oldest sequence that some target still has to get.
    pub(super) fn needed(&self) -> Option<u64> {
        self.cursors.keys().filter_map(|target| self.needed_by(target)).min()
    }

    /// The oldest sequence that a target still has to get; `None` where it has got everything.
    pub(super) fn needed_by(&self, target: &str) -> Option<u64> {
        self.waiting(self.cursors.get(target)?).map(|(_, next)| next).min()
    }

    /// How many streams some target still has to get something of, or may.
    pub(super) fn streams(&self, shards: u16) -> u16 {
        let waiting = self.cursors.values().flat_map(|streams| self.waiting(streams));
        let derived = waiting.filter(|(stream, _)| *stream != record::FORWARD);
        derived.map(|(stream, _)| stream + 1).fold(shards, u16::max)
    }

    /// Those of a target's streams that it has not got all of. One that requests are forwarded to gets nothing else;
    /// cursors of other streams may stand beside, and nobody would ever move them.
    fn waiting(&self, streams: &Cursors) -> impl Iterator<Item = (u16, u64)> {
        let forward = is_forward(streams);
        let its_own = streams.iter().filter(move |(stream, _)| (**stream == record::FORWARD) == forward);
        let waiting =
            its_own.filter(|(stream, next)| self.newest(**stream).is_some_and(|newest| **next <= newest));
        waiting.map(|(stream, next)| (*stream, *next))
    }

    fn newest(&self, stream: u16) -> Option<u64> {
        match stream {
            record::FORWARD => self.forwarded,
            _ => self.derived.get(&stream).map(|(_, sequence)| *sequence),
        }
    }
}

/// Whether they are of a target that requests are forwarded to.
fn is_forward(streams: &Cursors) -> bool {
    streams.contains_key(&record::FORWARD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_comes_back_as_it_was_and_a_newer_one_does_not() {
        let mut ledger = Ledger::default();
        ledger.move_cursor("one", 3, 9);
        ledger.derived.insert(3, ((8, 1), 10));
        ledger.set_rules(vec![1, 2, 3], 0);
        let bytes = ledger.encode();
        assert_eq!(Ledger::decode(&bytes), Ok(ledger));
        let (what, known) = FORM;
        let other = Err(Foreign::Version { what, found: 1, known });
        assert_eq!(Ledger::decode(&[1, 0, 0, 0, 0]), other);
        assert!((0..bytes.len()).all(|cut| Ledger::decode(&bytes[..cut]).is_err()));
    }

    #[test]
    fn a_cursor_never_goes_back_and_holds_only_what_is_not_done() {
        let mut ledger = Ledger::default();
        assert!(ledger.move_cursor("one", 0, 5));
        assert!(!ledger.move_cursor("one", 0, 4));
        assert_eq!(ledger.needed(), None, "nothing was derived yet");
        ledger.derived.insert(0, ((1, 0), 7));
        assert_eq!(ledger.needed(), Some(5));
        assert!(ledger.move_cursor("one", 0, 8));
        assert_eq!(ledger.needed(), None);
        ledger.forwarded = Some(9);
        ledger.move_cursor("two", record::FORWARD, 2);
        assert_eq!((ledger.needed(), ledger.needed_by("one")), (Some(2), None));
    }

    /// Rules for so many shards.
    fn divided(shards: u16) -> Vec<u8> {
        let plan = crate::config::parse("").expect("the defaults are valid").plan;
        Rules { plan: crate::engine::monitor::Plan::clone(&plan), shards, samples_per_request: 7 }.encode()
    }

    /// A changed plan gave forward targets cursors of derived streams, which nobody moves: the journal was never let
    /// go again, and filled up.
    #[test]
    fn changed_rules_keep_nothing_for_a_target_that_gets_nothing_derived() {
        let mut ledger = Ledger::default();
        ledger.move_cursor("copy", record::FORWARD, 0);
        ledger.move_cursor("one", 0, 3);
        ledger.set_rules(divided(2), 9);
        let streams = |target: &str| ledger.cursors[target].clone();
        assert_eq!(streams("copy"), BTreeMap::from([(record::FORWARD, 0)]));
        assert_eq!(streams("one"), BTreeMap::from([(0, 3), (1, 9)]));
    }

    /// What such journals hold of it stays in them.
    #[test]
    fn cursors_of_derived_streams_count_for_nothing_where_requests_are_forwarded() {
        let mut ledger = Ledger::default();
        for stream in [0, 1, record::FORWARD] {
            ledger.move_cursor("copy", stream, 9);
        }
        ledger.derived.extend([(0, ((10, 0), 11)), (1, ((10, 0), 12))]);
        assert_eq!((ledger.needed(), ledger.streams(1)), (None, 1));
        ledger.forwarded = Some(13);
        assert_eq!((ledger.needed(), ledger.needed_by("copy")), (Some(9), Some(9)));
    }

    #[test]
    fn what_was_derived_is_known_by_its_origin() {
        let mut ledger = Ledger::default();
        ledger.derived.insert(0, ((5, 1), 7));
        let known = [(4, 9), (5, 0), (5, 1), (5, 2), (6, 0)].map(|origin| ledger.has_derived(0, origin));
        assert_eq!(known, [true, true, true, false, false]);
        assert!(!ledger.has_derived(1, (0, 0)));
    }
}
