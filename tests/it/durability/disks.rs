//! Disks that are full or ill for a while, and folders that cannot be had.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use promantis::edge::journal::{self, Journal, Syncing};
use promantis::edge::limits::SyncMode;
use promantis::edge::log::{Log, Reader};
use promantis::edge::telemetry::Metrics;

use super::{MONITORS, load, now};
use crate::support::disk::failing::{FailingDisk, Fault};
use crate::support::http;
use crate::support::peers::{Peer, Program, free_addr};
use crate::support::receiver::{Receiver, Reply};
use crate::support::server::{Settings, TestServer};
use crate::support::stack::{self, write};
use crate::support::until::until;

const PATIENCE: Duration = Duration::from_secs(30);
const WRITE: &str = "/api/v1/write";

fn on(disk: &FailingDisk, metrics: &Arc<Metrics>) -> Arc<Journal> {
    let max_bytes = 64 << 20;
    let opened = Log::open(Arc::new(disk.clone()), journal::options(max_bytes, SyncMode::Batch));
    let settings = journal::Settings {
        max_bytes,
        waiting_max: 1 << 20,
        sync: SyncMode::Batch,
        readers: 1,
        lasting: true,
    };
    let journal = Journal::over(opened.expect("it opens"), &settings, Arc::clone(metrics));
    Arc::new(journal.expect("the disk is well"))
}

#[test]
fn while_the_disk_fails_senders_hear_503_and_nothing_that_was_acknowledged_is_lost() {
    let faults = [
        Fault::Write(ErrorKind::StorageFull),
        Fault::Write(ErrorKind::ReadOnlyFilesystem),
        Fault::Sync(ErrorKind::Other),
        Fault::Beyond(10),
        Fault::Over(10),
    ];
    for fault in faults {
        let (disk, metrics) = (FailingDisk::default(), Arc::new(Metrics::new()));
        let journal = on(&disk, &metrics);
        let syncing = Syncing::start(&journal).expect("there are threads");
        let server = TestServer::start_over(Arc::clone(&journal), metrics, Settings::default());
        let post = |host: &str| http::post(server.addr, WRITE, &load(&[host], now())).expect("it answers");
        assert_eq!(post("before").status, 204);
        disk.set(Some(fault));
        let refused = post("meanwhile");
        assert_eq!(refused.status, 503, "{fault:?}: {refused:?}");
        assert_eq!(server.metric("promantis_journal_writable"), 0.0);
        let refused = post("meanwhile");
        assert!(refused.body.contains("journal cannot be written: "), "{refused:?}");
        disk.set(None);
        until(PATIENCE, "the journal heals", || (post("after").status == 204).then_some(()));
        assert_eq!(server.metric("promantis_journal_writable"), 1.0);
        let page = server.metrics.render();
        assert!(page.contains("promantis_journal_errors_total{operation="), "{page}");
        assert!(page.contains("promantis_requests_refused_total{reason=\"journal_unwritable\"}"), "{page}");
        let seen: Vec<_> = server.accepted().into_iter().map(|(series, _)| series).collect();
        // Engines saw what was written and could not be made durable, and its sender is to come again.
        let acknowledged = seen.iter().filter(|series| !series.contains("meanwhile"));
        assert!(acknowledged.eq(["load{host=\"before\"}", "load{host=\"after\"}"]), "{fault:?}: {seen:?}");
        journal.close();
        syncing.join();
        let left = Log::open(Arc::new(disk.after_power_loss()), journal::options(64 << 20, SyncMode::Batch));
        let (left, mut reader) = (left.expect("it opens").log, Reader::default());
        let next = || left.read(&mut reader, u64::MAX, |head| head.kind == journal::record::REQUEST);
        let held = std::iter::repeat_with(next).map_while(|found| found.expect("it can be read")).count();
        assert_eq!(held, seen.len(), "what engines saw is held after {fault:?} and a loss of power");
    }
}

/// promantis, which takes no harm from files that may not grow.
fn limited(dir: &Path, addr: SocketAddr, config: &str) -> Peer {
    let config = write(dir, "promantis.yml", config);
    let binary = env!("CARGO_BIN_EXE_promantis");
    let command = format!("trap '' XFSZ; exec {binary} serve --config={config} --listen={addr}");
    Peer::start(&Program { name: "sh", addr, ready: "/-/ready" }, dir, &["-c".into(), command])
}

/// Bytes that files may have that the program writes; what it has to say of it cannot be written, either.
fn limit_files(peer: &Peer, bytes: &str) {
    let arguments = [format!("--pid={}", peer.pid()), format!("--fsize={bytes}:unlimited")];
    let limited = Command::new("prlimit").args(arguments).status().expect("util-linux is installed");
    assert!(limited.success());
}

