//! When one judge's knowledge is saved, and how: a block between two records, written by a thread of its own.
//!
//! What is saved is what the judge knew when it began. A record waits for a block or a few, and for those of its own
//! series that have not been saved, however many others there are; and for a disk only where series change faster than
//! it takes them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Surroundings;
use crate::edge::clock::unix_ms;
use crate::edge::journal::Journal;
use crate::edge::judge::Judge;
use crate::edge::snapshot::{Snapshots, Unfinished};
use crate::edge::telemetry::count;

/// A last snapshot is left out where one took longer than this: a stop must not take long, and the journal has it
/// all.
const LAST_SNAPSHOT_MAX: Duration = Duration::from_secs(2);
/// Bytes of a block: some hundreds of series, in about half a millisecond.
const BLOCK_BYTES: usize = 256 << 10;
/// Blocks that wait for the disk.
const WAITING_MAX: usize = 4;
/// Bytes beyond which the judge waits for the disk: series that change faster than they are written stand in memory.
const AHEAD_BYTES_MAX: usize = 32 << 20;
/// How long a judge without records waits for the disk to have room.
const PAUSE: Duration = Duration::from_millis(1);
/// One is saved when such a part of the journal came since the last: two are kept, and it is not to be full before it
/// may let go what came before the older one.
const SHARE: u64 = 3;

/// Where and how often shards save what they know.
#[derive(Clone, Debug)]
pub struct Saving {
    /// Where.
    pub snapshots: Arc<Snapshots>,
    /// How long after the last time.
    pub interval: Duration,
}

/// See the module.
pub(super) struct Saver {
    saving: Saving,
    due: Instant,
    /// The record that the judge would have taken next when the last one was begun.
    since: u64,
    /// Up to which record it is saved.
    saved: Option<u64>,
    asked: u64,
    /// How long the judge and the disk were busy with the last one, one after the other.
    took: Duration,
    /// While the judge still has blocks of one.
    open: Option<Open>,
    /// Writes the last one, and makes it durable.
    writing: Option<JoinHandle<Finished>>,
}

/// Up to which record a judge is saved, if that went well, and how long the disk took.
type Finished = (Option<u64>, Duration);

/// A snapshot whose blocks are being handed over.
struct Open {
    parts: SyncSender<Part>,
    /// One that found no room.
    part: Option<Part>,
    busy: Duration,
}

enum Part {
    Block(Vec<u8>),
    /// There are no more: without it, a snapshot was given up.
    End,
}

impl Saver {
    pub(super) fn new(saving: Saving, judge: &Judge) -> Self {
        let shard = judge.shard();
        // The first time one after the other, so that they are not all busy at once.
        let first = saving.interval.mul_f64((shard.index + 1) as f64 / shard.count as f64);
        let (due, asked) = (Instant::now() + first, saving.snapshots.asked());
        let saved = saving.snapshots.sequences(shard.index, shard.count);
        let since = saved.last().copied().unwrap_or_else(|| judge.next());
        Self { due, since, saved: None, asked, took: Duration::ZERO, open: None, writing: None, saving }
    }

    /// Whether it is time to save: it was asked for, the last time was long ago, or much came since.
    pub(super) fn is_due(&mut self, journal: &Journal) -> bool {
        let is_busy = self.is_saving() || self.writing.as_ref().is_some_and(|it| !it.is_finished());
        if is_busy {
            return false;
        }
        self.wait();
        let asked = self.saving.snapshots.asked();
        let is_asked = std::mem::replace(&mut self.asked, asked) != asked;
        is_asked
            || Instant::now() >= self.due
            || journal.bytes_since(self.since) >= journal.max_bytes() / SHARE
    }

    /// Whether [`Self::go_on`] has something to do.
    pub(super) fn is_saving(&self) -> bool {
        self.open.is_some()
    }

    /// Begins to save what `judge` knows now.
    pub(super) fn begin(&mut self, judge: &mut Judge, around: &Surroundings) {
        let begin = Instant::now();
        (self.due, self.since) = (begin + self.saving.interval, judge.next());
        let (parts, taken) = sync_channel(WAITING_MAX);
        match self.start(judge, taken, around) {
            Ok(writing) => {
                judge.engine_mut().begin_save(BLOCK_BYTES);
                self.writing = Some(writing);
                self.open = Some(Open { parts, part: None, busy: begin.elapsed() });
            }
            Err(error) => not_saved(judge.shard().index, &error, around),
        }
    }

