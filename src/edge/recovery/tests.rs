//! Starts after every kind of end, against a life without any.

use std::io;

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::config;
use crate::edge::disk::failing::{FailingDisk, Fault};
use crate::edge::journal::Received;
use crate::edge::limits::SyncMode;
use crate::engine::monitor::Plan;
use crate::wire::decode::Protocol;
use crate::wire::prompb::v1::{Label, Sample, TimeSeries, WriteRequest};

const SERIES: usize = 12;
const YAML: &str =
    "monitors: [{name: one, select: load, warm_up: 2, detectors: [zscore, static], static: {upper: 5}}]";

pub(in crate::edge) fn rules(yaml: &str, shards: u16) -> Rules {
    let plan = config::parse(yaml).expect("the configuration is valid").plan;
    Rules { plan: Plan::clone(&plan), shards, samples_per_request: 7 }
}

/// The request of the minute `at`, one sample of each series.
pub(in crate::edge) fn request(at: i64) -> Received {
    let label = |name: &str, value: String| Label { name: name.into(), value: value.into() };
    let series = |index: usize| TimeSeries {
        labels: vec![label("__name__", "load".to_owned()), label("host", format!("h{index}"))],
        samples: vec![Sample { value: (at * 7 % 5) as f64 + index as f64, timestamp: at * 60_000 }],
        ..TimeSeries::default()
    };
    let raw = WriteRequest { timeseries: (0..SERIES).map(series).collect(), ..WriteRequest::default() };
    let body = Bytes::from(snappy::compress(&raw.encode_to_vec()));
    Received { protocol: Protocol::V1, body, latest: i64::MAX, forward: true }
}

fn settings(readers: usize) -> Settings {
    Settings { max_bytes: 1 << 30, waiting_max: 64 << 20, sync: SyncMode::Batch, readers, lasting: true }
}

/// What outlives a process, and the process.
struct Stage {
    journal: FailingDisk,
    snapshots: FailingDisk,
    metrics: Arc<Metrics>,
    replaying: Replaying,
    wanted: Rules,
    /// Minutes so far.
    now: i64,
    running: Option<Running>,
}

struct Running {
    journal: Journal,
    judges: Vec<Judge>,
    snapshots: Snapshots,
    report: Report,
}

impl Stage {
    fn new(shards: u16) -> Self {
        let mut stage = Self {
            journal: FailingDisk::default(),
            snapshots: FailingDisk::default(),
            metrics: Arc::new(Metrics::new()),
            replaying: Replaying::Here,
            wanted: rules(YAML, shards),
            now: 0,
            running: None,
        };
        stage.start();
        stage
    }

    fn try_start(&mut self) -> Result<(), RecoveryError> {
        let disk = |disk: &FailingDisk| Arc::new(disk.clone()) as Arc<dyn Disk>;
        let snapshots = Snapshots::on(disk(&self.snapshots), Arc::clone(&self.metrics));
        let snapshots = snapshots.expect("the disk is well");
        let with = (&self.replaying, &self.metrics);
        let wanted = (&self.wanted, self.now * 60_000);
        let recovered =
            recover(disk(&self.journal), &snapshots, &settings(self.wanted.shards()), wanted, with)?;
        let Recovered { journal, judges, report } = recovered;
        self.running = Some(Running { journal, judges, snapshots, report });
        Ok(())
    }

    fn start(&mut self) {
        self.try_start().expect("the disk is well");
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it was started")
    }

    fn report(&self) -> &Report {
        &self.running().report
    }

    /// Acknowledges a request, and judges nothing.
    fn take(&mut self) -> u64 {
        self.now += 1;
        let request = request(self.now);
        let raw = snappy::decompress(&request.body, 1 << 20).expect("it is compressed");
        let batch =
            decode::decode(request.protocol, raw, &Limits::default(), i64::MAX).expect("it is good").batch;
        let journal = &self.running().journal;
        let sequence = journal.append_request(self.now * 60_000, Instant::now(), &request, batch);
        journal.sync().expect("the disk is well");
        sequence.expect("there is room")
    }

    /// Judges all that was acknowledged.
    fn judge(&mut self) {
        let now = self.now * 60_000;
        let Running { journal, judges, .. } = self.running.as_mut().expect("it was started");
        let last = journal.append_tick(now).expect("the disk is well");
        journal.sync().expect("the disk is well");
        for (reader, judge) in judges.iter_mut().enumerate() {
            while judge.next() <= last {
                let record = journal.read(reader).expect("it is open");
                let stream = judge.stream();
                judge.take(&record, &mut Nobody, |part, request| {
                    journal.offer(stream, record.sequence, part, &request);
                });
                journal.done(reader, record.sequence);
            }
        }
    }

