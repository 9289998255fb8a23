//! A log found on a disk: what is whole, what is cut, what is remembered.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::frame::{self, Parsed, SegmentHead, SegmentStart};
use super::search::{self, Search};
use super::segment::Segment;
use super::spares::Spares;
use super::{Log, Options, Record, State};
use crate::edge::disk::{Disk, File, read_whole};

/// Largest segment that is read. One is full long before.
pub(super) const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// A log, and how it was found. It takes records after [`Log::roll`], which writes once more what may not be durable.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: Log,
    /// The newest checkpoint, if there is one.
    pub checkpoint: Option<Bytes>,
    /// The checkpoint of the oldest segment: what was so before the first record that is left.
    pub oldest: Option<Bytes>,
    /// The records after the newest checkpoint, oldest first.
    pub since: Vec<Record>,
    /// Bytes at the end that a crash left torn; they are no part of the log.
    pub cut_bytes: u64,
    /// Places of damage in what was durable; the records there are lost.
    pub damaged: u64,
}

/// What a scan of one segment found.
#[derive(Default, Debug)]
struct Scanned {
    records: Vec<(Record, u64)>,
    /// Where the last good record ends.
    end: u64,
    damaged: u64,
}

impl Log {
    /// Opens the log on `disk`; an empty one where there is none. Changes nothing there.
    ///
    /// # Errors
    /// As the system tells; [`io::ErrorKind::Unsupported`] where a newer program wrote it.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> io::Result<Opened> {
        let names = disk.list()?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        let made = names.iter().filter_map(|name| number_of(name.strip_suffix(".new")?));
        let made: Vec<u64> = made.collect();
        let number = numbers.last().max(made.iter().max()).map_or(0, |last| last + 1);
        let found: io::Result<Vec<_>> =
            numbers.into_iter().map(|number| open_segment(&*disk, number)).collect();
        let mut older = found?;
        let newest = older.iter().rposition(|(_, checkpoint)| checkpoint.is_some());
        let rest = older.split_off(newest.unwrap_or(0));
        let mut opened = Opened {
            oldest: older.iter().chain(&rest).find_map(|(_, checkpoint)| checkpoint.clone()),
            checkpoint: rest.first().and_then(|(_, checkpoint)| checkpoint.clone()),
            since: Vec::new(),
            cut_bytes: 0,
            damaged: 0,
            log: Log {
                disk,
                options,
                syncing: Mutex::default(),
                state: Mutex::new(State {
                    segments: VecDeque::new(),
                    number,
                    next: 0,
                    durable: 0,
                    arrival: i64::MIN,
                    tail: VecDeque::new(),
                    tail_bytes: 0,
                    spares: Spares::default(),
                    broken: false,
                    refused: 0,
                    is_found: true,
                    strays: made.into_iter().map(super::segment::temporary_name).collect(),
                }),
            },
        };
        let mut limit = rest.first().map_or(u64::MAX, |(segment, _)| segment.first);
        older.into_iter().rev().try_for_each(|(segment, _)| opened.take_older(segment, &mut limit))?;
        rest.into_iter().try_for_each(|(segment, _)| opened.take(segment))?;
        Ok(opened)
    }
}

impl Opened {
    /// Adds a segment before those that were added; sequences from `limit` on are superseded by them. Only a damaged
    /// one is read: it is one whose head was durable once, or what an attempt to go on in vain left behind.
    fn take_older(&mut self, mut segment: Segment, limit: &mut u64) -> io::Result<()> {
        let state = self.log.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if segment.first == u64::MAX {
            let bytes = read_whole(&*segment.file, SEGMENT_BYTES_MAX)?;
            let start = Search::of(&bytes).next(0, &search::ANY);
            match start.map(|start| (start, frame::parse(&bytes[start..]))) {
                Some((start, Parsed::Good(head, _, _))) if head.sequence < *limit => {
                    (segment.first, segment.start) = (head.sequence, start as u64);
                    segment.arrival = head.arrival;
                    self.damaged += 1;
                }
                _ => {
                    state.strays.push(super::segment::file_name(segment.number));
                    return Ok(());
                }
            }
        }
        *limit = segment.first;
        state.segments.push_front(segment);
        Ok(())
    }

