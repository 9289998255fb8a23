//! The log over disks that fail at the worst moment.

use super::*;

/// A file whose first sync fails, as late as it can.
#[derive(Debug)]
struct FailsLate {
    /// Tells of each sync.
    entered: mpsc::Sender<()>,
    /// For the first sync alone: the others.
    first: Mutex<Option<mpsc::Receiver<()>>>,
}

impl File for FailsLate {
    fn append(&self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn read_at(&self, _offset: u64, _into: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
    fn size(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn truncate(&self, _size: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        self.entered.send(()).expect("the test listens");
        let Some(entered) = self.first.lock().expect("nobody panics").take() else { return Ok(()) };
        // Itself, and the other, who must not come: the wait ends in vain where all is well.
        let _ = entered.recv().map(|()| entered.recv_timeout(Duration::from_millis(300)));
        Err(io::Error::other("the only time that it is told"))
    }
}

#[test]
fn who_syncs_beside_one_who_fails_does_not_take_for_durable_what_is_lost() {
    type Step = fn(&Log) -> Result<(), LogError>;
    let steps: [Step; 2] = [|log| log.sync().map(drop), |log| log.roll(b"")];
    for step in steps {
        let log = begin(&Arc::new(MemoryDisk::default()));
        append(&log, "lost");
        let (entered, others) = mpsc::channel();
        let file = FailsLate { entered, first: Mutex::new(Some(others)) };
        log.lock().segments.back_mut().expect("it has begun").file = Arc::new(file);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| log.sync());
            let second = scope.spawn(|| step(&log));
            // Whoever comes second finds the log broken; if that was `step`, it was the one to be told.
            let outcomes = [first.join().expect("no panic").map(drop), second.join().expect("no panic")];
            assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
        });
        assert!(log.is_broken());
        assert_eq!(log.durable(), 0);
    }
}

#[test]
fn a_full_disk_is_not_healed_before_there_is_room_for_what_did_not_fit() {
    let disk = FailingDisk::default();
    let log = Log::open(Arc::new(disk.clone()), OPTIONS).expect("it opens").log;
    log.roll(b"").expect("the disk is well");
    disk.set(Some(Fault::Beyond(500)));
    assert!(log.append(&entry(0, 0, &[&[7; 600]])).is_err());
    for _ in 0..3 {
        assert!(log.heal(|_| Vec::new(), |_| true).is_err());
    }
    assert_eq!(disk.list().expect("it can be listed").len(), 1, "no attempt leaves a file");
    disk.set(Some(Fault::Beyond(800)));
    log.heal(|_| Vec::new(), |_| true).expect("there is room");
    assert!(log.append(&entry(0, 0, &[&[7; 600]])).is_ok());
    let names = disk.list().expect("it can be listed");
    let sizes = names.iter().map(|name| disk.open(name).and_then(|file| file.size()).expect("it is there"));
    assert!(sizes.sum::<u64>() < 1000, "what made sure of the room is cut");
}

#[test]
fn starts_that_end_at_once_leave_one_segment() {
    let disk = Arc::new(MemoryDisk::default());
    for _ in 0..9 {
        drop(begin(&disk));
    }
    assert_eq!(disk.list().expect("memory does not fail").len(), 1);
    append(&begin(&disk), "kept");
    let log = begin(&disk);
    assert_eq!(
        disk.list().expect("memory does not fail").len(),
        1,
        "what may not be durable is written anew"
    );
    assert_eq!(all(&log, 0), [(0, "kept".to_owned())]);
}

#[test]
fn sequences_that_were_used_are_left_out() {
    let disk = Arc::new(MemoryDisk::default());
    append(&begin(&disk), "before");
    let log = open(&disk).log;
    log.pass_to(9);
    log.roll(b"").expect("memory does not fail");
    append(&log, "after");
    for log in [log, open(&disk).log] {
        assert_eq!(all(&log, 0), [(0, "before".to_owned()), (9, "after".to_owned())]);
        assert_eq!(log.next(), 10);
    }
}