    fn save(&mut self) {
        let Running { journal, judges, snapshots, .. } = self.running();
        journal.sync().expect("the disk is well");
        judges.iter().for_each(|judge| snapshots.save(judge).expect("the disk is well"));
    }

    /// Ends the process and the power.
    fn crash(&mut self) {
        self.running = None;
        for disk in [&mut self.journal, &mut self.snapshots] {
            *disk = disk.after_power_loss();
        }
    }

    fn restart(&mut self) {
        self.crash();
        self.start();
    }

    /// Names of snapshots, ascending, and so the newest of each shard of a division last.
    fn files(&self) -> Vec<String> {
        let mut names = self.snapshots.list().expect("it can be listed");
        names.sort();
        names
    }

    fn damage(&self, name: &str) {
        let file = self.snapshots.open(name).expect("it is there");
        file.truncate(file.size().expect("it is open") - 1).expect("the disk is well");
        file.sync().expect("the disk is well");
    }

    /// Bodies of all derived requests that the journal has, by stream.
    fn derived(&self) -> Vec<(u16, Bytes)> {
        let journal = &self.running().journal;
        let mut reader = Reader::default();
        let mut next = || journal.read_log(&mut reader, u64::MAX, |head| head.kind == record::DERIVED);
        let found = std::iter::from_fn(|| next().expect("it can be read"));
        let mut derived: Vec<_> = found
            .map(|found| (found.head.stream, record::outgoing(&found).expect("it is one").body))
            .collect();
        derived.sort_by_key(|(stream, _)| *stream);
        derived
    }
}

/// Plays a script: `take` acknowledges a request, `judge` judges, `save` saves, `crash` loses power and starts again,
/// `shards=N` too, with so many shards, `plan` too, with another plan, `old` and `all` damage the newest snapshot of
/// the first shard, and every snapshot.
fn play(script: &str, replaying: &Replaying) -> Stage {
    let mut stage = Stage::new(2);
    stage.replaying = replaying.clone();
    for word in script.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("take", _) => {
                stage.take();
            }
            ("judge", _) => stage.judge(),
            ("save", _) => stage.save(),
            ("crash", _) => stage.restart(),
            ("shards", count) => {
                stage.wanted.shards = count.parse().expect("a number");
                stage.restart();
            }
            ("plan", _) => {
                stage.wanted = rules(&YAML.replace("upper: 5", "upper: 6"), stage.wanted.shards);
                stage.restart();
            }
            ("old", _) => {
                let files = stage.files();
                let newest = files.iter().rfind(|name| name.contains("-00000-of-"));
                stage.damage(newest.expect("there is one"));
            }
            ("all", _) => stage.files().iter().for_each(|name| stage.damage(name)),
            _ => panic!("{word}?"),
        }
    }
    stage.judge();
    stage
}

/// What is derived is, byte for byte and once, what is derived without saving, damage and crashes.
fn check(script: &str) -> Stage {
    let calm = script.split_whitespace().filter(|word| !["save", "crash", "old", "all"].contains(word));
    let calm = play(&calm.collect::<Vec<_>>().join(" "), &Replaying::Here).derived();
    assert!(!calm.is_empty());
    let threads = play(script, &Replaying::Threads(Recent::new(3)));
    assert_eq!(threads.derived(), calm, "{script}, on threads");
    let stage = play(script, &Replaying::Here);
    assert_eq!(stage.derived(), calm, "{script}");
    stage
}

#[test]
fn a_start_from_nothing_has_nothing_to_tell() {
    let stage = Stage::new(2);
    let report = Report { took: stage.report().took, ..Report::default() };
    assert_eq!(stage.report(), &report);
    assert_eq!(stage.running().judges.len(), 2);
    assert_eq!(stage.running().journal.rules().as_deref(), Some(&stage.wanted));
}

#[test]
fn what_was_acknowledged_is_judged_after_a_crash_from_the_journal_alone() {
    let stage = check("take take judge take take crash take crash");
    assert!(stage.report().replayed > 0);
    assert_eq!((stage.report().unreadable, stage.report().without_snapshot), (0, 0));
}

#[test]
fn what_a_snapshot_has_seen_is_not_judged_again() {
    let stage = check("take take judge save take judge save crash take");
    // Each of two shards: the tick of the test alone.
    assert_eq!(stage.report().replayed, 0);
    let stage = check("take judge save take take crash take");
    assert_eq!(stage.report().replayed, 4);
}

#[test]
fn a_damaged_snapshot_is_passed_over_for_an_older_one_or_the_journal() {
    let stage = check("take take judge save take judge save take old crash take");
    assert_eq!(stage.metrics.snapshots_damaged.get(), 1);
    let stage = check("take judge save take judge save take all crash take");
    assert_eq!(stage.metrics.snapshots_damaged.get(), 4);
}