/// A target that is silent while it is away.
fn target(runtime: &tokio::runtime::Runtime, away: &Arc<AtomicBool>) -> Receiver {
    let away = Arc::clone(away);
    let behaviour = move |_: &_| if away.load(Ordering::Relaxed) { Reply::Hang } else { Reply::Status(204) };
    runtime.block_on(Receiver::start(behaviour))
}

fn config(target: &Receiver) -> String {
    format!("remote_write: [{{url: \"{}\", timeout: 1s, max_backoff: 100ms}}]\n{MONITORS}\n", target.url())
}

/// Timestamps that arrived, and whether each of them came once for a score and once for a flag.
fn taken(target: &Receiver) -> (BTreeSet<i64>, bool) {
    let taken = target.taken();
    let timestamps: BTreeSet<_> = taken.iter().map(|sample| sample.timestamp).collect();
    let once = taken.len() == 2 * timestamps.len();
    (timestamps, once)
}

#[test]
fn a_full_disk_is_survived_without_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("threads are to be had");
    let target = target(&runtime, &Arc::default());
    let mut promantis = limited(dir.path(), free_addr(), &config(&target));
    let start = now() - 600_000;
    let post = |promantis: &Peer, at: i64| promantis.post(WRITE, &load(&["a"], start + at * 1000));
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let at = round * 10;
        assert_eq!(post(&promantis, at).status, 204, "{}", promantis.log());
        limit_files(&promantis, "0");
        for meanwhile in 1..4 {
            let refused = post(&promantis, at + meanwhile);
            assert_eq!(refused.status, 503, "{refused:?}");
        }
        assert_eq!(promantis.metric("promantis_journal_writable"), Some(0.0));
        promantis.check();
        limit_files(&promantis, "unlimited");
        until(PATIENCE, "it recovers", || (post(&promantis, at + 5).status == 204).then_some(()));
        assert_eq!(promantis.metric("promantis_journal_writable"), Some(1.0));
        acknowledged.extend([start + at * 1000, start + (at + 5) * 1000]);
    }
    until(PATIENCE, "all arrives", || (taken(&target).0.len() >= acknowledged.len()).then_some(()));
    assert_eq!(taken(&target), (acknowledged, true));
    assert!(promantis.log().contains("the journal can be written again"), "{}", promantis.log());
}

#[test]
fn with_a_dead_disk_and_a_silent_target_a_stop_takes_ten_seconds_at_most_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("threads are to be had");
    let away = Arc::new(AtomicBool::new(true));
    let target = target(&runtime, &away);
    let addr = free_addr();
    let mut promantis = limited(dir.path(), addr, &config(&target));
    let start = now() - 600_000;
    let acknowledged: BTreeSet<_> = (0..5).map(|at| start + at * 1000).collect();
    for timestamp in &acknowledged {
        assert_eq!(promantis.post(WRITE, &load(&["a"], *timestamp)).status, 204);
    }
    limit_files(&promantis, "0");
    assert_eq!(promantis.post(WRITE, &load(&["a"], now())).status, 503);
    let begun = Instant::now();
    promantis.signal("TERM");
    assert!(promantis.ended().success());
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    away.store(false, Ordering::Relaxed);
    let _promantis = stack::promantis(dir.path(), addr, &config(&target));
    until(PATIENCE, "all arrives", || (taken(&target).0.len() >= acknowledged.len()).then_some(()));
    assert_eq!(taken(&target), (acknowledged, true));
}

/// Starts promantis with a journal at `path`, and waits for its end: its exit code and what it said.
fn refused(dir: &Path, path: &str) -> (Option<i32>, String) {
    let config = write(dir, "other.yml", &format!("journal: {{path: \"{path}\"}}\n"));
    let program = Command::new(env!("CARGO_BIN_EXE_promantis"))
        .args(["serve", &format!("--config={config}"), "--listen=127.0.0.1:0"])
        .output()
        .expect("it can be started");
    (program.status.code(), String::from_utf8_lossy(&program.stderr).into_owned())
}

#[test]
fn a_folder_that_another_process_uses_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("journal").display().to_string();
    let config = format!("journal: {{path: \"{path}\"}}\n");
    let promantis = stack::promantis(dir.path(), free_addr(), &config);
    let (code, said) = refused(dir.path(), &path);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("another process uses {path}")), "{said}");
    assert_eq!(promantis.get("/-/ready").status, 200, "the first is not disturbed");
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("file"), "").expect("it can be written");
    let path = dir.path().join("file/journal").display().to_string();
    let (code, said) = refused(dir.path(), &path);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("make the folder {path}: ")), "{said}");
}
