//! Determinism: what a promantis derived under load and through crashes is derived again from its journal, byte for
//! byte, by threads, by one thread, and by `promantis replay`.
//!
//! `PROMANTIS_REPLAYS` sets how many journals are made and replayed (3), `PROMANTIS_SEED` the moments of the crashes.
//!
//! The journal fixes the order of requests, and with it every byte. The same requests sent to two fresh programs stand
//! in two journals, in the order in which each of them received them: how connections interleave is not repeated, and
//! so the two need not derive the same requests.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use promantis::edge::disk::Folder;
use promantis::edge::journal::options;
use promantis::edge::journal::record::{self, DERIVED};
use promantis::edge::limits::SyncMode;
use promantis::edge::log::{Log, Reader};
use promantis::edge::replay::{Begin, Derived, Judged, Pace, Replay, Report, Taker, Wish};

use super::ledger::Balance;
use super::random::Random;
use super::sink::Mood;
use super::stage::Stage;
use super::support::{alone, number, pass};

/// A journal that is never let go, since somebody who must get all of it is never there.
const KEPT: &str = "{path: data, sync: batch, snapshot_interval: 1s}
forward:
  - {name: nobody, url: \"http://127.0.0.1:9/\", when_full: hold_back}";
/// How often a program is killed before its journal is replayed.
const KILLS: usize = 5;

/// For each stream, causes, parts and bodies.
type Bodies = BTreeMap<u16, Vec<(u64, u32, Vec<u8>)>>;

#[derive(Default)]
struct Kept(Bodies);

impl Taker for Kept {
    fn derived(&mut self, derived: &Derived) -> io::Result<()> {
        let Derived { stream, cause, part, request } = derived;
        self.0.entry(*stream).or_default().push((*cause, *part, request.body.to_vec()));
        Ok(())
    }

    fn judged(&mut self, _judged: &Judged) -> io::Result<()> {
        Ok(())
    }
}

/// What was derived live, in the order of the journal.
fn recorded(data: &Path) -> Bodies {
    let folder = Folder::read_only(&data.join("journal")).expect("there is a journal");
    let log = Log::open(Arc::new(folder), options(1 << 30, SyncMode::Never)).expect("it can be read").log;
    let mut reader = Reader::default();
    let mut bodies = Bodies::new();
    while let Some(found) =
        log.read(&mut reader, u64::MAX, |head| head.kind == DERIVED).expect("it can be read")
    {
        let ((cause, part), request) = record::derived(&found).expect("it is what it says");
        bodies.entry(found.head.stream).or_default().push((cause, part, request.body.to_vec()));
    }
    bodies
}

/// Replays in this process.
fn replayed(data: &Path, pace: Pace) -> (Report, Bodies, Duration) {
    let begun = Instant::now();
    let mut kept = Kept::default();
    let wish = Wish { begin: Begin::Empty, pace, ..Wish::default() };
    let report =
        Replay::open(data, wish).and_then(|replay| replay.run(&mut kept)).expect("it can be replayed");
    (report, kept.0, begun.elapsed())
}

/// Replays by the command into `out`, and reads what it wrote.
fn commanded(data: &Path, out: &Path) -> BTreeMap<String, Vec<u8>> {
    let command = Command::new(env!("CARGO_BIN_EXE_promantis"))
        .args(["replay", "--empty", "--json", "--journal"])
        .arg(data)
        .arg("--out")
        .arg(out)
        .output()
        .expect("it starts");
    assert!(command.status.success(), "{command:?}");
    let files = fs::read_dir(out).expect("it was made").map(|entry| entry.expect("it can be listed"));
    let file = |entry: fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("it can be read"))
    };
    files.map(file).collect()
}

/// As the command writes it.
fn file(bodies: &[(u64, u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (cause, part, body) in bodies {
        bytes.extend(cause.to_le_bytes());
        bytes.extend(part.to_le_bytes());
        bytes.extend(u32::try_from(body.len()).expect("it is small").to_le_bytes());
        bytes.extend(body);
    }
    bytes
}

/// What the target took are the samples that were derived, with their values, and no others.
#[track_caller]
fn assert_arrived(stage: &Stage, bodies: &Bodies) {
    let mut samples = 0;
    for (_, _, body) in bodies.values().flatten() {
        for (mark, value) in stage.sink.read(body).expect("it is ours") {
            assert_eq!(stage.ledger().value(mark), Some(value), "{mark:?}");
            samples += 1;
        }
    }
    assert_eq!(samples, stage.ledger().different(), "samples derived, and taken");
}

/// Makes a journal under load and crashes.
fn perform(random: &mut Random) -> Stage {
    let mut stage = Stage::set(KEPT, random);
    for _ in 0..KILLS {
        let (_killed, _) = stage.start();
        pass(random.millis(100, 800));
        stage.sink.turn(if random.below(2) == 0 { Mood::Away } else { Mood::Flaky });
        pass(random.millis(100, 800));
        stage.sink.turn(Mood::Up);
    }
    let (mut last, _) = stage.start();
    let Balance { acknowledged, lost, problems, .. } = stage.close(&last);
    assert!(acknowledged > 0 && lost == 0 && problems.is_empty(), "{lost} lost, {problems:?}");
    last.signal("TERM");
    assert!(last.ended().success(), "{}", last.log());
    stage
}

#[test]
fn replay_determinism() {
    let _alone = alone();
    let mut random = Random::from_environment();
    for _ in 0..number("PROMANTIS_REPLAYS", 3) {
        let stage = perform(&mut random);
        let live = recorded(&stage.data());
        assert!(live.values().all(|bodies| bodies.is_sorted()), "derived in the order of causes");
        for pace in [Pace::Threads, Pace::Here] {
            let (report, anew, took) = replayed(&stage.data(), pace);
            println!(
                "{pace:?}: {} requests derived of {} samples in {took:.2?}",
                report.derived, report.samples
            );
            assert_eq!((report.begin, report.different, report.missing, report.unexplained), (0, 0, 0, 0));
            assert!(report.identical > 0 && anew == live, "{report:?}");
        }
        let out = tempfile::tempdir().expect("a temporary directory");
        let [first, second] =
            ["first", "second"].map(|name| commanded(&stage.data(), &out.path().join(name)));
        assert!(first == second, "two replays wrote other files");
        for (stream, bodies) in &live {
            assert!(first.get(&format!("derived-{stream}.bin")) == Some(&file(bodies)), "stream {stream}");
        }
        assert_arrived(&stage, &live);
    }
}
