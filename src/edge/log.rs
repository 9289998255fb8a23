//! A segmented log of records on a disk: append, sync, read from anywhere, forget from the front.
//!
//! To append is to write; to be durable is another step, one for many records. Whoever is done with the newest
//! reads memory, whoever lags behind reads files, and both see the same. A segment begins with a checkpoint, so
//! that what the log remembers of older segments outlives them.
//!
//! What a crash leaves: the newest segment may end in a torn record, and, when power was lost, have holes where
//! nothing was durable. It is cut there. Damage in what was durable, told by the sequence that each record says
//! was durable before it, costs the damaged records alone.

mod frame;
mod opening;
mod reader;
mod search;
mod segment;
mod spares;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};

use super::disk::Disk;
use frame::SegmentStart;
pub use frame::{Head, PAYLOAD_BYTES_MAX};
pub use opening::{Opened, check};
pub use reader::Reader;
use segment::{NewSegment, Segment, file_name};
use spares::Spares;

/// How a log behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes after which a segment is full.
    pub segment_bytes: u64,
    /// Bytes of the newest payloads that are kept in memory, beside those that are not durable yet. The room that they
    /// stand in may be larger by a quarter.
    pub tail_bytes: usize,
    /// From when on a record counts as durable.
    pub durable: Durable,
}

/// From when on a record counts as durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durable {
    /// When it was synced.
    Synced,
    /// When it was written.
    Written,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What stands before the payload.
    pub head: Head,
    /// What it is about.
    pub payload: Bytes,
}

/// What is to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Milliseconds since the Unix epoch. Raised to that of the record before, if the clock went back.
    pub arrival: i64,
    /// What the payload is.
    pub kind: u8,
    /// Which of several streams it belongs to.
    pub stream: u16,
    /// The payload in parts.
    pub parts: &'a [&'a [u8]],
}

/// Why a record was not appended.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// An earlier error left the log without a place to write to, until [`Log::heal`].
    #[error("an earlier error of the disk has not passed")]
    Broken,
    /// It is too long.
    #[error("record of {bytes} bytes is too long, at most {PAYLOAD_BYTES_MAX}")]
    TooLong {
        /// Bytes of its payload.
        bytes: usize,
    },
    /// The system's error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// See the module.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    options: Options,
    state: Mutex<State>,
    /// Held while something is made durable, and taken before the state. A system tells of an error once: whoever
    /// syncs beside one who fails would take for durable what is lost.
    syncing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// Oldest first. The last one is written to, if any is.
    segments: VecDeque<Segment>,
    /// Number of the next segment's file.
    number: u64,
    /// Sequence of the next record.
    next: u64,
    /// Every record below is durable.
    durable: u64,
    /// Arrival of the newest record.
    arrival: i64,
    /// The newest records without a gap, and all that are not durable.
    tail: VecDeque<Record>,
    tail_bytes: usize,
    spares: Spares,
    /// Whether the last segment cannot be written to any more.
    broken: bool,
    /// Bytes that did not fit when it broke.
    refused: usize,
    /// Whether the last segment was found on the disk: what another process wrote last may be seen and yet not
    /// be durable, even after a sync, if one of that process failed.
    is_found: bool,
    /// Files that a crash left without anything in them.
    strays: Vec<String>,
}

