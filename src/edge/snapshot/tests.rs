//! Snapshots as they are written, damaged, half written, and of another program.

use super::*;
use crate::edge::disk::failing::{FailingDisk, Fault};
use crate::edge::journal::{Entry, Record};
use crate::edge::judge::Nobody;
use crate::edge::recovery::tests::{request, rules};
use crate::wire::{decode, snappy};

/// A judge of a shard of two that has taken so many requests.
fn judge(shard: usize, requests: u64) -> Judge {
    let rules = rules("monitors: [{name: one, select: load}]", 2);
    let mut judge = Judge::new(shard, &rules, 0);
    for sequence in 0..requests {
        let request = request(sequence as i64);
        let raw = snappy::decompress(&request.body, 1 << 20).expect("it is compressed");
        let decoded = decode::decode(request.protocol, raw, &decode::Limits::default(), i64::MAX);
        let entry = Entry::Request { batch: decoded.expect("it is good").batch };
        let record = Record {
            sequence,
            arrival: sequence as i64 * 60_000,
            received: std::time::Instant::now(),
            entry,
        };
        judge.take(&record, &mut Nobody, |_, _| {});
    }
    judge
}

fn on(disk: &FailingDisk) -> Snapshots {
    Snapshots::on(Arc::new(disk.clone()), Arc::new(Metrics::new())).expect("the disk is well")
}

fn saved(judge: &Judge) -> Vec<u8> {
    let mut bytes = Vec::new();
    judge.engine().save(&mut |block| bytes.extend_from_slice(block));
    bytes
}

fn files(disk: &FailingDisk) -> Vec<String> {
    let mut names = disk.list().expect("it can be listed");
    names.sort();
    names
}

fn nexts(loaded: Vec<Option<Judge>>) -> Vec<Option<u64>> {
    loaded.into_iter().map(|judge| Some(judge?.next())).collect()
}

#[test]
fn a_judge_comes_back_as_it_was() {
    let disk = FailingDisk::default();
    let judges = [judge(0, 5), judge(1, 5)];
    let snapshots = on(&disk);
    judges.iter().for_each(|judge| snapshots.save(judge).expect("the disk is well"));
    let snapshots = on(&disk);
    let loaded = snapshots.load();
    assert_eq!(loaded.len(), 2);
    for (before, after) in judges.iter().zip(loaded.into_iter().flatten()) {
        assert_eq!((after.next(), after.since(), after.shard()), (5, 0, before.shard()));
        assert_eq!(after.samples_per_request(), before.samples_per_request());
        assert_eq!(saved(&after), saved(before));
    }
    assert_eq!((snapshots.newest(), snapshots.metrics.snapshots_damaged.get()), (5, 0));
}

#[test]
fn whatever_of_a_file_is_damaged_the_older_one_is_used() {
    let disk = FailingDisk::default();
    let snapshots = on(&disk);
    for requests in [1, 2] {
        (0..2).for_each(|shard| snapshots.save(&judge(shard, requests)).expect("the disk is well"));
    }
    let name = files(&disk).into_iter().rfind(|name| name.contains("-00000-of-")).expect("it is there");
    let file = disk.open(&name).expect("it is there");
    let good = super::super::disk::read_whole(&*file, 1 << 20).expect("it is small");
    let check = |bytes: &[u8], used: u64| {
        file.truncate(0).and_then(|()| file.append(bytes)).expect("the disk is well");
        let snapshots = on(&disk);
        assert_eq!(nexts(snapshots.load()), [Some(used), Some(2)]);
        assert_eq!(snapshots.metrics.snapshots_damaged.get(), u64::from(used < 2));
        // The one that is left is not to be damaged as well: the journal has to be there from the start.
        assert_eq!(snapshots.needed(), if used < 2 { 0 } else { 1 });
    };
    check(&good, 2);
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        check(&bytes, 1);
    }
    for size in (0..good.len()).step_by(7) {
        check(&good[..size], 1);
    }
}

#[test]
fn without_a_good_file_there_is_none() {
    let disk = FailingDisk::default();
    assert!(on(&disk).load().is_empty());
    let snapshots = on(&disk);
    snapshots.save(&judge(0, 1)).expect("the disk is well");
    assert_eq!(nexts(on(&disk).load()), [Some(1), None]);
    snapshots.save(&judge(1, 1)).expect("the disk is well");
    for name in files(&disk) {
        disk.open(&name).expect("it is there").truncate(9).expect("the disk is well");
    }
    let snapshots = on(&disk);
    assert!(snapshots.load().is_empty());
    assert_eq!(snapshots.metrics.snapshots_damaged.get(), 2);
}

