//! Replay: a journal judged anew brings forth the same bytes, and says where it does not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use serde_json::Value;
use tempfile::TempDir;

use promantis::edge::disk::Folder;
use promantis::edge::journal::{Journal, Received, Rules, Settings};
use promantis::edge::judge::{Judge, Nobody};
use promantis::edge::limits::SyncMode;
use promantis::edge::recovery::{Recovered, Replaying, recover};
use promantis::edge::replay::{Begin, Derived, Judged, Pace, Replay, Report, Taker, Tell, Wish};
use promantis::edge::snapshot::Snapshots;
use promantis::edge::telemetry::Metrics;
use promantis::wire::decode::{Limits, Protocol, decode};
use promantis::wire::prompb::v1;
use promantis::wire::snappy;

const START: i64 = 1_700_000_000_000;
const STEP_MS: i64 = 15_000;
const SERIES: usize = 12;

/// Judges by what was learned and by a limit.
const CONFIG: &str = "monitors: [{name: m, detectors: [zscore, mad, static], static: {upper: 50}, warm_up: 5, window: {trigger: 0, recovery: 0}}]";
const OTHER_CONFIG: &str = "monitors: [{name: m, detectors: [zscore, mad, static], static: {upper: 20}, warm_up: 5, window: {trigger: 0, recovery: 0}}]";

fn rules(config: &str, shards: u16) -> Rules {
    let config = promantis::config::parse(config).expect("the configuration is valid");
    Rules { plan: (*config.plan).clone(), shards, samples_per_request: 5 }
}

/// The body of the request of a step, compressed: a little noise, and now and then something above the limits.
fn body(step: usize) -> Vec<u8> {
    let series = (0..SERIES).map(|series| {
        let number = (step * SERIES + series).wrapping_mul(2_654_435_761) % 1000;
        let value = if number < 30 { 60.0 } else { number as f64 / 50.0 };
        let labels = [("__name__", "load".to_owned()), ("series", series.to_string())];
        v1::TimeSeries {
            labels: labels.map(|(name, value)| v1::Label { name: name.into(), value: value.into() }).into(),
            samples: vec![v1::Sample { value, timestamp: START + step as i64 * STEP_MS }],
            ..Default::default()
        }
    });
    snappy::compress(&v1::WriteRequest { timeseries: series.collect(), metadata: vec![] }.encode_to_vec())
}

/// A promantis without network, clock and threads.
struct Live {
    journal: Journal,
    judges: Vec<Judge>,
    snapshots: Snapshots,
    steps: std::ops::RangeFrom<usize>,
}

impl Live {
    /// Starts over what is in `dir`, and goes on with the step `first`.
    fn start(dir: &Path, rules: &Rules, first: usize) -> Self {
        let folder = |name: &str| Arc::new(Folder::make(&dir.join(name)).expect("it can be made"));
        let metrics = Arc::new(Metrics::new());
        let snapshots = Snapshots::on(folder("snapshots"), Arc::clone(&metrics)).expect("it can be read");
        let settings = Settings {
            max_bytes: 64 << 20,
            sync: SyncMode::Never,
            readers: rules.shards(),
            waiting_max: 1 << 20,
            lasting: true,
        };
        let recovered = recover(
            folder("journal"),
            &snapshots,
            &settings,
            (rules, START + first as i64 * STEP_MS),
            (&Replaying::Here, &metrics),
        );
        let Recovered { journal, judges, .. } = recovered.expect("it starts");
        let mut live = Self { journal, judges, snapshots, steps: first.. };
        live.settle();
        live
    }

    fn send(&mut self, requests: usize) -> &mut Self {
        for _ in 0..requests {
            let step = self.steps.next().expect("there is no end");
            let body = body(step);
            let raw = snappy::decompress(&body, 1 << 20).expect("it was compressed");
            let decoded = decode(Protocol::V1, raw, &Limits::default(), i64::MAX).expect("it is a request");
            let received =
                Received { protocol: Protocol::V1, body: body.into(), latest: i64::MAX, forward: false };
            let arrival = START + step as i64 * STEP_MS;
            let appended = self.journal.append_request(arrival, Instant::now(), &received, decoded.batch);
            appended.expect("there is room");
            self.journal.append_tick(arrival + 1).expect("there is room");
            self.settle();
        }
        self
    }

    fn reload(&mut self, rules: &Rules) -> &mut Self {
        self.journal.append_rules(START, Arc::new(rules.clone())).expect("there is room");
        self.settle();
        self
    }