    /// Reads a segment whole and adds what is good of it.
    fn take(&mut self, mut segment: Segment) -> io::Result<()> {
        let bytes = read_whole(&*segment.file, SEGMENT_BYTES_MAX)?;
        let start = usize::try_from(segment.start).unwrap_or(usize::MAX).min(bytes.len());
        let scanned = scan(&bytes, start, (segment.first, segment.next));
        let state = self.log.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if scanned.records.is_empty() && segment.first == u64::MAX {
            // Neither head nor record: it was being made when the crash came.
            self.cut_bytes += bytes.len() as u64;
            state.strays.push(super::segment::file_name(segment.number));
            return Ok(());
        }
        if segment.first == u64::MAX {
            self.damaged += 1;
            segment.first = scanned.records.first().map_or(state.next, |(record, _)| record.head.sequence);
            segment.arrival = state.arrival;
        }
        self.damaged += scanned.damaged;
        self.cut_bytes += bytes.len() as u64 - scanned.end;
        // What was superseded when the log went on in this segment.
        self.since.retain(|record| record.head.sequence < segment.first);
        state.next = segment.first;
        state.arrival = state.arrival.max(segment.arrival);
        segment.size = segment.start.max(scanned.records.first().map_or(segment.start, |(_, at)| *at));
        let durable = scanned.records.iter().map(|(record, _)| record.head.durable());
        state.durable = durable.fold(segment.first, u64::max);
        (state.tail, state.tail_bytes) = (VecDeque::new(), 0);
        for (record, at) in scanned.records {
            if record.head.sequence < state.next {
                continue;
            }
            segment.size = at;
            segment.wrote(record.head.sequence, (frame::RECORD_BYTES + record.payload.len()) as u64);
            state.next = record.head.sequence + 1;
            state.arrival = state.arrival.max(record.head.arrival);
            if record.head.sequence >= state.durable {
                state.tail_bytes += record.payload.len();
                state.tail.push_back(record.clone());
            }
            self.since.push(record);
        }
        state.next = state.next.max(segment.next);
        state.segments.push_back(segment);
        Ok(())
    }
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 20)?;
    digits.parse().ok()
}

/// A segment and its checkpoint. Without a good head its first sequence is `u64::MAX`, for now.
fn open_segment(disk: &dyn Disk, number: u64) -> io::Result<(Segment, Option<Bytes>)> {
    let file = disk.open(&super::segment::file_name(number))?;
    let size = file.size()?;
    let mut bytes = read_start(&*file, frame::HEAD_BYTES)?;
    if let SegmentHead::Longer(total) = frame::parse_segment(&bytes)
        && total as u64 <= size
    {
        bytes = read_start(&*file, total)?;
    }
    let (first, next, arrival, checkpoint) = match frame::parse_segment(&bytes) {
        SegmentHead::Good(SegmentStart { first, next, arrival, checkpoint }) => {
            (first, next, arrival, Some(Bytes::copy_from_slice(checkpoint)))
        }
        SegmentHead::UnknownVersion(version) => {
            let name = super::segment::file_name(number);
            let message = format!("{name} has version {version}, this program reads version 1");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        SegmentHead::Longer(_) | SegmentHead::Bad => (u64::MAX, 0, i64::MIN, None),
    };
    let start = if checkpoint.is_some() { bytes.len() as u64 } else { 0 };
    Ok((Segment { number, first, next, arrival, file, start, size, marks: Vec::new() }, checkpoint))
}

fn read_start(file: &dyn File, bytes: usize) -> io::Result<Vec<u8>> {
    let mut start = vec![0; bytes];
    let mut read = 0;
    while read < bytes {
        match file.read_at(read as u64, &mut start[read..])? {
            0 => break,
            more => read += more,
        }
    }
    start.truncate(read);
    Ok(start)
}

/// All good records of a segment from `start` on, up to where a crash may have torn it. Its head tells its first
/// sequence, and that below which all were used before it; where it has none, the first is `u64::MAX`.
fn scan(bytes: &[u8], start: usize, (first, next): (u64, u64)) -> Scanned {
    let (mut search, known) = (Search::of(bytes), first < u64::MAX);
    let mut scanned = Scanned { end: start as u64, ..Scanned::default() };
    let mut at = start;
    // Records behind damage count only once one of them tells that what was damaged had been durable. For each
    // damage: the first record behind it, and where the damage begins.
    let mut doubtful: VecDeque<(usize, u64)> = VecDeque::new();
    while at < bytes.len() {
        if let Parsed::Good(head, payload, total) = frame::parse(&bytes[at..]) {
            let payload = Bytes::copy_from_slice(payload);
            scanned.records.push((Record { head, payload }, at as u64));
            let durable = head.durable();
            while let Some((behind, _)) = doubtful.front()
                && scanned.records[*behind].0.head.sequence <= durable
            {
                doubtful.pop_front();
                scanned.damaged += 1;
            }
            at += total;
            scanned.end = at as u64;
        } else {
            let last = scanned.records.last().map(|(record, _)| record.head.sequence + 1);
            let within = match last.or(known.then_some(first)) {
                Some(low) => search::likely(low, next),
                None => search::ANY,
            };
            let Some(good) = search.next(at + 1, &within) else { break };
            doubtful.push_back((scanned.records.len(), at as u64));
            at = good;
        }
    }
    if let Some((behind, end)) = doubtful.pop_front() {
        scanned.records.truncate(behind);
        scanned.end = end;
    }
    scanned
}

/// Scans the bytes of one segment as a start does, and tells how many good records it found, and their bytes.
///
/// Never fails and never panics, whatever the bytes are: for tools and tests.
pub fn check(bytes: &[u8]) -> (usize, usize) {
    let (start, known) = match frame::parse_segment(bytes) {
        SegmentHead::Good(start) => (frame::HEAD_BYTES + start.checkpoint.len(), (start.first, start.next)),
        _ => (0, (u64::MAX, 0)),
    };
    let scanned = scan(bytes, start, known);
    (scanned.records.len(), scanned.records.iter().map(|(record, _)| record.payload.len()).sum())
}
