//! Counts what waits in the log and nobody will send any more, by reading it.

use std::io;

use super::Source;
use super::place::GivenUp;
use crate::edge::journal::{Journal, record};
use crate::edge::log::{Head, Reader, Record};

/// How much there is below `below` of what was given up, for each stream: samples of derived requests, and requests
/// that were to be forwarded. Reads that part of the log once; where it cannot be read, the rest is not counted.
pub(super) fn tally(journal: &Journal, given_up: &[(u16, GivenUp)], below: u64) -> usize {
    let Some(from) = given_up.iter().map(|(_, given_up)| given_up.from).min() else { return 0 };
    let wanted = |head: &Head| given_up.iter().any(|(stream, given_up)| is_given_up(head, *stream, given_up));
    let mut reader = Reader::from(from);
    let mut amount = 0;
    loop {
        match journal.read_log(&mut reader, below, wanted) {
            Ok(Some(record)) => amount += weight(&record),
            Ok(None) => return amount,
            Err(error) => {
                tracing::error!(%error, "the journal cannot be read; not all that was dropped is counted");
                return amount;
            }
        }
    }
}

/// Whether there is something for a lane of `source` in a part of the log; it may be, where that cannot be read.
pub(super) fn has_any(journal: &Journal, source: Source, from: u64, below: u64) -> bool {
    let found = journal.read_log(&mut Reader::from(from), below, |head| source.has(head));
    !matches!(found, io::Result::Ok(None))
}

fn is_given_up(head: &Head, stream: u16, given_up: &GivenUp) -> bool {
    Source::of(stream).has(head) && head.sequence >= given_up.from && !given_up.early.contains(&head.sequence)
}

fn weight(record: &Record) -> usize {
    match record.head.kind {
        record::DERIVED => record::outgoing(record).map_or(0, |request| request.samples),
        _ => usize::from(record::request(record).is_some_and(|request| request.forward)),
    }
}
