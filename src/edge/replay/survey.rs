//! A first look through a whole journal: what was derived live, and how series were divided when.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::edge::journal::Rules;
use crate::edge::journal::record::{self, DERIVED, RULES};
use crate::edge::log::{Log, Reader};
use crate::edge::recovery::is_input;
use crate::edge::send::Outgoing;

/// What a journal has. About 60 bytes for each derived request.
#[derive(Default, Debug)]
pub(super) struct Survey {
    /// Hashes of what was derived live, by stream, cause and part.
    pub(super) derived: BTreeMap<(u16, u64, u32), u128>,
    /// From which sequence on there were how many shards, ascending.
    pub(super) divisions: Vec<(u64, usize)>,
    /// The first rules that were in force.
    pub(super) rules: Option<Arc<Rules>>,
    /// Records that engines take, from where a replay begins.
    pub(super) inputs: u64,
    /// Places where records are damaged.
    pub(super) damaged: u64,
}

impl Survey {
    /// Looks through `log`, before whose oldest record `rules` were in force.
    pub(super) fn of(log: &Log, rules: Option<Arc<Rules>>) -> io::Result<Self> {
        let mut survey = Self::default();
        if let Some(rules) = rules {
            survey.note(log.first().saturating_sub(1), rules);
        }
        let mut reader = Reader::default();
        while let Some(found) =
            log.read(&mut reader, u64::MAX, |head| matches!(head.kind, DERIVED | RULES))?
        {
            if let Some(((cause, part), request)) = record::derived(&found) {
                survey.derived.insert((found.head.stream, cause, part), hash(&request));
            }
            if let Some(rules) = record::rules(&found)? {
                survey.note(found.head.sequence, rules);
            }
        }
        survey.damaged = reader.damaged();
        Ok(survey)
    }

    /// Counts the records that engines take from `begin` on and before `end`.
    pub(super) fn count(&mut self, log: &Log, begin: u64, end: u64) -> io::Result<()> {
        let mut reader = Reader::from(begin);
        while log.read(&mut reader, end, is_input)?.is_some() {
            self.inputs += 1;
        }
        Ok(())
    }

    fn note(&mut self, sequence: u64, rules: Arc<Rules>) {
        if self.divisions.last().is_none_or(|(_, shards)| *shards != rules.shards()) {
            self.divisions.push((sequence, rules.shards()));
        }
        self.rules.get_or_insert(rules);
    }
}

/// What a derived request is compared by.
pub(super) fn hash(request: &Outgoing) -> u128 {
    xxh3_128(&request.body)
}