    /// Starts the thread that writes.
    fn start(
        &self,
        judge: &Judge,
        parts: Receiver<Part>,
        around: &Surroundings,
    ) -> std::io::Result<JoinHandle<Finished>> {
        let snapshots = Arc::clone(&self.saving.snapshots);
        let unfinished = snapshots.begin(judge)?;
        let around = around.clone();
        let write = move || write(&snapshots, unfinished, &parts, &around);
        std::thread::Builder::new().name(format!("snapshot-{}", judge.shard().index)).spawn(write)
    }

    /// How long to wait for a record before the next [`Self::go_on`]: the disk may have no room yet.
    pub(super) fn pause(&self) -> Duration {
        let waits = self.open.as_ref().is_some_and(|open| open.part.is_some());
        if waits { PAUSE } else { Duration::ZERO }
    }

    /// Hands over a block of what is being saved, and all that were filled by series that changed, as far as the disk
    /// has room.
    pub(super) fn go_on(&mut self, judge: &mut Judge) {
        if !self.is_saving() {
            return;
        }
        let begin = Instant::now();
        while self.hand_over(judge) && judge.engine().saved_bytes().is_some_and(|bytes| bytes > 0) {}
        let busy = self.open.as_mut().map_or(&mut self.took, |open| &mut open.busy);
        *busy += begin.elapsed();
    }

    /// Hands over a block, or that there are no more. Whether there may be room for another.
    fn hand_over(&mut self, judge: &mut Judge) -> bool {
        let Some(open) = &mut self.open else { return false };
        let ahead = judge.engine().saved_bytes();
        let next = |judge: &mut Judge| judge.engine_mut().next_saved().map_or(Part::End, Part::Block);
        let part = match (open.part.take(), ahead) {
            (Some(part), _) => part,
            (None, Some(_)) => next(judge),
            (None, None) => {
                // Another plan came in between.
                self.due = Instant::now();
                self.give_up(judge);
                return false;
            }
        };
        let is_last = matches!(part, Part::End);
        let sent = match ahead.is_some_and(|bytes| bytes > AHEAD_BYTES_MAX) {
            true => open.parts.send(part).map_err(|lost| TrySendError::Disconnected(lost.0)),
            false => open.parts.try_send(part),
        };
        match sent {
            Ok(()) if is_last => {
                self.took = open.busy;
                self.open = None;
            }
            Ok(()) => return true,
            Err(TrySendError::Full(part)) => open.part = Some(part),
            // Who writes has told why.
            Err(TrySendError::Disconnected(_)) => self.give_up(judge),
        }
        false
    }

    /// Saves no more of what was begun.
    pub(super) fn give_up(&mut self, judge: &mut Judge) {
        judge.engine_mut().give_up_save();
        self.open = None;
    }

    /// Saves what `judge` knows when it takes nothing more.
    pub(super) fn save_at_last(&mut self, judge: &Judge, around: &Surroundings) {
        self.wait();
        if self.took >= LAST_SNAPSHOT_MAX || self.saved == Some(judge.next()) {
            return;
        }
        let snapshots = &self.saving.snapshots;
        match snapshots.write(judge) {
            Ok(unfinished) => drop(finish(snapshots, unfinished, around)),
            Err(error) => not_saved(judge.shard().index, &error, around),
        }
    }

    /// Waits until the last one is durable.
    fn wait(&mut self) {
        if let Some(writing) = self.writing.take() {
            let (saved, took) = writing.join().expect("files do not panic");
            self.saved = saved.or(self.saved);
            self.took += took;
        }
    }
}

