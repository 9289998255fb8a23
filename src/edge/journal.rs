//! The journal: what was accepted, in order, until every engine has finished with it.
//!
//! Held in memory and bounded in bytes: many writers append, each reader follows with its own cursor, and
//! a record leaves once all readers are done with it. When there is no room a request is refused, so that
//! its sender keeps it and tries again; what the process tells itself always fits.
//!
//! One lock is taken per request, never per sample.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::engine::monitor::Plan;
use crate::series::Batch;

use super::telemetry::Metrics;

/// What a record says.
#[derive(Debug)]
pub enum Entry {
    /// A remote-write request that was checked and will be acknowledged.
    Request {
        /// What it brought.
        batch: Batch,
    },
    /// Time passed without a request.
    Tick,
    /// From here on this plan is in force.
    Plan(Arc<Plan>),
}

/// An entry with its place and time.
#[derive(Debug)]
pub struct Record {
    /// Place in the journal: 0, 1, 2, … without gaps.
    pub sequence: u64,
    /// Milliseconds since the Unix epoch; never less than in the record before.
    pub arrival: i64,
    /// When the last byte came, on the monotonic clock. For latency metrics only.
    pub received: Instant,
    /// What it says.
    pub entry: Entry,
}

/// Why an entry was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Full {
    /// The readers lag behind.
    #[error("journal is full: {waiting} bytes wait for the engines, `journal.max_bytes` is {max}")]
    NoRoom {
        /// Bytes of records that are not done.
        waiting: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The process is stopping.
    #[error("journal is closed: the process is stopping")]
    Closed,
}

/// A bounded queue with many writers and a fixed number of readers.
#[derive(Debug)]
pub struct Journal {
    state: Mutex<State>,
    appended: Condvar,
    max_bytes: usize,
    metrics: Arc<Metrics>,
}

impl Journal {
    /// Makes an empty journal for the readers 0, 1, … `readers` − 1. With no reader nothing is kept.
    pub fn new(max_bytes: usize, readers: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        metrics.journal_limit_bytes.set(i64::try_from(max_bytes).unwrap_or(i64::MAX));
        let state = State { cursors: vec![Cursor::default(); readers], ..State::default() };
        Arc::new(Self { state: Mutex::new(state), appended: Condvar::new(), max_bytes, metrics })
    }

    /// Takes `entry` as the next record and returns its sequence. `arrival` is Unix milliseconds, and is
    /// raised to that of the record before if the clock went back.
    ///
    /// # Errors
    ///
    /// [`Full`] when a request finds no room, and for everything once the journal is closed. A request larger
    /// than the whole journal is taken when nothing else waits, since it would never fit better.
    pub fn append(&self, arrival: i64, entry: Entry) -> Result<u64, Full> {
        self.append_received(arrival, Instant::now(), entry)
    }