impl Log {
    /// Appends a record and returns its sequence. Written, not yet durable.
    ///
    /// # Errors
    /// [`LogError`]. The record is not in the log then; sequences go on.
    pub fn append(&self, entry: &Entry<'_>) -> Result<u64, LogError> {
        let bytes = entry.parts.iter().map(|part| part.len()).sum();
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(LogError::TooLong { bytes });
        }
        let mut state = self.lock();
        let state = &mut *state;
        if state.broken {
            return Err(LogError::Broken);
        }
        let arrival = entry.arrival.max(state.arrival);
        let head = state.head(entry, arrival, self.options.durable);
        let mut record = state.spares.take(frame::RECORD_BYTES + bytes);
        frame::encode(&head, entry.parts, &mut record);
        let written = state.write(head.sequence, &record);
        state.next += 1;
        written?;
        let mut payload = Bytes::from(record);
        payload.advance(frame::RECORD_BYTES);
        state.arrival = arrival;
        if self.options.durable == Durable::Written {
            state.durable = state.next;
        }
        state.remember(Record { head, payload }, self.options.tail_bytes);
        Ok(head.sequence)
    }

    /// Makes durable what was appended before the call. Returns the sequence below which all is.
    ///
    /// # Errors
    /// [`LogError`]. What was not durable stays so; the log takes nothing more until [`Self::heal`].
    pub fn sync(&self) -> Result<u64, LogError> {
        let _syncing = self.lock_syncing();
        let (file, next) = {
            let state = self.lock();
            let last = state.segments.back().filter(|_| !state.broken).ok_or(LogError::Broken)?;
            if state.durable == state.next {
                return Ok(state.durable);
            }
            (Arc::clone(&last.file), state.next)
        };
        let synced = file.sync();
        let mut state = self.lock();
        if let Err(error) = synced {
            state.broken = true;
            return Err(error.into());
        }
        // Those who wait for what was at risk when it broke are told that it is lost, and so it has to be.
        if state.broken {
            return Err(LogError::Broken);
        }
        state.durable = state.durable.max(next);
        state.forget(self.options.tail_bytes);
        Ok(state.durable)
    }

    /// Whether the last segment is full.
    pub fn is_segment_full(&self) -> bool {
        let state = self.lock();
        state.segments.back().is_none_or(|segment| segment.size >= self.options.segment_bytes)
    }

    /// Makes all durable and begins a new segment with `checkpoint`.
    ///
    /// # Errors
    /// [`LogError`]. The log takes nothing more until [`Self::heal`].
    pub fn roll(&self, checkpoint: &[u8]) -> Result<(), LogError> {
        let _syncing = self.lock_syncing();
        let mut state = self.lock();
        if state.broken {
            return Err(LogError::Broken);
        }
        if state.is_found {
            drop(state);
            return Ok(self.go_on(|_| checkpoint.to_vec(), |_| true)?);
        }
        if let Err(error) = state.segments.back().map_or(Ok(()), Segment::finish) {
            state.broken = true;
            return Err(error.into());
        }
        state.durable = state.next;
        state.forget(self.options.tail_bytes);
        let next = state.next;
        let new = state.prepare(next, checkpoint, &[]);
        let begun = new.write(&*self.disk)?;
        state.go_on_in(begun, &*self.disk);
        Ok(())
    }

    /// Leaves out all sequences below `sequence`: they were used, and what had them is lost. Before [`Self::roll`].
    pub fn pass_to(&self, sequence: u64) {
        let mut state = self.lock();
        state.next = state.next.max(sequence);
    }

    /// Begins anew after an error: a new segment with those records that are not known to be durable and that `keep`
    /// wants; the others are forgotten. `checkpoint` is told the sequence from which on that is so.
    ///
    /// # Errors
    /// The system's, also where there is no room yet for what did not fit; the log is then as before.
    pub fn heal(
        &self,
        checkpoint: impl FnOnce(u64) -> Vec<u8>,
        keep: impl Fn(&Record) -> bool,
    ) -> io::Result<()> {
        let _syncing = self.lock_syncing();
        self.go_on(checkpoint, keep)
    }

    /// Leaves the state alone while the disk works: nothing else can change it but [`Self::trim`], since it is broken.
    fn go_on(
        &self,
        checkpoint: impl FnOnce(u64) -> Vec<u8>,
        keep: impl Fn(&Record) -> bool,
    ) -> io::Result<()> {
        let mut state = self.lock();
        let durable = state.durable;
        let at_risk = state.tail.partition_point(|record| record.head.sequence < durable);
        let kept: Vec<Record> = state.tail.range(at_risk..).filter(|record| keep(record)).cloned().collect();
        let last = state.segments.back().cloned();
        let new = state.prepare(durable, &checkpoint(durable), &kept);
        drop(state);
        // Only so that the old segment holds less that is superseded; often this fails as all else did.
        let _ = last.as_ref().map(Segment::finish);
        let begun = new.write(&*self.disk)?;
        let mut state = self.lock();
        let state = &mut *state;
        state.go_on_in(begun, &*self.disk);
        state.tail.truncate(at_risk);
        state.tail.extend(kept);
        state.tail_bytes = state.tail.iter().map(|record| record.payload.len()).sum();
        state.durable = state.next;
        (state.broken, state.is_found, state.refused) = (false, false, 0);
        state.forget(self.options.tail_bytes);
        Ok(())
    }

    /// Whether an error keeps the log from taking records.
    pub fn is_broken(&self) -> bool {
        self.lock().broken
    }

    /// Sequence of the next record.
    pub fn next(&self) -> u64 {
        self.lock().next
    }

    /// Every record below this sequence is durable.
    pub fn durable(&self) -> u64 {
        self.lock().durable
    }

    /// The oldest sequence that may still be read.
    pub fn first(&self) -> u64 {
        let state = self.lock();
        state.segments.front().map_or(state.next, |segment| segment.first)
    }

    /// Arrival of the newest record, `i64::MIN` before the first.
    pub fn arrival(&self) -> i64 {
        self.lock().arrival
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.lock().segments.iter().map(|segment| segment.size).sum()
    }

    /// Bytes from `sequence` on, about: a mark's distance too many.
    pub fn bytes_since(&self, sequence: u64) -> u64 {
        let state = self.lock();
        if sequence >= state.next {
            return 0;
        }
        let newer = state.segments.iter().rev().take_while(|segment| segment.first > sequence);
        let (count, bytes) = newer.fold((0, 0), |(count, bytes), it| (count + 1, bytes + it.size));
        let holder = state.segments.len().checked_sub(count + 1).and_then(|at| state.segments.get(at));
        bytes + holder.map_or(0, |it| it.size - it.before(sequence).1)
    }

    /// Whether all records from `sequence` on are in memory.
    pub fn is_in_memory(&self, sequence: u64) -> bool {
        let state = self.lock();
        sequence >= state.next || state.tail.front().is_some_and(|oldest| oldest.head.sequence <= sequence)
    }

    /// The first sequence after the oldest segment; `None` where that is the one that is written to.
    pub fn oldest_end(&self) -> Option<u64> {
        self.lock().segments.get(1).map(|second| second.first)
    }

    /// The first sequence after the segments that have nothing from `arrival` on, `None` where there are none. The one
    /// that is written to is never among them.
    pub fn end_before(&self, arrival: i64) -> Option<u64> {
        let state = self.lock();
        let young = state.segments.iter().skip(1).take_while(|segment| segment.arrival < arrival);
        young.last().map(|segment| segment.first)
    }

    /// Removes the segments that have nothing from `sequence` on.
    ///
    /// # Errors
    /// As the system tells; what was removed before stays so.
    pub fn trim(&self, sequence: u64) -> io::Result<()> {
        let strays = std::mem::take(&mut self.lock().strays);
        // One that cannot be removed now is found at the next start.
        strays.iter().for_each(|stray| drop(self.disk.remove(stray)));
        loop {
            let mut state = self.lock();
            match state.segments.get(1) {
                Some(second) if second.first <= sequence => {}
                _ => return Ok(()),
            }
            let Some(oldest) = state.segments.front().map(|segment| segment.number) else { return Ok(()) };
            match self.disk.remove(&file_name(oldest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            state.segments.pop_front();
        }
    }

    fn lock_syncing(&self) -> MutexGuard<'_, ()> {
        self.syncing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn head(&self, entry: &Entry<'_>, arrival: i64, durable: Durable) -> Head {
        let behind = match durable {
            Durable::Synced => self.next - self.durable,
            Durable::Written => 0,
        };
        Head {
            sequence: self.next,
            arrival,
            behind: u32::try_from(behind).unwrap_or(u32::MAX),
            stream: entry.stream,
            kind: entry.kind,
        }
    }

    fn write(&mut self, sequence: u64, bytes: &[u8]) -> Result<(), LogError> {
        let segment = self.segments.back_mut().ok_or(LogError::Broken)?;
        if let Err(error) = segment.file.append(bytes) {
            self.broken = true;
            self.refused = bytes.len();
            return Err(error.into());
        }
        segment.wrote(sequence, bytes.len() as u64);
        Ok(())
    }

    /// A segment to be written. Until all of it is durable nothing else can be; a number is never used twice.
    fn prepare(&mut self, first: u64, checkpoint: &[u8], kept: &[Record]) -> NewSegment {
        self.broken = true;
        let (number, next, arrival) = (self.number, self.next, self.arrival);
        self.number += 1;
        NewSegment::of(number, &SegmentStart { first, next, arrival, checkpoint }, kept, self.refused)
    }

    fn go_on_in(&mut self, segment: Segment, disk: &dyn Disk) {
        // Those of which nothing is left that counts: starts that end at once would make more and more of them.
        while let Some(superseded) = self.segments.pop_back_if(|last| last.first >= segment.first) {
            let _ = disk.remove(&file_name(superseded.number));
        }
        self.segments.push_back(segment);
        self.broken = false;
    }

    fn remember(&mut self, record: Record, tail_bytes: usize) {
        self.tail_bytes += record.payload.len();
        self.tail.push_back(record);
        self.forget(tail_bytes);
    }

    /// Lets go the oldest of the tail that are durable, down to the limit.
    fn forget(&mut self, tail_bytes: usize) {
        while self.tail_bytes > tail_bytes
            && let Some(oldest) = self.tail.front()
            && oldest.head.sequence < self.durable
        {
            self.tail_bytes -= oldest.payload.len();
            if let Some(oldest) = self.tail.pop_front() {
                self.spares.keep(oldest.payload);
            }
        }
    }
}

#[cfg(test)]
mod tests;
