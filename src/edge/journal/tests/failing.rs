//! The journal over disks that fail, or are slow to say that they have not.

use std::io;

use super::*;
use crate::edge::disk::failing::{FailingDisk, Fault};

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

/// What engines see and have not read yet.
fn seen_now(journal: &Journal) -> Vec<u64> {
    std::iter::from_fn(|| journal.read_within(0, Duration::ZERO)).map(|record| record.sequence).collect()
}

/// Whether a request may be acknowledged, or is known to be lost.
fn is_settled(journal: &Journal, sequence: u64) -> bool {
    journal.settling.borrow().outcome(sequence).is_some()
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

#[test]
fn a_request_is_seen_at_once_and_settled_and_forwarded_once_it_is_synced() {
    let journal = on(&FailingDisk::default());
    let sequence = append(&journal, 0, 10).expect("there is room");
    assert_eq!(seen_now(&journal), [sequence]);
    assert!(!is_settled(&journal, sequence));
    assert_eq!(*journal.durable().borrow(), sequence);
    journal.sync().expect("the disk is well");
    assert_eq!(journal.wait_settled(sequence), Ok(()));
    assert!(*journal.durable().borrow() > sequence);
}

#[test]
fn rules_and_what_comes_after_them_are_seen_once_they_are_synced() {
    let journal = on(&FailingDisk::default());
    let before = append(&journal, 0, 10).expect("there is room");
    let rules = journal.append_rules(0, rules(7)).expect("the disk is well");
    let after = append(&journal, 0, 10).expect("there is room");
    assert_eq!(seen_now(&journal), [before]);
    journal.sync().expect("the disk is well");
    assert_eq!(seen_now(&journal), [rules, after]);
    let last = append(&journal, 0, 10).expect("there is room");
    assert_eq!(seen_now(&journal), [last]);
}

#[test]
fn while_the_disk_fails_requests_are_refused_and_what_engines_saw_is_kept() {
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
        assert_eq!(journal.wait_settled(lost), Err(Unsettled), "its sender was told to come again");
        assert_eq!((seen(&journal), held(&journal)), (vec![first, lost, last], vec![first, lost, last]));
        let left = Log::open(Arc::new(disk.after_power_loss()), options(8 << 20, SyncMode::Batch));
        let left: Vec<_> = left.expect("it opens").since.iter().map(|it| it.head.sequence).collect();
        assert_eq!(left, [lost, last], "after {fault:?} and a loss of power");
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
    append(&journal, 0, 10).expect("there is room");
    disk.set(Some(Fault::Sync(io::ErrorKind::Other)));
    assert!(journal.sync().is_err());
    assert_eq!(journal.wait_settled(lost), Err(Unsettled));
    disk.set(None);
    journal.sync().expect("it is well again");
    assert_eq!(journal.rules().map(|rules| rules.samples_per_request), Some(7));
    assert_eq!((seen(&journal).len(), held(&journal).len()), (1, 0), "nor what came under them");
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
