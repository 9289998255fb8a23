//! A place in the log, and how to go on from there.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{self, Head, Parsed};
use super::search::{self, Search};
use super::{Log, Record, State};
use crate::edge::disk::File;

/// Bytes that are read from a file at once, unless a record is longer.
const CHUNK_BYTES: usize = 256 << 10;

/// A place in the log. Holds a chunk of a file while it lags behind what is in memory.
#[derive(Default, Debug)]
pub struct Reader {
    /// Sequence to go on from.
    next: u64,
    /// Segment and offset of a record that is not after `next`.
    at: Option<(u64, u64)>,
    /// The least sequence that a record there should have.
    low: u64,
    chunk: Vec<u8>,
    /// Where in its file the chunk begins.
    chunk_at: u64,
    damaged: u64,
}

/// A segment to read from, as it was when looked at.
struct Source {
    number: u64,
    file: Arc<dyn File>,
    size: u64,
    /// Sequences from here on are superseded by the next segment.
    limit: u64,
    /// Every sequence below was used before it.
    used: u64,
    following: Option<Following>,
}

/// The next segment: its number, where its records begin, and its first sequence.
#[derive(Clone, Copy)]
struct Following {
    number: u64,
    start: u64,
    first: u64,
}

enum Scan {
    Found(Record),
    /// Everything below the sequence that was asked for is read.
    Reached,
    SegmentEnd,
}

impl Reader {
    /// Begins at `sequence`, or at the oldest that is left.
    pub fn from(sequence: u64) -> Self {
        Self { next: sequence, ..Self::default() }
    }

    /// The sequence that it goes on from: all before it were read.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Goes on from `sequence`, if that is further on.
    pub fn pass_to(&mut self, sequence: u64) {
        self.next = self.next.max(sequence);
    }

    /// Places where records were damaged, and passed over.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }
}

impl Log {
    /// The next record whose head is `wanted`, of those below the sequence `below`; `None` when there is none
    /// yet.
    ///
    /// # Errors
    /// As the system tells; the reader stays where it was.
    pub fn read(
        &self,
        reader: &mut Reader,
        below: u64,
        wanted: impl Fn(&Head) -> bool,
    ) -> io::Result<Option<Record>> {
        loop {
            let (source, end) = {
                let state = self.lock();
                let end = below.min(state.next);
                if reader.next >= end {
                    return Ok(None);
                }
                if let Some(outcome) = state.read_tail(reader, end, &wanted) {
                    return Ok(outcome);
                }
                let Some(source) = state.source(reader) else { return Ok(None) };
                (source, end)
            };
            match reader.scan(&source, end, &wanted)? {
                Scan::Found(record) => return Ok(Some(record)),
                Scan::Reached => return Ok(None),
                Scan::SegmentEnd => match source.following {
                    Some(Following { number, start, first }) => {
                        (reader.at, reader.low) = (Some((number, start)), first);
                        reader.chunk.clear();
                    }
                    None => {
                        reader.next = end;
                        return Ok(None);
                    }
                },
            }
        }
    }
}

impl State {
    /// Reads from memory, where all that the reader has still to see is there.
    fn read_tail(
        &self,
        reader: &mut Reader,
        end: u64,
        wanted: impl Fn(&Head) -> bool,
    ) -> Option<Option<Record>> {
        self.tail.front().filter(|oldest| oldest.head.sequence <= reader.next)?;
        (reader.at, reader.chunk) = (None, Vec::new());
        let from = self.tail.partition_point(|record| record.head.sequence < reader.next);
        let newer = self.tail.range(from..).take_while(|record| record.head.sequence < end);
        let found = newer.into_iter().find(|record| wanted(&record.head)).cloned();
        reader.next = found.as_ref().map_or(end, |record| record.head.sequence + 1);
        Some(found)
    }

    /// The segment that the reader has to go on in; moves the reader to where that is worth it.
    fn source(&self, reader: &mut Reader) -> Option<Source> {
        let known = reader.at.and_then(|(number, _)| {
            let at = self.segments.partition_point(|segment| segment.number < number);
            self.segments.get(at).filter(|segment| segment.number == number).map(|_| at)
        });
        let at = match known {
            Some(at) => at,
            None => {
                let at = self.segments.partition_point(|segment| segment.first <= reader.next);
                let at = at.saturating_sub(1);
                let segment = self.segments.get(at)?;
                reader.next = reader.next.max(segment.first);
                let (low, offset) = segment.before(reader.next);
                (reader.at, reader.low) = (Some((segment.number, offset)), low);
                reader.chunk.clear();
                at
            }
        };
        let segment = self.segments.get(at)?;
        let following = self.segments.get(at + 1);
        Some(Source {
            number: segment.number,
            file: Arc::clone(&segment.file),
            size: segment.size,
            limit: following.map_or(u64::MAX, |it| it.first),
            used: segment.next,
            following: following.map(|it| Following { number: it.number, start: it.start, first: it.first }),
        })
    }
}

impl Reader {
    fn scan(&mut self, source: &Source, end: u64, wanted: impl Fn(&Head) -> bool) -> io::Result<Scan> {
        let mut offset = self.at.map_or(0, |(_, offset)| offset);
        loop {
            // What stands behind the last record that is not superseded may be torn.
            if offset >= source.size || self.next >= source.limit {
                return Ok(Scan::SegmentEnd);
            }
            let left = usize::try_from(source.size - offset).unwrap_or(usize::MAX);
            match frame::parse(self.loaded(offset)) {
                Parsed::Good(head, payload, total) => {
                    if head.sequence >= source.limit {
                        return Ok(Scan::SegmentEnd);
                    }
                    if head.sequence >= end {
                        self.next = end;
                        return Ok(Scan::Reached);
                    }
                    let found = head.sequence >= self.next && wanted(&head);
                    let record = found.then(|| Record { head, payload: Bytes::copy_from_slice(payload) });
                    offset += total as u64;
                    self.low = head.sequence + 1;
                    self.next = self.next.max(self.low);
                    self.at = Some((source.number, offset));
                    if let Some(record) = record {
                        return Ok(Scan::Found(record));
                    }
                }
                Parsed::Longer(total) if total <= left => {
                    self.load(source, offset, total.max(CHUNK_BYTES).min(left))?;
                }
                Parsed::Longer(_) | Parsed::Bad => {
                    self.load(source, offset, left)?;
                    self.damaged += 1;
                    let good = Search::of(&self.chunk).next(1, &search::likely(self.low, source.used));
                    offset = good.map_or(source.size, |good| offset + good as u64);
                    self.at = Some((source.number, offset));
                }
            }
        }
    }

    /// What of the file from `offset` on is in memory.
    fn loaded(&self, offset: u64) -> &[u8] {
        let skipped = offset.checked_sub(self.chunk_at).and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.chunk.get(skipped..)).unwrap_or_default()
    }

    fn load(&mut self, source: &Source, offset: u64, bytes: usize) -> io::Result<()> {
        self.chunk.clear();
        self.chunk.resize(bytes, 0);
        self.chunk_at = offset;
        let mut read = 0;
        while read < bytes {
            match source.file.read_at(offset + read as u64, &mut self.chunk[read..]) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) => {
                    self.chunk.clear();
                    return Err(error);
                }
            }
        }
        // A file that is shorter than it was known to be is damaged: zeros are no record.
        Ok(())
    }
}
