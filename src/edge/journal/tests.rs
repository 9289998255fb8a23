//! The journal against a naive one, full, broken and closed.

use std::io;
use std::sync::mpsc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::edge::disk::failing::{FailingDisk, Fault};
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
    Journal::in_memory_waiting(waiting_max, (1 << 30, readers), Arc::new(Metrics::new()))
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

#[test]
fn nothing_is_seen_or_settled_before_it_is_synced() {
    let opened = Log::open(Arc::new(MemoryDisk::default()), options(1 << 20, SyncMode::Batch));
    let settings = Settings {
        max_bytes: 1 << 20,
        waiting_max: 1 << 20,
        sync: SyncMode::Batch,
        readers: 1,
        lasting: true,
    };
    let journal = Journal::over(opened.expect("it opens"), &settings, Arc::new(Metrics::new()));
    let journal = journal.expect("memory does not fail");
    let sequence = append(&journal, 0, 10).expect("there is room");
    assert!(journal.lock().waiting.next(0, 0).is_none());
    assert_eq!(*journal.durable().borrow(), sequence);
    journal.sync().expect("memory does not fail");
    assert_eq!(journal.wait_settled(sequence), Ok(()));
    assert_eq!(journal.read(0).map(|record| record.sequence), Some(sequence));
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

const FULL: Fault = Fault::Write(io::ErrorKind::StorageFull);

/// A journal on `disk` that acknowledges what is durable, for one engine.
fn on(disk: &FailingDisk) -> Journal {
    let opened = Log::open(Arc::new(disk.clone()), options(8 << 20, SyncMode::Batch));
    let settings = Settings {
        max_bytes: 8 << 20,
        waiting_max: 8 << 20,
        sync: SyncMode::Batch,
        readers: 1,
        lasting: true,
    };
    Journal::over(opened.expect("it opens"), &settings, Arc::new(Metrics::new())).expect("the disk is well")
}

/// What engines see, without waiting for more.
fn seen(journal: &Journal) -> Vec<u64> {
    journal.close();
    std::iter::from_fn(|| journal.read(0)).map(|record| record.sequence).collect()
}

/// The requests that the log holds.
fn held(journal: &Journal) -> Vec<u64> {
    let mut reader = log::Reader::default();
    let mut next = || journal.read_log(&mut reader, u64::MAX, |head| head.kind == record::REQUEST);
    std::iter::from_fn(|| next().expect("it can be read")).map(|record| record.head.sequence).collect()
}

fn rules(samples_per_request: u32) -> Arc<Rules> {
    let plan = crate::config::parse("").expect("the defaults are valid").plan;
    Arc::new(Rules { plan: crate::engine::monitor::Plan::clone(&plan), shards: 1, samples_per_request })
}

#[test]
fn while_the_disk_fails_requests_are_refused_and_what_was_not_durable_is_never_seen() {
    for fault in [FULL, Fault::Sync(io::ErrorKind::Other), Fault::Write(io::ErrorKind::ReadOnlyFilesystem)] {
        let disk = FailingDisk::default();
        let journal = on(&disk);
        let first = append(&journal, 0, 10).expect("there is room");
        journal.sync().expect("the disk is well");
        let lost = append(&journal, 0, 10).expect("there is room");
        disk.set(Some(fault));
        assert!(journal.sync().is_err());
        assert_eq!(journal.wait_settled(lost), Err(Unsettled));
        assert!(matches!(append(&journal, 0, 10), Err(Full::Unwritable(_))), "{fault:?}");
        assert!(journal.sync().is_err(), "it is still ill");
        assert_eq!(journal.metrics.journal_writable.get(), 0);
        disk.set(None);
        journal.sync().expect("it is well again");
        assert_eq!(journal.metrics.journal_writable.get(), 1);
        let last = append(&journal, 0, 10).expect("there is room");
        journal.sync().expect("the disk is well");
        assert_eq!(journal.wait_settled(last), Ok(()));
        assert_eq!(journal.wait_settled(lost), Err(Unsettled), "it stays lost");
        assert_eq!((seen(&journal), held(&journal)), (vec![first, last], vec![first, last]), "{fault:?}");
        let left = Log::open(Arc::new(disk.after_power_loss()), options(8 << 20, SyncMode::Batch));
        let left: Vec<_> = left.expect("it opens").since.iter().map(|it| it.head.sequence).collect();
        assert_eq!(left, [last], "after {fault:?} and a loss of power");
    }
}

/// Once a new segment had made a request durable, an error before the next sync took it from the engines, though
/// its sender was told that it was taken.
#[test]
fn what_a_new_segment_made_durable_is_seen_and_settled_whatever_fails_then() {
    let disk = FailingDisk::default();
    let journal = on(&disk);
    let rules = journal.append_rules(0, rules(7)).expect("the disk is well");
    let request = append(&journal, 0, 10).expect("there is room");
    let state = journal.lock();
    journal.log.roll(&state.ledger.encode()).expect("the disk is well");
    drop(state);
    disk.set(Some(FULL));
    assert!(append(&journal, 0, 10).is_err());
    assert_eq!(journal.wait_settled(request), Ok(()));
    disk.set(None);
    journal.sync().expect("it is well again");
    assert_eq!(journal.rules().map(|rules| rules.samples_per_request), Some(7));
    assert_eq!(seen(&journal), [rules, request]);
}

#[test]
fn rules_that_were_lost_are_not_in_force() {
    let disk = FailingDisk::default();
    let journal = on(&disk);
    journal.append_rules(0, rules(7)).expect("the disk is well");
    journal.sync().expect("the disk is well");
    let lost = journal.append_rules(0, rules(8)).expect("the disk is well");
    disk.set(Some(Fault::Sync(io::ErrorKind::Other)));
    assert!(journal.sync().is_err());
    assert_eq!(journal.wait_settled(lost), Err(Unsettled));
    disk.set(None);
    journal.sync().expect("it is well again");
    assert_eq!(journal.rules().map(|rules| rules.samples_per_request), Some(7));
    drop(journal);
    assert_eq!(on(&disk).rules().map(|rules| rules.samples_per_request), Some(7));
}

/// Of two threads that found the disk ill, the second forgot what was taken after the first had healed it, and
/// whoever waited for that was told that it is durable.
#[test]
fn a_journal_that_is_well_is_not_healed() {
    let journal = on(&FailingDisk::default());
    let request = append(&journal, 0, 10).expect("there is room");
    journal.heal().expect("the disk is well");
    journal.sync().expect("the disk is well");
    assert_eq!((seen(&journal), held(&journal)), (vec![request], vec![request]));
}

/// While the disk was tried again, whoever asked had to wait for it: every thread of the runtime, in the end.
#[test]
fn while_the_disk_is_tried_again_the_answer_is_known_without_waiting() {
    let disk = FailingDisk::default();
    let journal = on(&disk);
    disk.set(Some(FULL));
    assert!(append(&journal, 0, 10).is_err());
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let mut stalled = disk.fault.lock().expect("nobody panics");
        let trying = scope.spawn(|| journal.sync());
        while journal.healing.try_lock().is_ok() {
            std::thread::yield_now();
        }
        scope.spawn(|| {
            journal.move_cursor("one", 0, 1);
            tell.send((journal.refusal(), journal.bytes_since(0)))
        });
        let asked = told.recv_timeout(std::time::Duration::from_secs(5));
        *stalled = None;
        drop(stalled);
        assert!(matches!(asked, Ok((Some(Full::Unwritable(_)), _))), "{asked:?}");
        assert!(trying.join().expect("no panic").is_ok());
    });
    assert_eq!(journal.refusal(), None);
}