/// A sync that fails, and during which somebody begins a new segment.
#[derive(Default, Debug)]
struct Meanwhile {
    file: Mutex<Option<Arc<dyn File>>>,
    rolls: Mutex<Option<std::sync::mpsc::Receiver<bool>>>,
    log: Mutex<std::sync::Weak<Log>>,
}

#[derive(Debug)]
struct MeanwhileFile(Arc<Meanwhile>);

impl File for MeanwhileFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.file().append(bytes)
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.file().read_at(offset, into)
    }
    fn size(&self) -> io::Result<u64> {
        self.file().size()
    }
    fn truncate(&self, size: u64) -> io::Result<()> {
        self.file().truncate(size)
    }
    fn sync(&self) -> io::Result<()> {
        let Some(log) = self.0.log.lock().expect("nobody panics").upgrade() else { return Ok(()) };
        *self.0.log.lock().expect("nobody panics") = std::sync::Weak::new();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(log.roll(b"meanwhile").is_ok()));
        // Long enough to begin a segment, if nothing keeps the other thread from it.
        let rolled = told.recv_timeout(std::time::Duration::from_millis(100));
        *self.0.rolls.lock().expect("nobody panics") = Some(told);
        assert!(rolled.is_err(), "the other thread has to wait for this one");
        Err(io::ErrorKind::Other.into())
    }
}

impl MeanwhileFile {
    fn file(&self) -> Arc<dyn File> {
        self.0.file.lock().expect("nobody panics").clone().expect("it was created")
    }
}

#[derive(Debug)]
struct MeanwhileDisk(Arc<Meanwhile>, MemoryDisk);

impl Disk for MeanwhileDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.1.list()
    }
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        *self.0.file.lock().expect("nobody panics") = Some(self.1.create(name)?);
        Ok(Arc::new(MeanwhileFile(Arc::clone(&self.0))))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.1.open(name)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.1.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.1.remove(name)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The system tells of a failed write-back once: a second sync, of a thread that begins a new segment, succeeded
/// and made durable what was lost.
#[test]
fn nobody_begins_a_segment_while_a_sync_may_still_fail() {
    let meanwhile = Arc::new(Meanwhile::default());
    let disk = Arc::new(MeanwhileDisk(Arc::clone(&meanwhile), MemoryDisk::default()));
    let log = Arc::new(Log::open(disk, OPTIONS).expect("it opens").log);
    log.roll(b"first").expect("the disk is well");
    append(&log, "at risk");
    *meanwhile.log.lock().expect("nobody panics") = Arc::downgrade(&log);
    assert!(log.sync().is_err());
    let rolls = meanwhile.rolls.lock().expect("nobody panics").take().expect("a sync was asked for");
    assert!(!rolls.recv().expect("the thread ends"), "the log is broken");
    assert_eq!(log.durable(), 0);
}

#[test]
fn a_sequence_that_was_given_away_is_not_used_again_after_a_start() {
    let disk = Arc::new(MemoryDisk::default());
    let log = begin(&disk);
    append(&log, "durable");
    log.sync().expect("memory does not fail");
    append(&log, "dropped");
    log.heal(|_| Vec::new(), |_| false).expect("memory does not fail");
    drop(log);
    assert_eq!(append(&begin(&disk), "next"), 2);
}

#[test]
fn a_segment_that_was_being_made_is_nothing_and_goes() {
    let disk = Arc::new(MemoryDisk::default());
    drop(ten(&disk));
    let whole = newest(&disk);
    let names = disk.list().expect("memory does not fail");
    let half = disk.create(&temporary_name(names.len() as u64)).expect("memory does not fail");
    half.append(&contents(&*whole)[..50]).expect("memory does not fail");
    let log = begin(&disk);
    assert_eq!(all(&log, 0).len(), 10);
    log.trim(0).expect("memory does not fail");
    assert!(disk.list().expect("memory does not fail").iter().all(|name| name.ends_with(".log")));
}

