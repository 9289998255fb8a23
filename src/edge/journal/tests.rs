//! The journal against a naive one, full, broken and closed.

use std::sync::mpsc;

use proptest::prelude::*;

use super::*;
use crate::edge::send::Outgoing;
use crate::wire::decode::Protocol;

const READERS: usize = 3;

fn received(bytes: usize) -> Received {
    Received { protocol: Protocol::V1, body: vec![7; bytes].into(), latest: 0, forward: false }
}

/// Appends a request of so many bytes, decoded.
fn append(journal: &Journal, arrival: i64, bytes: usize) -> Result<u64, Full> {
    let batch = Batch::over(Vec::with_capacity(bytes));
    journal.append_request(arrival, Instant::now(), &received(10), batch)
}

fn journal(max_bytes: u64, readers: usize) -> Arc<Journal> {
    Journal::in_memory(max_bytes, readers, Arc::new(Metrics::new()))
}

/// One that has room for everything but for so many bytes that wait for engines.
fn narrow(waiting_max: usize, readers: usize) -> Arc<Journal> {
    let journal = Arc::into_inner(journal(1 << 30, readers)).expect("nobody else has it");
    Arc::new(Journal { waiting_max, ..journal })
}

#[test]
fn arrival_never_goes_back() {
    let journal = journal(1 << 20, 1);
    for arrival in [-5, 10, 7, 12] {
        journal.append_tick(arrival).expect("a tick always fits");
    }
    let arrivals: Vec<_> = (0..4).filter_map(|_| journal.read(0)).map(|record| record.arrival).collect();
    assert_eq!(arrivals, [-5, 10, 10, 12]);
}

#[test]
fn while_engines_lag_requests_are_refused_and_ticks_are_taken() {
    let journal = narrow(2000, 1);
    append(&journal, 0, 1200).expect("there is room");
    let waiting = journal.waiting_bytes();
    assert_eq!(append(&journal, 0, 1200), Err(Full::NoRoom { waiting, max: 2000 }));
    assert!(journal.append_tick(0).is_ok());
    let first = journal.read(0).expect("the journal is open").sequence;
    journal.done(0, first);
    assert!(append(&journal, 0, 1200).is_ok(), "room comes back with `done`");
}

#[test]
fn a_request_larger_than_all_the_room_waits_for_an_empty_one() {
    let journal = narrow(2000, 1);
    let sequence = append(&journal, 0, 5000).expect("nothing else waits");
    assert!(!journal.has_room());
    assert!(append(&journal, 0, 1).is_err());
    journal.read(0);
    journal.done(0, sequence);
    assert!(journal.has_room());
    assert_eq!(journal.waiting_bytes(), 0);
}

#[test]
fn what_nobody_lets_go_fills_the_journal_until_it_is_let_go() {
    let journal = journal(1 << 20, 0);
    journal.move_cursor("one", 0, 0);
    let request = |bytes| Outgoing { body: vec![0; bytes].into(), samples: 1, oldest: 0, newest: 0 };
    for cause in 0..5 {
        assert!(journal.offer(0, cause, 0, &request(256 << 10)));
    }
    assert!(matches!(append(&journal, 0, 1), Err(Full::TooLarge { max: 1_048_576, .. })));
    let end = journal.pressed(i64::MIN).expect("it is full");
    journal.trim(u64::MAX);
    assert!(!journal.has_room(), "the target has got nothing");
    journal.move_cursor("one", 0, journal.end());
    journal.trim(u64::MAX);
    assert!(journal.has_room() && journal.first() >= end);
}

#[test]
fn a_derived_request_is_taken_once() {
    let journal = journal(1 << 20, 0);
    let request = Outgoing { body: Bytes::from_static(b"x"), samples: 1, oldest: 0, newest: 0 };
    let offered = [(5, 0), (5, 0), (5, 1), (4, 7), (6, 0)];
    let taken = offered.map(|(cause, part)| journal.offer(1, cause, part, &request));
    assert_eq!(taken, [true, false, true, false, true]);
    assert!(journal.offer(0, 5, 0, &request), "streams do not know of each other");
}