    /// Saves what is known, of each shard after some more requests.
    fn save(&mut self) -> &mut Self {
        for shard in 0..self.judges.len() {
            self.snapshots.save(&self.judges[shard]).expect("it can be written");
            self.send(3);
        }
        self
    }

    fn settle(&mut self) {
        while self.journal.waiting_bytes() > 0 {
            for (reader, judge) in self.judges.iter_mut().enumerate() {
                let record = self.journal.read(reader).expect("the journal is open");
                let stream = judge.stream();
                judge.take(&record, &mut Nobody, |part, request| {
                    self.journal.offer(stream, record.sequence, part, &request);
                });
                self.journal.done(reader, record.sequence);
            }
        }
    }
}

/// Keeps everything.
#[derive(Default, PartialEq, Debug)]
struct All {
    derived: Vec<Derived>,
    judged: Vec<Judged>,
}

impl Taker for All {
    fn derived(&mut self, derived: &Derived) -> std::io::Result<()> {
        self.derived.push(derived.clone());
        Ok(())
    }

    fn judged(&mut self, judged: &Judged) -> std::io::Result<()> {
        self.judged.push(judged.clone());
        Ok(())
    }
}

fn replay(dir: &Path, wish: Wish) -> (Report, All) {
    let mut all = All::default();
    let report = Replay::open(dir, wish).and_then(|replay| replay.run(&mut all));
    (report.expect("it can be replayed"), all)
}

/// What has to be so where the same rules were applied to the same records.
#[track_caller]
fn assert_same(report: &Report) {
    let Report { derived, identical, different, missing, unexplained, .. } = *report;
    assert!(derived > 0, "{report:?}");
    assert_eq!((identical, different, missing, unexplained), (derived, 0, 0, 0), "{report:?}");
    assert_eq!((report.unreadable, report.damaged, report.cut_bytes), (0, 0, 0));
}

/// A life in which nothing happens but requests.
fn plain(dir: &Path) {
    Live::start(dir, &rules(CONFIG, 2), 0).send(30);
}

/// A life in which everything happens: another plan, other numbers of shards, a restart without warning.
fn eventful(dir: &Path) {
    Live::start(dir, &rules(CONFIG, 2), 0).send(20).reload(&rules(OTHER_CONFIG, 2)).send(20);
    Live::start(dir, &rules(CONFIG, 3), 50).send(20).save();
    Live::start(dir, &rules(CONFIG, 3), 100).send(10);
    Live::start(dir, &rules(OTHER_CONFIG, 1), 120).send(20);
}

/// A life whose begin is known from snapshots alone.
fn trimmed(dir: &Path) {
    Live::start(dir, &rules(CONFIG, 2), 0).send(30).save().send(10).save();
    let mut live = Live::start(dir, &rules(CONFIG, 2), 60);
    live.send(10).save().send(5).reload(&rules(OTHER_CONFIG, 2)).send(20).save();
    let live = Live::start(dir, &rules(OTHER_CONFIG, 2), 120);
    live.journal.trim(live.snapshots.needed());
    assert!(live.journal.first() > 0, "the begin is gone");
}

fn folder(life: impl Fn(&Path)) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    life(dir.path());
    dir
}

/// Names, contents and times of all files.
fn contents(dir: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let files = ["journal", "snapshots"].into_iter().flat_map(|name| {
        let entries = fs::read_dir(dir.join(name)).expect("it can be listed");
        entries.map(|entry| entry.expect("it can be listed").path())
    });
    let one = |path: std::path::PathBuf| {
        let modified = fs::metadata(&path).and_then(|it| it.modified()).expect("it is there");
        (path.display().to_string(), (fs::read(&path).expect("it can be read"), modified))
    };
    files.map(one).collect()
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_promantis"));
    command.arg("replay").args(arguments).env_remove("PROMANTIS_LOG");
    command.output().expect("the binary starts")
}

/// Replays the journal in `dir` into `out` below it, and reads the summary.
fn run_into(dir: &Path, out: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let [dir, out] = [dir, out].map(|path| path.to_str().expect("paths are UTF-8"));
    let output = run(&[&["--json", "--journal", dir, "--out", out], more].concat());
    let summary = serde_json::from_slice(&output.stdout);
    (output.status.code(), summary.unwrap_or_else(|_| panic!("{output:?}")))
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).expect("it can be read").lines().map(str::to_owned).collect()
}