    /// The same for an entry whose last byte came at `received`.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub fn append_received(&self, arrival: i64, received: Instant, entry: Entry) -> Result<u64, Full> {
        let mut state = self.lock();
        state.admit(&entry, self.max_bytes)?;
        let sequence = state.push(arrival, received, entry);
        let passed = state.drop_passed();
        self.release(state, passed);
        self.appended.notify_all();
        Ok(sequence)
    }

    /// The next record for `reader`, waiting for it on a plain thread. `None` once the journal is closed and
    /// everything was read.
    pub fn read(&self, reader: usize) -> Option<Arc<Record>> {
        let mut state = self.lock();
        loop {
            match state.next(reader) {
                Some(record) => return Some(record),
                None if state.closed => return None,
                None => state = self.appended.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Says that `reader` has finished with the record `sequence` and all before it. What it has not read yet
    /// stays unfinished.
    pub fn done(&self, reader: usize, sequence: u64) {
        let mut state = self.lock();
        state.finish(reader, sequence);
        let passed = state.drop_passed();
        self.release(state, passed);
    }

    /// Takes nothing more and wakes all readers; what is in the journal can still be read.
    pub fn close(&self) {
        self.lock().closed = true;
        self.appended.notify_all();
    }

    /// Bytes of records that are not done by all readers.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Whether a small request would be taken now.
    pub fn has_room(&self) -> bool {
        self.refusal().is_none()
    }

    /// Why even a small request would not be taken now. Asked before any work is done for one.
    pub fn refusal(&self) -> Option<Full> {
        let state = self.lock();
        match state.bytes {
            _ if state.closed => Some(Full::Closed),
            waiting if waiting >= self.max_bytes => Some(Full::NoRoom { waiting, max: self.max_bytes }),
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frees `passed` after the lock, because freeing a large batch takes time.
    fn release(&self, state: MutexGuard<'_, State>, passed: Vec<Arc<Record>>) {
        self.metrics.journal_bytes.set(i64::try_from(state.bytes).unwrap_or(i64::MAX));
        drop(state);
        drop(passed);
    }
}

#[derive(Default, Debug)]
struct State {
    /// Records that some reader is not done with, oldest first.
    records: VecDeque<Arc<Record>>,
    bytes: usize,
    /// Sequence of the next record to be appended.
    next: u64,
    latest_arrival: Option<i64>,
    cursors: Vec<Cursor>,
    closed: bool,
}

/// Invariant: `done` ≤ `read` ≤ the journal's next sequence.
#[derive(Clone, Copy, Default, Debug)]
struct Cursor {
    /// Sequence of the next record to hand out.
    read: u64,
    /// All records before this sequence are finished.
    done: u64,
}

impl State {
    fn admit(&self, entry: &Entry, max: usize) -> Result<(), Full> {
        if self.closed {
            return Err(Full::Closed);
        }
        let over = self.bytes.saturating_add(cost(entry)) > max;
        match entry {
            Entry::Request { .. } if over && self.bytes > 0 => Err(Full::NoRoom { waiting: self.bytes, max }),
            _ => Ok(()),
        }
    }

    fn push(&mut self, arrival: i64, received: Instant, entry: Entry) -> u64 {
        let sequence = self.next;
        let arrival = self.latest_arrival.map_or(arrival, |latest| latest.max(arrival));
        self.bytes += cost(&entry);
        self.records.push_back(Arc::new(Record { sequence, arrival, received, entry }));
        self.latest_arrival = Some(arrival);
        self.next += 1;
        sequence
    }

    fn next(&mut self, reader: usize) -> Option<Arc<Record>> {
        let first = self.first();
        let cursor = self.cursors.get_mut(reader)?;
        let offset = usize::try_from(cursor.read - first).ok()?;
        let record = self.records.get(offset)?;
        cursor.read += 1;
        Some(Arc::clone(record))
    }

    fn finish(&mut self, reader: usize, sequence: u64) {
        if let Some(cursor) = self.cursors.get_mut(reader) {
            cursor.done = cursor.done.max(sequence.saturating_add(1).min(cursor.read));
        }
    }

    /// Takes out the records that every reader is done with.
    fn drop_passed(&mut self) -> Vec<Arc<Record>> {
        let first_needed = self.cursors.iter().map(|cursor| cursor.done).min().unwrap_or(self.next);
        let count = usize::try_from(first_needed - self.first()).unwrap_or(usize::MAX);
        let passed: Vec<_> = self.records.drain(..count.min(self.records.len())).collect();
        self.bytes -= passed.iter().map(|record| cost(&record.entry)).sum::<usize>();
        passed
    }

    /// Sequence of the oldest record that is kept, or of the next one.
    fn first(&self) -> u64 {
        self.next - self.records.len() as u64
    }
}

/// Bytes that a record of `entry` occupies.
fn cost(entry: &Entry) -> usize {
    let batch = match entry {
        Entry::Request { batch } => batch.memory_bytes(),
        Entry::Tick | Entry::Plan(_) => 0,
    };
    size_of::<Record>().saturating_add(batch)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use proptest::prelude::*;

    use super::*;

    const READERS: usize = 3;

    fn request(bytes: usize) -> Entry {
        Entry::Request { batch: Batch::over(Vec::with_capacity(bytes)) }
    }

    fn journal(max_bytes: usize, readers: usize) -> (Arc<Journal>, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        (Journal::new(max_bytes, readers, Arc::clone(&metrics)), metrics)
    }

    #[test]
    fn arrival_never_goes_back() {
        let (journal, _) = journal(1 << 20, 1);
        for arrival in [-5, 10, 7, 12] {
            journal.append(arrival, Entry::Tick).expect("a tick always fits");
        }
        let arrivals: Vec<_> = (0..4).filter_map(|_| journal.read(0)).map(|record| record.arrival).collect();
        assert_eq!(arrivals, [-5, 10, 10, 12]);
    }

    #[test]
    fn a_full_journal_refuses_requests_and_takes_control_entries() {
        let (journal, metrics) = journal(1000, 1);
        journal.append(0, request(600)).expect("there is room");
        let waiting = journal.bytes();
        assert_eq!(journal.append(0, request(600)), Err(Full::NoRoom { waiting, max: 1000 }));
        assert_eq!(journal.append(0, Entry::Tick), Ok(1));
        assert_eq!(metrics.journal_bytes.get(), journal.bytes() as i64);
        journal.read(0);
        journal.done(0, 0);
        assert!(journal.append(0, request(600)).is_ok(), "room comes back with `done`");
    }

    #[test]
    fn a_request_larger_than_the_journal_waits_for_an_empty_one() {
        let (journal, _) = journal(1000, 1);
        journal.append(0, request(5000)).expect("nothing else waits");
        assert!(!journal.has_room());
        assert!(journal.append(0, request(1)).is_err());
        journal.read(0);
        journal.done(0, 0);
        assert!(journal.has_room());
        assert_eq!(journal.bytes(), 0);
    }

    #[test]
    fn reading_alone_frees_nothing_and_a_reader_cannot_finish_what_it_has_not_read() {
        let (journal, _) = journal(1 << 20, 2);
        journal.append(0, request(10)).expect("there is room");
        let held = journal.bytes();
        journal.read(0);
        journal.done(0, 7);
        journal.done(1, 7);
        assert_eq!(journal.bytes(), held, "reader 1 has read nothing");
        journal.read(1);
        journal.done(1, 0);
        assert_eq!(journal.bytes(), 0);
    }

    #[test]
    fn a_closed_journal_is_read_to_its_end() {
        let (journal, _) = journal(1 << 20, 1);
        journal.append(0, Entry::Tick).expect("a tick always fits");
        journal.close();
        assert_eq!(journal.append(0, Entry::Tick), Err(Full::Closed));
        assert!(journal.read(0).is_some());
        assert!(journal.read(0).is_none());
    }

    #[test]
    fn a_waiting_reader_is_woken_by_a_record_and_by_the_end() {
        let (journal, _) = journal(1 << 20, 1);
        let (sender, seen) = mpsc::channel();
        let reader = std::thread::spawn({
            let journal = Arc::clone(&journal);
            move || {
                while let Some(record) = journal.read(0) {
                    sender.send(record.sequence).expect("the test listens");
                }
            }
        });
        for sequence in 0..3 {
            journal.append(0, Entry::Tick).expect("a tick always fits");
            assert_eq!(seen.recv(), Ok(sequence));
        }
        journal.close();
        reader.join().expect("the reader ends");
    }

    #[derive(Clone, Debug)]
    enum Action {
        Append { arrival: i64, bytes: Option<usize> },
        Read { reader: usize },
        Done { reader: usize, back: u64 },
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0..50_i64, proptest::option::of(0..400_usize))
                .prop_map(|(arrival, bytes)| Action::Append { arrival, bytes }),
            (0..READERS).prop_map(|reader| Action::Read { reader }),
            (0..READERS, 0..3_u64).prop_map(|(reader, back)| Action::Done { reader, back }),
        ]
    }

    /// Keeps every record for ever and looks everything up.
    #[derive(Default)]
    struct Naive {
        records: Vec<(i64, usize)>,
        read: [usize; READERS],
        done: [usize; READERS],
    }

    impl Naive {
        fn bytes(&self) -> usize {
            let passed = self.done.into_iter().min().unwrap_or(0);
            self.records[passed..].iter().map(|record| record.1).sum()
        }
    }

    const MAX_BYTES: usize = 1500;

    fn step(journal: &Journal, naive: &mut Naive, action: Action) {
        match action {
            Action::Append { arrival, bytes } => {
                let entry = bytes.map_or(Entry::Tick, request);
                let (before, size) = (naive.bytes(), cost(&entry));
                let fits = bytes.is_none() || before == 0 || before + size <= MAX_BYTES;
                let taken = journal.append(arrival, entry);
                assert_eq!(taken.ok(), fits.then_some(naive.records.len() as u64));
                if fits {
                    let arrival = naive.records.last().map_or(arrival, |last| last.0.max(arrival));
                    naive.records.push((arrival, size));
                }
            }
            Action::Read { reader } => {
                let Some(&(arrival, _)) = naive.records.get(naive.read[reader]) else { return };
                let record = journal.read(reader).expect("the journal is open");
                assert_eq!((record.sequence, record.arrival), (naive.read[reader] as u64, arrival));
                naive.read[reader] += 1;
            }
            Action::Done { reader, back } => {
                let Some(sequence) = (naive.read[reader] as u64).checked_sub(back + 1) else { return };
                journal.done(reader, sequence);
                naive.done[reader] = naive.done[reader].max(sequence as usize + 1);
            }
        }
        assert_eq!(journal.bytes(), naive.bytes());
        assert_eq!(journal.has_room(), naive.bytes() < MAX_BYTES);
    }

    proptest! {
        /// Every reader sees every accepted record once and in order, and bytes are held exactly as long as some
        /// reader is not done.
        #[test]
        fn does_what_a_naive_journal_does(actions in proptest::collection::vec(action(), 0..200)) {
            let (journal, _) = journal(MAX_BYTES, READERS);
            let mut naive = Naive::default();
            for action in actions {
                step(&journal, &mut naive, action);
            }
        }
    }
}