#[test]
fn a_closed_journal_is_read_to_its_end() {
    let journal = journal(1 << 20, 1);
    journal.append_tick(0).expect("a tick always fits");
    journal.close();
    assert_eq!(journal.append_tick(0), Err(Full::Closed));
    assert!(journal.read(0).is_some());
    assert!(journal.read(0).is_none());
}

#[test]
fn a_waiting_reader_is_woken_by_a_record_and_by_the_end() {
    let journal = journal(1 << 20, 1);
    let (sender, seen) = mpsc::channel();
    let reader = std::thread::spawn({
        let journal = Arc::clone(&journal);
        move || {
            while let Some(record) = journal.read(0) {
                sender.send(record.sequence).expect("the test listens");
            }
        }
    });
    for _ in 0..3 {
        let sequence = journal.append_tick(0).expect("a tick always fits");
        assert_eq!(seen.recv(), Ok(sequence));
    }
    journal.close();
    reader.join().expect("the reader ends");
}

#[test]
fn nothing_is_seen_or_settled_before_it_is_synced() {
    let opened = Log::open(Arc::new(MemoryDisk::default()), options(1 << 20, SyncMode::Batch));
    let settings = Settings { max_bytes: 1 << 20, sync: SyncMode::Batch, readers: 1, lasting: true };
    let journal = Journal::over(opened.expect("it opens"), &settings, Arc::new(Metrics::new()));
    let journal = journal.expect("memory does not fail");
    let sequence = append(&journal, 0, 10).expect("there is room");
    assert!(journal.lock().waiting.next(0, 0).is_none());
    assert_eq!(*journal.durable().borrow(), sequence);
    journal.sync().expect("memory does not fail");
    assert_eq!(journal.wait_settled(sequence), Ok(()));
    assert_eq!(journal.read(0).map(|record| record.sequence), Some(sequence));
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
    /// Sequence, arrival, bytes.
    records: Vec<(u64, i64, usize)>,
    read: [usize; READERS],
    done: [usize; READERS],
}

impl Naive {
    fn bytes(&self) -> usize {
        let passed = self.done.into_iter().min().unwrap_or(0);
        self.records[passed..].iter().map(|record| record.2).sum()
    }

    fn is_empty(&self) -> bool {
        self.done.into_iter().min() == Some(self.records.len())
    }
}

const MAX_BYTES: usize = 1500;

fn step(journal: &Journal, naive: &mut Naive, action: Action) {
    match action {
        Action::Append { arrival, bytes } => {
            let entry = bytes.map_or(Entry::Tick, |bytes| Entry::Request {
                batch: Batch::over(Vec::with_capacity(bytes)),
            });
            let (before, size) = (naive.bytes(), waiting::cost(&entry));
            let fits = before < MAX_BYTES && (naive.is_empty() || before + size <= MAX_BYTES);
            let taken = match bytes {
                Some(bytes) => append(journal, arrival, bytes),
                None => journal.append_tick(arrival),
            };
            assert_eq!(taken.is_ok(), bytes.is_none() || fits);
            if let Ok(sequence) = taken {
                let arrival = naive.records.last().map_or(arrival, |last| last.1.max(arrival));
                naive.records.push((sequence, arrival, size));
            }
        }
        Action::Read { reader } => {
            let Some(&(sequence, arrival, _)) = naive.records.get(naive.read[reader]) else { return };
            let record = journal.read(reader).expect("the journal is open");
            assert_eq!((record.sequence, record.arrival), (sequence, arrival));
            naive.read[reader] += 1;
        }
        Action::Done { reader, back } => {
            let Some(at) = (naive.read[reader] as u64).checked_sub(back + 1) else { return };
            journal.done(reader, naive.records[at as usize].0);
            naive.done[reader] = naive.done[reader].max(at as usize + 1);
        }
    }
    assert_eq!(journal.waiting_bytes(), naive.bytes());
    assert_eq!(journal.has_room(), naive.bytes() < MAX_BYTES);
}

proptest! {
    /// Every reader sees every accepted record once and in order, and bytes are held exactly as long as some
    /// reader is not done.
    #[test]
    fn does_what_a_naive_journal_does(actions in proptest::collection::vec(action(), 0..200)) {
        let journal = narrow(MAX_BYTES, READERS);
        let mut naive = Naive::default();
        for action in actions {
            step(&journal, &mut naive, action);
            journal.trim(u64::MAX);
        }
    }
}