#[test]
fn an_old_segment_whose_head_is_damaged_keeps_its_records() {
    let disk = Arc::new(MemoryDisk::default());
    drop(ten(&disk));
    let second = disk.open(&file_name(1)).expect("it is there");
    let mut bytes = contents(&*second);
    bytes[9] ^= 1;
    rewrite(&*second, &bytes);
    let opened = open(&disk);
    assert_eq!(opened.damaged, 1);
    assert_eq!(all(&opened.log, 0).len(), 10);
    assert!(opened.log.oldest_end().is_some_and(|end| end < 10), "old segments can still go");
}

/// A file that takes nothing more while it is synced, which succeeds.
#[derive(Debug)]
struct BreaksMeanwhile(Mutex<std::sync::Weak<Log>>);

impl File for BreaksMeanwhile {
    fn append(&self, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn read_at(&self, _offset: u64, _into: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
    fn size(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn truncate(&self, _size: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        // The first time alone.
        let log = std::mem::take(&mut *self.0.lock().expect("nobody panics")).upgrade();
        assert!(log.is_none_or(|log| log.append(&entry(0, 0, &[b"no room"])).is_err()));
        Ok(())
    }
}

/// Those who waited had been told that it was lost, and then it was durable all the same.
#[test]
fn a_sync_during_which_the_log_breaks_makes_nothing_durable() {
    let disk = Arc::new(MemoryDisk::default());
    let log = Arc::new(begin(&disk));
    append(&log, "kept");
    log.sync().expect("memory does not fail");
    append(&log, "told to be lost");
    let file = Arc::new(BreaksMeanwhile(Mutex::new(Arc::downgrade(&log))));
    log.lock().segments.back_mut().expect("it has begun").file = file;
    assert!(matches!(log.sync(), Err(LogError::Broken)));
    assert_eq!(log.durable(), 1);
    log.heal(|_| Vec::new(), |_| false).expect("memory does not fail");
    append(&log, "later");
    assert_eq!(log.sync().expect("memory does not fail"), log.next());
    let sequences: Vec<_> = all(&open(&disk).log, 0).into_iter().map(|(sequence, _)| sequence).collect();
    assert_eq!(sequences, [0, 3]);
}

/// Behind damage, what a sender had put into a body was taken for a record, and all that followed for older ones.
#[test]
fn behind_damage_what_stands_in_a_body_is_no_record_of_a_later_sequence() {
    let disk = Arc::new(MemoryDisk::default());
    let log = begin(&disk);
    let head = Head { sequence: 1 << 40, arrival: 0, behind: 0, stream: 0, kind: 1 };
    let mut body = Vec::new();
    frame::encode(&head, &[b"forged"], &mut body);
    log.append(&entry(0, 0, &[&body])).expect("memory does not fail");
    append(&log, "good");
    log.sync().expect("memory does not fail");
    // So far on that the forged one lies within what was used.
    log.pass_to(1 << 41);
    append(&log, "later");
    drop(log);
    let file = newest(&disk);
    let mut bytes = contents(&*file);
    let at = bytes.windows(body.len()).position(|window| window == body).expect("it is there");
    bytes[at - 20] ^= 1;
    rewrite(&*file, &bytes);
    let opened = open(&disk);
    assert_eq!(opened.damaged, 1);
    let found: Vec<_> = opened.since.iter().map(text).collect();
    assert_eq!(found, ["good", "later"]);
    // Also once the log has gone on and the torn end is cut.
    opened.log.roll(b"on").expect("memory does not fail");
    for log in [opened.log, open(&disk).log] {
        let read: Vec<_> = all(&log, 0).into_iter().map(|(_, text)| text).collect();
        assert_eq!(read, ["good", "later"]);
    }
}