/// Writes a snapshot, and makes it durable once it is whole.
fn write(
    snapshots: &Snapshots,
    mut unfinished: Unfinished,
    parts: &Receiver<Part>,
    around: &Surroundings,
) -> Finished {
    let mut took = Duration::ZERO;
    while let Ok(part) = parts.recv() {
        let begin = Instant::now();
        let Part::Block(block) = part else {
            return (finish(snapshots, unfinished, around), took + begin.elapsed());
        };
        let written = unfinished.append(&block);
        took += begin.elapsed();
        if let Err(error) = written {
            not_saved(unfinished.shard(), &error, around);
            break;
        }
    }
    (None, took)
}

/// Makes a snapshot durable, and tells up to which record the judge is saved then.
fn finish(snapshots: &Snapshots, unfinished: Unfinished, around: &Surroundings) -> Option<u64> {
    let (shard, next) = (unfinished.shard(), unfinished.next());
    // What was derived of the records that a start will not take again has to be there then.
    let saved = around.journal.sync().map_err(|error| error.to_string());
    let complete = || (!around.journal.is_incomplete()).then_some(());
    let saved = saved.and_then(|()| complete().ok_or_else(|| "the journal is incomplete".to_owned()));
    match saved.and_then(|()| snapshots.finish(unfinished).map_err(|error| error.to_string())) {
        Ok(()) => {
            around.metrics.snapshot_last_success_timestamp.set(unix_ms() / 1000);
            Some(next)
        }
        Err(error) => {
            not_saved(shard, &error, around);
            None
        }
    }
}