#[test]
fn a_journal_brings_forth_the_same_bytes_again() {
    let dir = folder(eventful);
    let before = contents(dir.path());
    let (report, all) = replay(dir.path(), Wish::default());
    assert_same(&report);
    assert!(report.flags > 0 && !report.from_snapshots && report.begin == 0);
    assert_eq!(
        replay(&dir.path().join("journal"), Wish { pace: Pace::Here, ..Wish::default() }),
        (report, all)
    );
    assert_eq!(contents(dir.path()), before, "nothing in the folder is changed");
}

#[test]
fn a_journal_without_its_begin_goes_on_from_snapshots() {
    let dir = folder(trimmed);
    let (report, _) = replay(dir.path(), Wish::default());
    assert_same(&report);
    assert!(report.from_snapshots && report.begin > 0);
    let (report, _) = replay(dir.path(), Wish { begin: Begin::Empty, ..Wish::default() });
    assert!(!report.from_snapshots && report.different > 0, "without what was learned: {report:?}");
}

#[test]
fn a_part_of_a_journal_is_replayed_as_in_the_whole() {
    for life in [eventful, trimmed] {
        let dir = folder(life);
        let (whole, all) = replay(dir.path(), Wish::default());
        let [from, to] = [1, 3].map(|quarter| whole.begin + (whole.end - whole.begin) * quarter / 4);
        let (report, part) = replay(dir.path(), Wish { from, to, ..Wish::default() });
        assert_same(&report);
        let expected: Vec<_> = all.derived.into_iter().filter(|it| (from..to).contains(&it.cause)).collect();
        assert!(part.derived == expected && !expected.is_empty());
        assert!(report.records < whole.records);
    }
}

#[test]
fn every_observation_is_told_of_where_that_is_asked_for() {
    let dir = folder(eventful);
    let (report, flagged) = replay(dir.path(), Wish::default());
    let (_, all) = replay(dir.path(), Wish { tell: Tell::All, ..Wish::default() });
    assert_eq!(all.judged.len() as u64, report.judged);
    let expected = all.judged.into_iter().filter(|it| it.flag || it.changed);
    assert_eq!(flagged.judged, expected.collect::<Vec<_>>());
}

#[test]
fn the_command_writes_what_was_derived_and_judged() {
    let dir = folder(eventful);
    let (out, again) = (dir.path().join("out"), dir.path().join("again"));
    let (code, summary) = run_into(&dir.path().join("journal"), &out, &[]);
    assert_eq!((code, &summary["different"]), (Some(0), &Value::from(0)), "{summary}");
    let (_, all) = replay(dir.path(), Wish::default());
    let mut expected: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    for Derived { stream, cause, part, request } in &all.derived {
        let file = expected.entry(*stream).or_default();
        file.extend(cause.to_le_bytes());
        file.extend(part.to_le_bytes());
        file.extend((request.body.len() as u32).to_le_bytes());
        file.extend(&request.body);
    }
    assert_eq!(expected.len(), 3);
    for (stream, bytes) in expected {
        assert_eq!(fs::read(out.join(format!("derived-{stream}.bin"))).ok(), Some(bytes));
    }
    let samples = lines(&out.join("derived.prom"));
    assert_eq!(Value::from(samples.len()), summary["derived_samples"]);
    assert!(
        samples[0].starts_with(r#"ml_anomaly_"#) && samples[0].ends_with(" 1700000000000"),
        "{}",
        samples[0]
    );
    let judged: Value = serde_json::from_str(&lines(&out.join("judgements.jsonl"))[0]).expect("JSON lines");
    assert_eq!((&judged["monitor"], &judged["flag"]), (&Value::from("m"), &Value::from(true)));
    assert_eq!(judged["labels"]["metric_name"], "load");
    assert!(judged["score"].as_f64() > Some(1.0) && judged["sequence"].is_u64(), "{judged}");

    run_into(&dir.path().join("journal"), &again, &[]);
    for entry in fs::read_dir(&out).expect("it can be listed") {
        let name = entry.expect("it can be listed").file_name();
        assert_eq!(fs::read(out.join(&name)).ok(), fs::read(again.join(&name)).ok(), "{name:?}");
    }
}

#[test]
fn what_learned_less_differs_and_fails() {
    let dir = folder(trimmed);
    let (code, summary) = run_into(&dir.path().join("journal"), &dir.path().join("out"), &["--empty"]);
    assert!(code == Some(1) && summary["different"].as_u64() > Some(0), "{summary}");
}

#[test]
fn another_configuration_judges_otherwise_and_says_so() {
    for life in [eventful, trimmed] {
        let dir = folder(life);
        let journal = dir.path().join("journal");
        let config = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).expect("it can be written");
            path.display().to_string()
        };
        run_into(&journal, &dir.path().join("as-it-was"), &[]);
        let limit = config("limit.yml", &CONFIG.replace("50", "10"));
        let (code, summary) = run_into(&journal, &dir.path().join("limit"), &["--config", &limit]);
        assert!(code == Some(0) && summary["different"].as_u64() > Some(0), "{summary}");
        let [as_it_was, limit] =
            ["as-it-was", "limit"].map(|out| lines(&dir.path().join(out).join("judgements.jsonl")).len());
        assert!(limit > as_it_was, "a lower limit is crossed more often: {limit}, {as_it_was}");
    }
    let dir = folder(plain);
    let plan = Some(rules(CONFIG, 2).plan);
    assert_same(&replay(dir.path(), Wish { plan, ..Wish::default() }).0);
}