fn derived() -> Outgoing {
    Outgoing { body: Bytes::from_static(b"x"), samples: 1, oldest: 0, newest: 0 }
}

#[test]
fn what_was_derived_before_an_error_outlives_it() {
    let disk = FailingDisk::default();
    let journal = on(&disk);
    journal.move_cursor("one", 0, 0);
    assert!(journal.offer(0, 1, 0, &derived()));
    journal.move_cursor("two", 0, 5);
    disk.set(Some(Fault::Sync(io::ErrorKind::Other)));
    append(&journal, 0, 10).expect("there is room");
    assert!(journal.sync().is_err());
    journal.move_cursor("two", 0, 9);
    disk.set(None);
    journal.sync().expect("it is well again");
    let opened = Log::open(Arc::new(disk.after_power_loss()), options(8 << 20, SyncMode::Batch));
    let opened = opened.expect("it opens");
    let ledger = remembered(&opened).expect("this program wrote it");
    assert!(ledger.has_derived(0, (1, 0)));
    assert_eq!(ledger.cursors["two"][&0], 9);
    let mut reader = log::Reader::default();
    let found = opened.log.read(&mut reader, u64::MAX, |head| head.kind == record::DERIVED);
    assert_eq!(found.expect("it can be read").and_then(|it| record::outgoing(&it)), Some(derived()));
}

/// A stop gave up what a broken disk did not take, and then, the disk being well again, wrote what came after: a
/// start took the first for sent.
#[test]
fn after_something_derived_is_missing_nothing_derived_is_written() {
    let disk = FailingDisk::default();
    let journal = on(&disk);
    assert!(journal.offer(0, 1, 0, &derived()));
    disk.set(Some(FULL));
    assert!(append(&journal, 0, 10).is_err());
    journal.abandon();
    assert!(!journal.offer(0, 2, 0, &derived()));
    disk.set(None);
    journal.sync().expect("it is well again");
    assert!(!journal.offer(0, 3, 0, &derived()), "a start would take 2 for written");
    assert!(journal.is_incomplete());
    assert!(on(&disk).offer(0, 2, 0, &derived()), "the next start writes it");
}

#[test]
fn engines_wait_for_a_disk_that_somebody_heals() {
    let disk = FailingDisk::default();
    let journal = Arc::new(on(&disk));
    let syncing = Syncing::start(&journal).expect("there are threads");
    disk.set(Some(FULL));
    assert!(append(&journal, 0, 10).is_err());
    let engine = std::thread::spawn({
        let journal = Arc::clone(&journal);
        move || journal.offer(0, 1, 0, &derived())
    });
    disk.set(None);
    assert!(engine.join().expect("no panic"), "it is written once the disk is well");
    journal.close();
    syncing.join();
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