#[test]
fn a_file_under_the_name_of_another_is_not_used() {
    let disk = FailingDisk::default();
    on(&disk).save(&judge(0, 1)).expect("the disk is well");
    let name = files(&disk).pop().expect("it is there");
    let other = name.replace("-00000-of-", "-00001-of-");
    disk.rename(&name, &other).expect("the disk is well");
    let snapshots = on(&disk);
    assert!(snapshots.load().is_empty());
    assert_eq!(snapshots.metrics.snapshots_damaged.get(), 1);
}

#[test]
fn two_files_are_kept_and_the_journal_from_the_older_one() {
    let disk = FailingDisk::default();
    let snapshots = on(&disk);
    assert_eq!(snapshots.needed(), 0);
    for (requests, needed) in [(1, 0), (2, 1), (3, 2), (9, 3)] {
        snapshots.save(&judge(0, requests)).expect("the disk is well");
        snapshots.save(&judge(1, requests)).expect("the disk is well");
        assert_eq!(snapshots.needed(), needed, "after {requests}");
    }
    assert_eq!(files(&disk).len(), 4);
    assert_eq!(on(&disk).needed(), 3);
}

#[test]
fn the_division_before_goes_once_the_next_is_complete() {
    let disk = FailingDisk::default();
    let snapshots = on(&disk);
    for requests in [1, 2] {
        (0..2).for_each(|shard| snapshots.save(&judge(shard, requests)).expect("the disk is well"));
    }
    let three = || Judge::reshard(vec![judge(0, 3), judge(1, 3)], 3);
    three().iter().for_each(|judge| snapshots.save(judge).expect("the disk is well"));
    assert_eq!(files(&disk).len(), 7, "a damaged one has to have another");
    assert_eq!((nexts(on(&disk).load()), on(&disk).needed()), (vec![Some(3); 3], 0));
    for mut judge in three() {
        let entry = Entry::Tick;
        let tick = Record { sequence: 3, arrival: 180_000, received: std::time::Instant::now(), entry };
        judge.take(&tick, &mut Nobody, |_, _| {});
        snapshots.save(&judge).expect("the disk is well");
    }
    assert_eq!((files(&disk).len(), snapshots.needed()), (6, 3));
}

#[test]
fn a_half_written_file_is_cleared_away_and_a_foreign_one_is_left() {
    let disk = FailingDisk::default();
    let strange = ["notes.txt", "00000000000000000000-00007-of-00002-00000000000000000001.snapshot"];
    for name in strange.into_iter().chain(["x.snapshot.new"]) {
        disk.create(name).expect("the disk is well");
    }
    assert!(on(&disk).load().is_empty());
    let mut left = files(&disk);
    left.sort_by_key(|name| strange.iter().position(|known| known == name));
    assert_eq!(left, strange);
}

#[test]
fn a_snapshot_that_fails_costs_nothing_that_was_there() {
    let disk = FailingDisk::default();
    let snapshots = on(&disk);
    (0..2).for_each(|shard| snapshots.save(&judge(shard, 1)).expect("the disk is well"));
    let before = files(&disk);
    for fault in
        [Fault::Beyond(100), Fault::Write(io::ErrorKind::StorageFull), Fault::Sync(io::ErrorKind::Other)]
    {
        disk.set(Some(fault));
        assert!(snapshots.save(&judge(0, 2)).is_err());
        disk.set(None);
        assert_eq!(files(&disk), before, "{fault:?}");
        assert_eq!(nexts(on(&disk).load()), [Some(1), Some(1)]);
    }
    snapshots.save(&judge(0, 2)).expect("the disk is well again");
    assert_eq!(snapshots.newest(), 2);
}

#[test]
fn a_file_is_checked_without_a_disk_and_its_version_is_told() {
    let disk = FailingDisk::default();
    on(&disk).save(&judge(0, 5)).expect("the disk is well");
    let file = disk.open(&files(&disk)[0]).expect("it is there");
    let mut bytes = super::super::disk::read_whole(&*file, 1 << 20).expect("it is small");
    let series = judge(0, 5).engine().series_count();
    assert_eq!(check(&bytes).ok(), Some(series));
    bytes[7] = 2;
    let newer = check(&bytes).expect_err("it is newer").to_string();
    assert_eq!(newer, "it has version 2, this program reads version 1");
    assert!(matches!(check(b"something else"), Err(Damaged::Foreign)));
    assert!(matches!(check(b""), Err(Damaged::Io(_))));
}

#[test]
fn what_is_written_counts_once_it_is_finished_and_is_gone_if_it_never_is() {
    let disk = FailingDisk::default();
    let snapshots = on(&disk);
    drop(snapshots.write(&judge(0, 5)).expect("the disk is well"));
    assert_eq!(files(&disk), [""; 0]);
    let unfinished = snapshots.write(&judge(0, 7)).expect("the disk is well");
    assert!(files(&disk).iter().all(|name| name.ends_with(TEMPORARY)));
    snapshots.finish(unfinished).expect("the disk is well");
    assert!(files(&disk).iter().all(|name| name.ends_with(SUFFIX)));
}