#[test]
fn a_damaged_request_is_passed_over_and_counted() {
    let dir = folder(plain);
    let (whole, _) = replay(dir.path(), Wish::default());
    let lost = body(15);
    let mut hit = 0;
    for entry in fs::read_dir(dir.path().join("journal")).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        let mut bytes = fs::read(&path).expect("it can be read");
        if let Some(at) = bytes.windows(lost.len()).position(|window| window == lost) {
            bytes[at + 7] ^= 1;
            fs::write(&path, bytes).expect("it can be written");
            hit += 1;
        }
    }
    assert_eq!(hit, 1);
    let (report, _) = replay(dir.path(), Wish::default());
    assert_eq!((report.damaged, report.requests), (1, whole.requests - 1));
    assert!(report.unexplained > 0 && report.identical > 0, "{report:?}");
}

#[test]
fn a_torn_end_is_left_out_and_counted() {
    let dir = folder(plain);
    let files = contents(dir.path());
    let (name, (bytes, _)) = files.last_key_value().expect("there are segments");
    fs::write(name, &bytes[..bytes.len() - 5]).expect("it can be written");
    let (report, _) = replay(dir.path(), Wish::default());
    assert!(report.cut_bytes > 0 && report.different == 0 && report.unreadable == 0, "{report:?}");
}

#[test]
fn a_folder_in_use_can_be_replayed() {
    let dir = folder(|_| ());
    let _locked = Folder::make(dir.path()).and_then(|folder| folder.lock()).expect("nobody has it");
    let mut live = Live::start(dir.path(), &rules(CONFIG, 2), 0);
    live.send(20).save();
    fs::write(dir.path().join("snapshots/half.new"), "being written").expect("it can be written");
    let before = contents(dir.path());
    assert_same(&replay(dir.path(), Wish::default()).0);
    assert_eq!(contents(dir.path()), before, "nothing of the other process is touched");
    live.send(5);
    assert_same(&replay(dir.path(), Wish::default()).0);
}

/// Runs the command over `journal` into `out`, which must fail with a code and say something.
#[track_caller]
fn check_refused(journal: &Path, out: &Path, code: i32, expected: &str) {
    let [journal, out] = [journal, out].map(|path| path.to_str().expect("paths are UTF-8"));
    let output = run(&["--journal", journal, "--out", out]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && said.contains(expected), "{:?} {said}", output.status);
}

#[test]
fn what_cannot_be_replayed_is_refused_in_words() {
    let dir = folder(plain);
    let path = |name: &str| dir.path().join(name);
    let out = path("out");
    check_refused(&path("nowhere"), &out, 2, "holds no journal");
    check_refused(&path("snapshots"), &out, 2, "holds no journal");
    fs::write(path("file"), "text").expect("it can be written");
    check_refused(&path("file"), &out, 2, "holds no journal");
    fs::create_dir(path("odd")).expect("it can be made");
    let segment = path("odd").join(format!("{:020}.log", 0));
    fs::write(&segment, "no segment").expect("it can be written");
    check_refused(&path("odd"), &out, 2, "does not say which rules were in force");
    assert!(!out.exists(), "nothing is made for nothing");
    fs::create_dir_all(out.join("something")).expect("it can be made");
    check_refused(dir.path(), &path("journal/out"), 2, "where nothing is changed");
    check_refused(&path("journal"), &out, 2, "is not empty");
    check_refused(&path("journal"), &path("file"), 1, "make the folder");
}
