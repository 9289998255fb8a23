//! One file of the log: what is known of it, and how it is made.

use std::io;
use std::sync::Arc;

use super::Record;
use super::frame::{self, SegmentStart};
use crate::edge::disk::{Disk, File};

#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// First sequence that may be in it. What older segments have from here on is superseded.
    pub(super) first: u64,
    /// Every sequence below was used before it, also where no record is left of it.
    pub(super) next: u64,
    /// Arrival of the newest record before it.
    pub(super) arrival: i64,
    pub(super) file: Arc<dyn File>,
    /// Where its first record is.
    pub(super) start: u64,
    /// Bytes that are known to be written.
    pub(super) size: u64,
    /// Some of its sequences and where they stand, ascending.
    pub(super) marks: Vec<(u64, u64)>,
}

/// Bytes between two marks of a segment.
const MARK_BYTES: u64 = 256 << 10;

impl Segment {
    pub(super) fn wrote(&mut self, sequence: u64, bytes: u64) {
        if self.marks.last().is_none_or(|(_, offset)| self.size - offset >= MARK_BYTES) {
            self.marks.push((sequence, self.size));
        }
        self.size += bytes;
    }

    /// Makes sure that so many bytes would fit. Else a log on a full disk would heal and break again and again, each
    /// time with one more file.
    pub(super) fn make_room(&self, bytes: usize) -> io::Result<()> {
        if bytes > 0 {
            self.file.append(&vec![0; bytes])?;
            self.file.truncate(self.size)?;
        }
        Ok(())
    }

    /// Cuts what a crash left torn behind its records, and makes the rest durable.
    pub(super) fn finish(&self) -> io::Result<()> {
        if self.file.size()? > self.size {
            self.file.truncate(self.size)?;
        }
        self.file.sync()
    }

    /// Where to begin to look for `sequence`, and which one stands there.
    pub(super) fn before(&self, sequence: u64) -> (u64, u64) {
        let after = self.marks.partition_point(|(marked, _)| *marked <= sequence);
        after.checked_sub(1).map_or((self.first, self.start), |at| self.marks[at])
    }
}

/// A segment that is to be written.
pub(super) struct NewSegment {
    /// Without its file, all that it will be.
    number: u64,
    first: u64,
    next: u64,
    arrival: i64,
    bytes: Vec<u8>,
    start: u64,
    /// Sequences of its records and bytes of each.
    records: Vec<(u64, u64)>,
    /// Bytes that it must have room for.
    refused: usize,
}

impl NewSegment {
    pub(super) fn of(number: u64, start: &SegmentStart<'_>, kept: &[Record], refused: usize) -> Self {
        let mut bytes = frame::encode_segment(start);
        let SegmentStart { first, next, arrival, .. } = *start;
        let start = bytes.len() as u64;
        let mut records = Vec::with_capacity(kept.len());
        for record in kept {
            let before = bytes.len();
            frame::encode(&record.head, &[&record.payload], &mut bytes);
            records.push((record.head.sequence, (bytes.len() - before) as u64));
        }
        Self { number, first, next, arrival, bytes, start, records, refused }
    }

    /// Makes it durable. It takes effect whole: half of it would supersede what is durable elsewhere.
    pub(super) fn write(self, disk: &dyn Disk) -> io::Result<Segment> {
        let Self { number, first, next, arrival, start, .. } = self;
        let (name, temporary) = (file_name(number), temporary_name(number));
        let file = disk.create(&temporary)?;
        let mut segment =
            Segment { number, first, next, arrival, file, start, size: start, marks: Vec::new() };
        self.records.iter().for_each(|(sequence, bytes)| segment.wrote(*sequence, *bytes));
        let written = segment.file.append(&self.bytes).and_then(|()| segment.make_room(self.refused));
        let written = written.and_then(|()| segment.file.sync());
        let named = written.and_then(|()| disk.rename(&temporary, &name)).and_then(|()| disk.sync());
        if let Err(error) = named {
            // What is left of it has nothing that another segment lacks.
            let _ = disk.remove(&temporary).or_else(|_| disk.remove(&name));
            return Err(error);
        }
        Ok(segment)
    }
}

pub(super) fn file_name(number: u64) -> String {
    format!("{number:020}.log")
}

/// Of a segment that is being made.
pub(super) fn temporary_name(number: u64) -> String {
    format!("{}.new", file_name(number))
}
