//! The log against cuts, damage, failing disks and a naive log.

mod failing;

use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;

use super::segment::temporary_name;
use super::*;
use crate::edge::disk::failing::{FailingDisk, Fault};
use crate::edge::disk::{File, MemoryDisk};

const OPTIONS: Options = Options { segment_bytes: 400, tail_bytes: 100, durable: Durable::Synced };

fn entry<'a>(arrival: i64, stream: u16, parts: &'a [&'a [u8]]) -> Entry<'a> {
    Entry { arrival, kind: 1, stream, parts }
}

fn open(disk: &Arc<MemoryDisk>) -> Opened {
    Log::open(Arc::clone(disk) as Arc<dyn Disk>, OPTIONS).expect("memory does not fail")
}

fn begin(disk: &Arc<MemoryDisk>) -> Log {
    let Opened { log, .. } = open(disk);
    log.roll(b"start").expect("memory does not fail");
    log
}

fn append(log: &Log, text: &str) -> u64 {
    if log.is_segment_full() {
        log.roll(format!("before {}", log.next()).as_bytes()).expect("memory does not fail");
    }
    log.append(&entry(0, 0, &[text.as_bytes()])).expect("memory does not fail")
}

fn text(record: &Record) -> String {
    String::from_utf8_lossy(&record.payload).into_owned()
}

fn all(log: &Log, from: u64) -> Vec<(u64, String)> {
    let mut reader = Reader::from(from);
    let next = || log.read(&mut reader, u64::MAX, |_| true).expect("memory does not fail");
    std::iter::from_fn(next).map(|record| (record.head.sequence, text(&record))).collect()
}

/// Ten records over several segments, the last three not durable.
fn ten(disk: &Arc<MemoryDisk>) -> Log {
    let log = begin(disk);
    for number in 0..7 {
        append(&log, &format!("record {number} {}", "x".repeat(50)));
    }
    log.sync().expect("memory does not fail");
    for number in 7..10 {
        append(&log, &format!("record {number}"));
    }
    log
}

fn newest(disk: &MemoryDisk) -> Arc<dyn File> {
    let mut names = disk.list().expect("memory does not fail");
    names.sort();
    disk.open(names.last().expect("there is one")).expect("it is there")
}

fn contents(file: &dyn File) -> Vec<u8> {
    crate::edge::disk::read_whole(file, 1 << 20).expect("it is small")
}

fn rewrite(file: &dyn File, bytes: &[u8]) {
    file.truncate(0).and_then(|()| file.append(bytes)).expect("memory does not fail");
}

#[test]
fn what_was_appended_is_read_from_memory_and_from_files_and_after_a_start() {
    let disk = Arc::new(MemoryDisk::default());
    let log = ten(&disk);
    let seen = all(&log, 0);
    assert_eq!(seen.len(), 10);
    assert!(seen.iter().enumerate().all(|(at, (sequence, text))| {
        *sequence == at as u64 && text.starts_with(&format!("record {at}"))
    }));
    assert_eq!(all(&log, 9), seen[9..]);
    let again = open(&disk);
    assert_eq!(all(&again.log, 0), seen);
    assert_eq!((again.log.next(), again.cut_bytes, again.damaged), (10, 0, 0));
    assert!(again.checkpoint.is_some_and(|it| it.starts_with(b"before ")));
}

#[test]
fn a_reader_sees_what_it_wants_and_no_further_than_it_is_told() {
    let log = begin(&Arc::new(MemoryDisk::default()));
    for stream in [0, 1, 0, 1, 0] {
        log.append(&entry(0, stream, &[b"x"])).expect("memory does not fail");
    }
    let mut reader = Reader::from(0);
    let mut next = |below| {
        let record = log.read(&mut reader, below, |head| head.stream == 1).expect("memory does not fail");
        record.map(|record| record.head.sequence)
    };
    assert_eq!([next(3), next(3), next(9), next(9)], [Some(1), None, Some(3), None]);
    assert_eq!(reader.next(), 5);
}

#[test]
fn arrival_never_goes_back_not_even_over_a_start() {
    let disk = Arc::new(MemoryDisk::default());
    let log = begin(&disk);
    for arrival in [10, 7, 12] {
        log.append(&entry(arrival, 0, &[])).expect("memory does not fail");
    }
    drop(log);
    let log = begin(&disk);
    log.append(&entry(3, 0, &[])).expect("memory does not fail");
    let mut reader = Reader::default();
    let next = || log.read(&mut reader, u64::MAX, |_| true).expect("memory does not fail");
    let arrivals: Vec<_> = std::iter::from_fn(next).map(|record| record.head.arrival).collect();
    assert_eq!(arrivals, [10, 10, 12, 12]);
}

#[test]
fn a_torn_end_is_cut_wherever_it_was_torn() {
    let whole = Arc::new(MemoryDisk::default());
    drop(ten(&whole));
    let bytes = contents(&*newest(&whole));
    for size in 0..bytes.len() {
        let disk = Arc::new(MemoryDisk::default());
        drop(ten(&disk));
        rewrite(&*newest(&disk), &bytes[..size]);
        let opened = open(&disk);
        let kept = all(&opened.log, 0).len() as u64;
        assert_eq!(kept, opened.log.next(), "cut at {size}");
        opened.log.roll(b"again").expect("memory does not fail");
        let sequence = append(&opened.log, "later");
        assert_eq!(sequence, kept, "cut at {size}");
        drop(opened);
        let texts = all(&open(&disk).log, 0);
        assert_eq!(texts.len() as u64, kept + 1, "cut at {size}");
        assert_eq!(texts.last().map(|(_, text)| text.as_str()), Some("later"));
    }
}

#[test]
fn damage_costs_what_is_damaged_where_it_was_durable_and_all_behind_it_where_it_was_not() {
    let check = |hit: &str, expected: &[u64]| {
        let disk = Arc::new(MemoryDisk::default());
        let Opened { log, .. } =
            Log::open(Arc::clone(&disk) as Arc<dyn Disk>, Options { segment_bytes: 1 << 20, ..OPTIONS })
                .expect("memory does not fail");
        log.roll(b"").expect("memory does not fail");
        for number in 0..8 {
            append(&log, &format!("record {number}"));
            if number == 4 {
                log.sync().expect("memory does not fail");
            }
        }
        let file = newest(&disk);
        let mut bytes = contents(&*file);
        let at = bytes.windows(hit.len()).position(|window| window == hit.as_bytes()).expect("it is there");
        bytes[at] ^= 1;
        rewrite(&*file, &bytes);
        let opened = open(&disk);
        let kept: Vec<_> = opened.since.iter().map(|record| record.head.sequence).collect();
        assert_eq!(kept, expected, "{hit}");
        assert_eq!(opened.damaged > 0, opened.cut_bytes == 0, "{hit}");
    };
    check("record 2", &[0, 1, 3, 4, 5, 6, 7]);
    check("record 4", &[0, 1, 2, 3, 5, 6, 7]);
    check("record 6", &[0, 1, 2, 3, 4, 5]);
    check("record 7", &[0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn damage_in_an_old_segment_costs_its_records_alone() {
    let disk = Arc::new(MemoryDisk::default());
    drop(ten(&disk));
    let oldest = disk.open(&file_name(0)).expect("it is there");
    let mut bytes = contents(&*oldest);
    let at = bytes.windows(8).position(|window| window == b"record 1").expect("it is there");
    bytes[at] ^= 1;
    rewrite(&*oldest, &bytes);
    let log = open(&disk).log;
    let mut reader = Reader::default();
    let next = || log.read(&mut reader, u64::MAX, |_| true).expect("memory does not fail");
    let seen: Vec<_> = std::iter::from_fn(next).map(|record| record.head.sequence).collect();
    assert_eq!(seen, [0, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(reader.damaged(), 1);
}

#[test]
fn a_newer_version_is_refused_and_left_alone() {
    let disk = Arc::new(MemoryDisk::default());
    drop(begin(&disk));
    let file = newest(&disk);
    let mut bytes = contents(&*file);
    bytes[7] = 2;
    rewrite(&*file, &bytes);
    let error = Log::open(Arc::clone(&disk) as Arc<dyn Disk>, OPTIONS).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert_eq!(contents(&*newest(&disk)), bytes);
}

#[test]
fn old_segments_go_once_nobody_needs_them() {
    let disk = Arc::new(MemoryDisk::default());
    let log = ten(&disk);
    let end = log.oldest_end().expect("there are several segments");
    log.trim(end - 1).expect("memory does not fail");
    assert_eq!(log.first(), 0);
    log.trim(end).expect("memory does not fail");
    assert_eq!(log.first(), end);
    assert_eq!(all(&log, 0).first().map(|(sequence, _)| *sequence), Some(end));
    log.trim(u64::MAX).expect("memory does not fail");
    assert_eq!(disk.list().expect("memory does not fail").len(), 1, "the last one stays");
}

#[test]
fn after_an_error_the_log_goes_on_with_what_is_wanted_of_what_was_at_risk() {
    for fails_at_sync in [true, false] {
        let disk = FailingDisk::default();
        let log = Log::open(Arc::new(disk.clone()), OPTIONS).expect("it opens").log;
        log.roll(b"first").expect("the disk is well");
        append(&log, "durable");
        log.sync().expect("the disk is well");
        append(&log, "drop me");
        append(&log, "keep me");
        disk.set(Some(Fault::Write(io::ErrorKind::StorageFull)));
        if fails_at_sync {
            assert!(log.sync().is_err());
        } else {
            assert!(log.append(&entry(0, 0, &[b"half"])).is_err());
        }
        assert!(log.is_broken());
        assert!(matches!(log.append(&entry(0, 0, &[b"none"])), Err(LogError::Broken)));
        let keep = |record: &Record| text(record) != "drop me";
        assert!(log.heal(|_| b"second".to_vec(), keep).is_err(), "the disk is still ill");
        disk.set(None);
        log.heal(|_| b"second".to_vec(), keep).expect("the disk is well again");
        append(&log, "after");
        let texts = |log: &Log| all(log, 0).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(&log), ["durable", "keep me", "after"]);
        drop(log);
        let opened = Log::open(Arc::new(disk), OPTIONS).expect("it opens");
        assert_eq!(texts(&opened.log), ["durable", "keep me", "after"]);
        assert_eq!(opened.checkpoint.as_deref(), Some(b"second".as_slice()));
    }
}

#[derive(Clone, Debug)]
enum Action {
    Append { bytes: usize, stream: u16 },
    Sync,
    Reopen,
    Trim { back: u64 },
    Read { reader: usize },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => (0..120_usize, 0..2_u16).prop_map(|(bytes, stream)| Action::Append { bytes, stream }),
        2 => Just(Action::Sync),
        1 => Just(Action::Reopen),
        1 => (0..20_u64).prop_map(|back| Action::Trim { back }),
        6 => (0..2_usize).prop_map(|reader| Action::Read { reader }),
    ]
}

proptest! {
    /// Two readers, one of each stream, see what a naive log would show them.
    #[test]
    fn does_what_a_naive_log_does(actions in proptest::collection::vec(action(), 0..150)) {
        let disk = Arc::new(MemoryDisk::default());
        let mut log = begin(&disk);
        let mut naive: Vec<(u16, Vec<u8>)> = Vec::new();
        let mut readers = [Reader::from(0), Reader::from(0)];
        let mut seen = [0_usize, 0];
        for action in actions {
            match action {
                Action::Append { bytes, stream } => {
                    let payload = vec![naive.len() as u8; bytes];
                    if log.is_segment_full() {
                        log.roll(b"").expect("memory does not fail");
                    }
                    let sequence = log.append(&entry(0, stream, &[&payload])).expect("memory does not fail");
                    prop_assert_eq!(sequence, naive.len() as u64);
                    naive.push((stream, payload));
                }
                Action::Sync => {
                    log.sync().expect("memory does not fail");
                }
                Action::Reopen => {
                    log = begin(&disk);
                    readers = seen.map(|at| Reader::from(at as u64));
                }
                Action::Trim { back } => {
                    let least = seen.iter().min().map_or(0, |at| *at as u64);
                    log.trim(least.saturating_sub(back)).expect("memory does not fail");
                }
                Action::Read { reader } => {
                    let stream = reader as u16;
                    let record = log.read(&mut readers[reader], u64::MAX, |head| head.stream == stream);
                    let record = record.expect("memory does not fail");
                    let wanted = (seen[reader]..naive.len()).find(|at| naive[*at].0 == stream);
                    prop_assert_eq!(record.as_ref().map(|it| it.head.sequence as usize), wanted);
                    if let (Some(record), Some(at)) = (record, wanted) {
                        prop_assert_eq!(&record.payload[..], &naive[at].1[..]);
                    }
                    seen[reader] = wanted.map_or(naive.len(), |at| at + 1);
                }
            }
        }
    }
}
