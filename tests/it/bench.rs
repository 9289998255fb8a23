//! `promantis bench`, as a user runs it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

fn start(folder: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_promantis"))
        .args(["bench", "--json"])
        .arg(format!("--folder={}", folder.display()))
        .args(arguments)
        .env_remove("PROMANTIS_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

/// As little as measures anything.
const SMALL: [&str; 6] = ["--series", "500", "--rounds", "1", "--seconds", "1"];

/// Runs a bench to its end and returns its exit code, its report, and what it said.
fn run(arguments: &[&str]) -> (Option<i32>, Value, String) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let output = start(folder.path(), arguments).wait_with_output().expect("the binary ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_cleared(folder.path());
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

/// Nothing is in the folder any more, and no process runs that was started with a part of it.
#[track_caller]
fn assert_cleared(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder).expect("it can be listed").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    let processes = fs::read_dir("/proc").expect("Linux tells").flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    // This test's own child has ended by now.
    let part = format!("{}/", folder.display());
    let running: Vec<_> = lines.filter(|line| line.contains(&part)).collect();
    assert!(running.is_empty(), "{running:?}");
}

fn number(row: &Value, path: &str) -> f64 {
    row.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} is no number in {row:#}"))
}

#[test]
fn promantis_and_a_peer_take_the_same_load_in_turn_and_every_sample_is_judged_and_written_back() {
    let (code, report, said) = run(&[&SMALL[..], &["--peer", "prometheus"]].concat());
    assert_eq!(code, Some(0), "{said}");
    let servers = report["servers"].as_array().expect("servers are a list");
    let names: Vec<_> = servers.iter().map(|row| row["name"].as_str()).collect();
    assert_eq!(names, [Some("promantis"), Some("prometheus")]);
    for row in servers.iter().chain([&report["half_load"]]) {
        assert!(number(row, "/samples") >= 500.0, "{row:#}");
        for figure in ["/samples_per_second", "/samples_per_cpu_second", "/bytes_per_series"] {
            assert!(number(row, figure) > 0.0, "{figure} in {row:#}");
        }
        assert!(number(row, "/answer_p50_seconds") <= number(row, "/answer_p99_seconds"), "{row:#}");
    }
    for row in [&servers[0], &report["half_load"]] {
        assert_eq!(number(row, "/judged/samples"), number(row, "/samples"), "{row:#}");
        assert_eq!(number(row, "/judged/derived"), 2.0 * number(row, "/samples"), "{row:#}");
        let p50 = number(row, "/judged/p50_seconds");
        assert!(p50 > 0.0 && p50 <= number(row, "/judged/p99_seconds"), "{row:#}");
        assert!(number(row, "/judged/syncs_per_second") > 0.0, "{row:#}");
    }
    assert!(servers[1].get("judged").is_none(), "{:#}", servers[1]);
    let ratio =
        number(&servers[0], "/samples_per_cpu_second") / number(&servers[1], "/samples_per_cpu_second");
    assert!((number(&servers[1], "/first_against_it") / ratio - 1.0).abs() < 1e-9, "{report:#}");
    assert!(report["run"].as_str().is_some_and(|run| run.starts_with("500 series")), "{report:#}");
}

#[test]
fn ways_to_keep_the_journal_take_turns_at_a_rate_in_either_version() {
    let ways = ["--journal", "memory,interval", "--rate", "2000", "--protocol", "2.0"];
    let monitor = ["--detectors", "zscore", "--emit", "score", "--warm-up", "2", "--cores", "1"];
    let (code, report, said) = run(&[&SMALL[..], &ways, &monitor].concat());
    assert_eq!(code, Some(0), "{said}");
    let servers = report["servers"].as_array().expect("servers are a list");
    let names: Vec<_> = servers.iter().map(|row| row["name"].as_str()).collect();
    assert_eq!(names, [Some("promantis-memory"), Some("promantis-interval")]);
    for row in servers {
        // Four requests in a second, the first at once; a slow machine sends fewer.
        assert!((500.0..=2000.0).contains(&number(row, "/samples")), "{row:#}");
        assert_eq!(number(row, "/judged/derived"), number(row, "/samples"), "{row:#}");
    }
    assert!(report["half_load"].is_null(), "{report:#}");
}

#[test]
fn who_interrupts_it_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut child = start(folder.path(), &["--series", "500", "--seconds", "600", "--warm-up", "1"]);
    let mut said =
        BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines().map_while(Result::ok);
    said.find(|line| line.contains("bytes per series")).expect("the warm-up ends");
    let stopped = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(stopped.expect("kill runs").success());
    assert!(said.any(|line| line.contains("interrupted")), "it says so");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert_cleared(folder.path());
}

#[test]
fn what_cannot_be_measured_is_wrong_usage() {
    for (arguments, expected) in [
        (&["--seconds", "0"][..], "0 is not in 1..=600"),
        (&["--series", "0"], "0 is not in 1..=10000000"),
        (&["--rate", "slow"], "write `max`, or samples a second above 0"),
        (&["--protocol", "3.0"], "write 1.0 or 2.0"),
        (&["--journal", "paper"], "possible values: batch, interval, never, memory"),
        (&["--peer", "graphite"], "possible values: prometheus, vmagent, victoriametrics"),
        (&["--peer", "vmagent", "--protocol", "2.0"], "--peer goes with --protocol 1.0 only"),
        (&["--peer", "vmagent", "--peer", "vmagent"], "vmagent has more than one turn"),
        (&["--cores", "0"], "--cores 0 is not from 1 to"),
        (&["--detectors", "tea"], "tea"),
        (&["--emit", "coffee"], "coffee"),
    ] {
        let (code, _, said) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