#[test]
fn a_changed_plan_and_a_changed_count_of_shards_keep_what_they_can() {
    check("take take judge save take plan take judge crash take");
    let stage = check("take take judge save take shards=3 take judge take shards=1 take crash");
    assert_eq!(stage.running().judges.len(), 1);
    let stage = check("take take judge take shards=3");
    assert_eq!((stage.report().shards_before, stage.report().dropped_monitors.len()), (Some(2), 0));
    let stage = check("take take judge take plan");
    assert_eq!(stage.report().dropped_monitors, ["one"]);
}

/// Snapshots of the same count of shards from before the count changed and changed back were taken together with new
/// ones: a shard passed over all that came in between.
#[test]
fn snapshots_of_another_division_are_no_part_of_this_one() {
    check(
        "take judge save take judge save take shards=3 take judge shards=2 take judge save take crash take",
    );
    let script = "take take judge save save take shards=3 take judge take shards=2 take judge take";
    let mut stage = play(script, &Replaying::Here);
    let calm = play(&format!("{} take", script.replace("save", "")), &Replaying::Here).derived();
    // One shard alone comes to save.
    let Running { journal, judges, snapshots, .. } = stage.running();
    journal.sync().expect("the disk is well");
    snapshots.save(&judges[0]).expect("the disk is well");
    stage.restart();
    stage.take();
    stage.judge();
    assert_eq!(stage.derived(), calm);
}

/// What was learned before the count of shards changed was forgotten by a crash before the next snapshots.
#[test]
fn snapshots_of_the_division_before_serve_until_there_are_newer_ones() {
    let stage = check("take take judge save take judge save take shards=3 take judge crash take");
    assert_eq!(stage.report().without_snapshot, 0);
    assert_eq!(stage.files().len(), 4);
    assert!(stage.report().replayed < 12, "{:?}", stage.report());
    let mut stage = check("take judge save save shards=3 take judge save take judge save");
    assert!(stage.files().iter().all(|name| name.contains("-of-00003-")), "{:?}", stage.files());
    stage.restart();
    assert_eq!(stage.report().without_snapshot, 0);
}

/// A journal that had lost its end counted on below what a snapshot had seen: of what it then acknowledged, a start
/// took all for seen.
#[test]
fn a_journal_that_lost_its_end_goes_on_above_the_newest_snapshot() {
    for everything in [false, true] {
        let mut stage = Stage::new(2);
        stage.take();
        stage.judge();
        let early = if everything { FailingDisk::default() } else { stage.journal.after_power_loss() };
        for _ in 0..5 {
            stage.take();
            stage.judge();
            stage.save();
        }
        let newest = stage.running().snapshots.newest();
        stage.crash();
        stage.journal = early;
        stage.start();
        assert!(stage.report().lost > 0);
        assert!(stage.running().journal.end() >= newest);
        let known = stage.running().judges.iter().map(|judge| judge.engine().series_count());
        assert_eq!(known.sum::<usize>(), SERIES, "what was learned is still there");
        stage.judge();
        let before = stage.derived().len();
        stage.take();
        stage.restart();
        assert_eq!(stage.report().lost, 0);
        assert!(stage.derived().len() > before, "what was acknowledged then is judged");
    }
}

#[test]
fn records_that_cannot_be_read_are_counted_and_passed_over() {
    let mut stage = Stage::new(1);
    let body = Bytes::from_static(b"no request");
    let nonsense = Received { body, ..request(1) };
    let journal = &stage.running().journal;
    let batch = crate::series::Batch::over(Vec::new());
    journal.append_request(0, Instant::now(), &nonsense, batch).expect("there is room");
    journal.sync().expect("the disk is well");
    stage.take();
    stage.restart();
    assert_eq!(stage.report().unreadable, 1);
    assert!(!stage.derived().is_empty());
}

/// A start waited for ever for a disk that nobody healed.
#[test]
fn a_start_on_a_disk_that_fails_ends_with_an_error_and_a_later_one_finds_everything() {
    let calm = play("take take take", &Replaying::Here).derived();
    let mut stage = Stage::new(2);
    for _ in 0..3 {
        stage.take();
    }
    stage.crash();
    stage.journal.set(Some(Fault::Write(io::ErrorKind::StorageFull)));
    assert!(matches!(stage.try_start(), Err(RecoveryError::Write(_))));
    let plan = postcard::to_stdvec(&stage.wanted.plan).expect("it can be written").len();
    // A new segment fits with its checkpoint, and little more.
    stage.journal.set(Some(Fault::Beyond(plan + 400)));
    let failed = stage.try_start();
    assert!(matches!(failed, Err(RecoveryError::Incomplete)), "{failed:?}");
    stage.journal.set(None);
    stage.start();
    stage.judge();
    assert_eq!(stage.derived(), calm);
}

