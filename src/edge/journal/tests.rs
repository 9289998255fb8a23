//! The journal against a naive one, full, broken and closed.

use std::sync::mpsc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::edge::send::Outgoing;
use crate::wire::decode::Protocol;

mod failing;

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
    Journal::in_memory_waiting(waiting_max, (1 << 30, readers), Arc::new(Metrics::new()))
}

fn rules(samples_per_request: u32) -> Arc<Rules> {
    let plan = crate::config::parse("").expect("the defaults are valid").plan;
    Arc::new(Rules { plan: crate::engine::monitor::Plan::clone(&plan), shards: 1, samples_per_request })
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
fn an_engine_is_told_whether_more_waits_for_it_at_once() {
    let journal = journal(1 << 20, 2);
    let sequences = [10, 20].map(|arrival| journal.append_tick(arrival).expect("a tick always fits"));
    for reader in [0, 1] {
        journal.read(reader);
        assert!(journal.done(reader, sequences[0]));
        journal.read(reader);
        assert!(!journal.done(reader, sequences[1]));
    }
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
    let end = journal.pressed().expect("it is full");
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

/// What `room` says now, if anything.
async fn told_now(room: impl Future<Output = Result<(), Full>>) -> Option<Result<(), Full>> {
    tokio::select! {
        biased;
        told = room => Some(told),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn senders_are_kept_waiting_until_engines_have_little_to_do() {
    let journal = narrow(16_000, 1);
    let sequences = [3000, 3000].map(|bytes| append(&journal, 0, bytes).expect("there is room"));
    let mut rooms = [Box::pin(journal.make_room()), Box::pin(journal.make_room())];
    for sequence in sequences {
        for room in &mut rooms {
            assert_eq!(told_now(room).await, None);
        }
        journal.read(0);
        journal.done(0, sequence);
    }
    for room in rooms {
        assert_eq!(told_now(room).await, Some(Ok(())));
    }
}

#[tokio::test]
async fn senders_are_not_kept_waiting_for_what_would_not_change_and_not_for_ever() {
    let journal = narrow(16_000, 1);
    append(&journal, 0, 3000).expect("there is room");
    let begin = Instant::now();
    assert_eq!(journal.make_room().await, Ok(()), "there is room, though engines lag");
    assert!(begin.elapsed() >= Duration::from_millis(900));
    append(&journal, 0, 20_000).expect_err("it is too large for what is left");
    append(&journal, 0, 12_000).expect("there is room");
    let mut room = Box::pin(journal.make_room());
    assert_eq!(told_now(&mut room).await, None);
    journal.close();
    assert_eq!(told_now(room).await, Some(Err(Full::Closed)));
    assert_eq!(told_now(journal.make_room()).await, Some(Err(Full::Closed)));
}

#[test]
fn what_is_too_old_is_told_by_whole_segments_up_to_the_one_that_is_written_to() {
    let journal = journal(8 << 20, 0);
    let segment = || Outgoing { body: vec![0; 256 << 10].into(), samples: 1, oldest: 0, newest: 0 };
    let ends = [1000, 2000, 3000].map(|arrival| {
        journal.append_tick(arrival).expect("a tick always fits");
        assert!(journal.offer(0, journal.end(), 0, &segment()));
        journal.end()
    });
    let told = [1000, 1001, 2001, i64::MAX].map(|arrival| journal.outdated(arrival));
    assert_eq!(told, [None, Some(ends[0]), Some(ends[1]), Some(ends[1])]);
    assert_eq!(journal.pressed(), None, "there is room");
}

/// What was appended between the look at what is needed and the removal could be removed, too.
#[test]
fn what_comes_after_the_look_at_what_is_needed_is_not_let_go() {
    let journal = journal(8 << 20, 0);
    append(&journal, 0, 10).expect("there is room");
    let needless = journal.needless(u64::MAX);
    let derived = Outgoing { body: vec![0; 256 << 10].into(), samples: 1, oldest: 0, newest: 0 };
    let causes = [needless, needless + 1, needless + 2];
    assert!(causes.into_iter().all(|cause| journal.offer(0, cause, 0, &derived)));
    journal.log.trim(needless).expect("memory does not fail");
    let found = journal.read_log(&mut log::Reader::default(), u64::MAX, |head| head.kind == record::DERIVED);
    let found = found.expect("memory does not fail").and_then(|it| record::derived(&it));
    assert_eq!(found.map(|(origin, _)| origin), Some((needless, 0)));
}

#[test]
fn arrivals_go_on_after_a_clock_that_was_ahead() {
    let journal = journal(1 << 20, 0);
    let received = Instant::now();
    let batch = Batch::over(Vec::new());
    journal.append_request(9000, received, &super::tests::received(10), batch).expect("there is room");
    let later = received + std::time::Duration::from_millis(700);
    assert_eq!((journal.time(1700, later), journal.time(9800, later)), (9700, 9800));
    journal.append_rules(1800, rules(7)).expect("there is room");
    assert_eq!(journal.time(1700, later), 9700, "what was stamped by the wall clock changes nothing");
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