fn not_saved(shard: usize, error: &dyn std::fmt::Display, around: &Surroundings) {
    count(&around.metrics.journal_errors, "operation", "snapshot", 1);
    tracing::warn!(shard, %error, "a snapshot could not be saved");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::disk::failing::{FailingDisk, Fault};
    use crate::edge::journal::{Entry, Record};
    use crate::edge::judge::Nobody;
    use crate::edge::recent::Recent;
    use crate::edge::recovery::tests::{request, rules};
    use crate::edge::send::{Specs, Targets};
    use crate::edge::telemetry::Metrics;
    use crate::wire::{decode, snappy};

    const YAML: &str = "monitors: [{name: one, select: load}]";

    /// Has a judge take the record `sequence`: a request, or other rules.
    fn take(judge: &mut Judge, sequence: u64, rules: Option<&str>) {
        let request = request(sequence as i64);
        let raw = snappy::decompress(&request.body, 1 << 20).expect("it is compressed");
        let decoded = decode::decode(request.protocol, raw, &decode::Limits::default(), i64::MAX);
        let entry = match rules {
            Some(yaml) => Entry::Rules(Arc::new(self::rules(yaml, 1))),
            None => Entry::Request { batch: decoded.expect("it is good").batch },
        };
        let arrival = sequence as i64 * 60_000;
        judge.take(&Record { sequence, arrival, received: Instant::now(), entry }, &mut Nobody, |_, _| {});
    }

    fn whole(judge: &Judge) -> Vec<u8> {
        let mut bytes = Vec::new();
        judge.engine().save(&mut |block| bytes.extend_from_slice(block));
        bytes
    }

    /// A judge that has taken five requests, and who saves it on `disk`, asked or not for an hour.
    fn saver(disk: &FailingDisk) -> (Judge, Saver, Surroundings) {
        let metrics = Arc::new(Metrics::new());
        let mut judge = Judge::new(0, &rules(YAML, 1), 0);
        (0..5).for_each(|sequence| take(&mut judge, sequence, None));
        let snapshots = Snapshots::on(Arc::new(disk.clone()), Arc::clone(&metrics));
        let saving = Saving {
            snapshots: Arc::new(snapshots.expect("the disk is well")),
            interval: Duration::from_secs(3600),
        };
        let journal = Journal::in_memory(1 << 20, 0, Arc::clone(&metrics));
        let targets = Targets::start(Specs::default(), Arc::clone(&journal), Arc::clone(&metrics));
        let around = Surroundings { journal, targets: Arc::new(targets), recent: Recent::new(1), metrics };
        (judge, Saver::new(saving, &Judge::new(0, &rules(YAML, 1), 0)), around)
    }

    fn errors(around: &Surroundings) -> u64 {
        around.metrics.journal_errors.get_or_create(&vec![("operation", "snapshot".to_owned())]).get()
    }

    fn go_on_to_the_end(saver: &mut Saver, judge: &mut Judge) {
        while saver.is_saving() {
            saver.go_on(judge);
            std::thread::sleep(saver.pause());
        }
        saver.wait();
    }

    #[tokio::test]
    async fn what_is_saved_is_what_was_known_at_the_begin() {
        let (mut judge, mut saver, around) = saver(&FailingDisk::default());
        let before = whole(&judge);
        saver.begin(&mut judge, &around);
        assert!(saver.is_saving() && !saver.is_due(&around.journal));
        take(&mut judge, 5, None);
        go_on_to_the_end(&mut saver, &mut judge);
        assert_ne!(whole(&judge), before);
        let saved = saver.saving.snapshots.load_at(0, 1, 5).expect("it was saved");
        assert_eq!((whole(&saved), saver.saved, saver.is_due(&around.journal)), (before, Some(5), false));
        saver.save_at_last(&judge, &around);
        let saved = saver.saving.snapshots.load_at(0, 1, 6).expect("it was saved");
        assert_eq!(whole(&saved), whole(&judge));
    }

    /// A disk that stalls kept the judge from its records.
    #[tokio::test]
    async fn a_judge_goes_on_while_the_disk_has_no_room_for_what_is_saved() {
        let disk = FailingDisk::default();
        let (mut judge, mut saver, around) = saver(&disk);
        saver.begin(&mut judge, &around);
        let stalled = disk.fault.lock().expect("nobody panics");
        // With one in hand, a disk that stalls takes no other, and there is no room for more.
        let open = saver.open.as_mut().expect("it was begun");
        for _ in 0..=WAITING_MAX {
            open.parts.send(Part::Block(vec![0; 9])).expect("somebody writes");
        }
        saver.go_on(&mut judge);
        take(&mut judge, 5, None);
        assert_eq!((saver.is_saving(), saver.pause()), (true, PAUSE));
        drop(stalled);
        go_on_to_the_end(&mut saver, &mut judge);
        assert_eq!((saver.saved, saver.pause()), (Some(5), Duration::ZERO));
    }

    #[tokio::test]
    async fn it_is_time_when_a_third_of_the_journal_came() {
        let (mut judge, mut saver, around) = saver(&FailingDisk::default());
        let append = || around.journal.append_tick(0).expect("a tick always fits");
        while around.journal.bytes_since(0) < around.journal.max_bytes() / SHARE {
            assert!(!saver.is_due(&around.journal));
            append();
        }
        assert!(saver.is_due(&around.journal));
        (0..append()).for_each(|sequence| take(&mut judge, sequence, None));
        saver.begin(&mut judge, &around);
        go_on_to_the_end(&mut saver, &mut judge);
        assert!(!saver.is_due(&around.journal));
    }

    #[tokio::test]
    async fn a_snapshot_that_other_rules_interrupt_is_begun_anew() {
        let disk = FailingDisk::default();
        let (mut judge, mut saver, around) = saver(&disk);
        saver.begin(&mut judge, &around);
        take(&mut judge, 5, Some("monitors: [{name: other, select: load}]"));
        go_on_to_the_end(&mut saver, &mut judge);
        assert_eq!((saver.saved, errors(&around)), (None, 0));
        assert!(saver.is_due(&around.journal));
        saver.begin(&mut judge, &around);
        go_on_to_the_end(&mut saver, &mut judge);
        assert_eq!(saver.saved, Some(6));
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_told_of_and_tried_again_in_time() {
        let disk = FailingDisk::default();
        let (mut judge, mut saver, around) = saver(&disk);
        saver.begin(&mut judge, &around);
        disk.set(Some(Fault::Write(std::io::ErrorKind::StorageFull)));
        go_on_to_the_end(&mut saver, &mut judge);
        assert_eq!((saver.saved, errors(&around)), (None, 1));
        assert_eq!((judge.engine().saved_bytes(), saver.is_due(&around.journal)), (None, false));
        disk.set(None);
        saver.saving.snapshots.ask();
        assert!(saver.is_due(&around.journal));
        saver.begin(&mut judge, &around);
        go_on_to_the_end(&mut saver, &mut judge);
        assert_eq!(saver.saved, Some(5));
    }
}