#[test]
fn to_open_a_journal_changes_nothing_on_the_disk() {
    let mut stage = Stage::new(2);
    stage.take();
    stage.crash();
    let files = |stage: &Stage| {
        let mut names = stage.journal.list().expect("it can be listed");
        names.sort();
        let bytes = |name: String| {
            let file = stage.journal.open(&name).expect("it is there");
            (name, crate::edge::disk::read_whole(&*file, 1 << 20).expect("it is small"))
        };
        names.into_iter().map(bytes).collect::<Vec<_>>()
    };
    let before = files(&stage);
    let options = journal::options(1 << 30, SyncMode::Batch);
    drop(Log::open(Arc::new(stage.journal.clone()), options).expect("it opens"));
    assert_eq!(files(&stage), before);
}

/// Opens the log that is left after a crash, as another program would, and writes a record behind all others.
fn write_as_another_program(stage: &Stage, checkpoint: Option<&[u8]>, (kind, payload): (u8, &[u8])) {
    let options = journal::options(1 << 30, SyncMode::Batch);
    let opened = Log::open(Arc::new(stage.journal.clone()), options).expect("it opens");
    let remembered = opened.checkpoint.clone().expect("there is one");
    let entry = crate::edge::log::Entry { arrival: i64::MIN, kind, stream: 0, parts: &[payload] };
    opened.log.roll(checkpoint.unwrap_or(&remembered)).expect("the disk is well");
    opened.log.append(&entry).expect("the disk is well");
    opened.log.sync().expect("the disk is well");
}

/// Rules of a newer program were taken for none, and what was acknowledged under them was never judged.
#[test]
fn what_another_program_wrote_is_refused_and_nothing_is_passed_over() {
    let unknown: &[u8] = &[0xEE, 1, 2, 3];
    for (checkpoint, record) in [(None, (RULES, unknown)), (Some(unknown), (TICK, &[][..]))] {
        let mut stage = Stage::new(2);
        stage.take();
        stage.take();
        stage.crash();
        write_as_another_program(&stage, checkpoint, record);
        let failed = stage.try_start().expect_err("it cannot be read").to_string();
        assert!(failed.contains("version 238"), "{failed}");
    }
}

/// Flips a bit in the newest record of rules.
fn damage_rules(stage: &Stage) {
    let mut names = stage.journal.list().expect("it can be listed");
    names.sort();
    for name in names.iter().rev() {
        let file = stage.journal.open(name).expect("it is there");
        let mut bytes = crate::edge::disk::read_whole(&*file, 1 << 20).expect("it is small");
        let is_rules =
            |at: &usize| bytes[*at..].starts_with(&[0xF5, b'R', b'e', b'c']) && bytes[at + 34] == RULES;
        if let Some(at) = (0..bytes.len() - 34).rfind(is_rules) {
            bytes[at + 40] ^= 1;
            file.truncate(0).and_then(|()| file.append(&bytes)).expect("the disk is well");
            return file.sync().expect("the disk is well");
        }
    }
    panic!("there are none");
}

/// Without rules a start began behind all records, and passed over what was acknowledged.
#[test]
fn where_the_record_of_the_rules_is_damaged_requests_are_judged_by_those_that_are_wanted() {
    let calm = play("take take take", &Replaying::Here).derived();
    let mut stage = Stage::new(2);
    for _ in 0..3 {
        stage.take();
    }
    stage.crash();
    damage_rules(&stage);
    stage.start();
    assert!(stage.metrics.journal_damaged_records.get() > 0);
    stage.judge();
    assert_eq!(stage.derived(), calm);
}

/// The log remembered the newest rules, and so nobody saw that engines had not got to know them.
#[test]
fn engines_that_missed_a_damaged_change_of_rules_get_it_at_the_end_of_the_replay() {
    for change in ["plan", "shards=3"] {
        let mut stage = play(&format!("take {change} take crash take"), &Replaying::Here);
        stage.crash();
        damage_rules(&stage);
        stage.start();
        stage.judge();
        let judges = &stage.running().judges;
        assert_eq!(judges.len(), stage.wanted.shards(), "{change}");
        let in_force = |judge: &Judge| judge.engine().plan() == &stage.wanted.plan;
        assert!(judges.iter().all(in_force), "{change}");
        let end = stage.running().journal.end();
        stage.restart();
        assert_eq!(stage.running().journal.end(), end, "what is in force is not put in force again");
    }
}
