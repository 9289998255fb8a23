//! What engines have still to judge, decoded, in memory: many read it, each with its own cursor.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Entry, Record};

/// Records that some reader is not done with.
#[derive(Default, Debug)]
pub(super) struct Waiting {
    /// Oldest first.
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    readers: Vec<Cursor>,
}

/// Invariant: `done` ≤ `read`.
#[derive(Clone, Copy, Default, Debug)]
struct Cursor {
    /// Sequence from which on it has read nothing.
    read: u64,
    /// All records before this sequence are finished.
    done: u64,
}

impl Waiting {
    /// For so many readers, who begin with `sequence`. With none, nothing is kept.
    pub(super) fn new(readers: usize, sequence: u64) -> Self {
        let readers = vec![Cursor { read: sequence, done: sequence }; readers];
        Self { readers, ..Self::default() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds a record, the newest.
    pub(super) fn push(&mut self, record: Record) {
        if !self.readers.is_empty() {
            self.bytes += cost(&record.entry);
            self.records.push_back(Arc::new(record));
        }
    }

    /// The next record for a reader, of those below the sequence `visible`.
    pub(super) fn next(&mut self, reader: usize, visible: u64) -> Option<Arc<Record>> {
        let record = Arc::clone(self.unread(reader, visible)?);
        self.readers.get_mut(reader)?.read = record.sequence + 1;
        Some(record)
    }

    /// Whether there is one.
    pub(super) fn has_next(&self, reader: usize, visible: u64) -> bool {
        self.unread(reader, visible).is_some()
    }

    fn unread(&self, reader: usize, visible: u64) -> Option<&Arc<Record>> {
        let cursor = self.readers.get(reader)?;
        let at = self.records.partition_point(|record| record.sequence < cursor.read);
        self.records.get(at).filter(|record| record.sequence < visible)
    }

    /// Says that a reader has finished with `sequence` and all before, and returns what nobody needs any more. What
    /// it has not read yet stays unfinished.
    pub(super) fn finish(&mut self, reader: usize, sequence: u64) -> Vec<Arc<Record>> {
        if let Some(cursor) = self.readers.get_mut(reader) {
            cursor.done = cursor.done.max(sequence.saturating_add(1).min(cursor.read));
        }
        let done = self.readers.iter().map(|cursor| cursor.done).min().unwrap_or(u64::MAX);
        let count = self.records.partition_point(|record| record.sequence < done);
        let passed: Vec<_> = self.records.drain(..count).collect();
        self.bytes -= passed.iter().map(|record| cost(&record.entry)).sum::<usize>();
        passed
    }

    /// Forgets all records from `sequence` on: they were lost before anybody saw them.
    pub(super) fn forget_from(&mut self, sequence: u64) {
        let at = self.records.partition_point(|record| record.sequence < sequence);
        let lost = self.records.drain(at..);
        self.bytes -= lost.map(|record| cost(&record.entry)).sum::<usize>();
    }

    /// The oldest sequence that some reader is not done with.
    pub(super) fn needed(&self) -> Option<u64> {
        self.records.front().map(|record| record.sequence)
    }
}

/// Bytes that a record of `entry` occupies.
pub(super) fn cost(entry: &Entry) -> usize {
    let batch = match entry {
        Entry::Request { batch } => batch.memory_bytes(),
        Entry::Tick | Entry::Rules(_) => 0,
    };
    size_of::<Record>().saturating_add(batch)
}
