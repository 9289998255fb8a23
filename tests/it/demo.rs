//! `promantis demo`, as a user runs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

/// Flags without a fault in eight days of 30 series: 0 to 5 were measured over ten seeds.
const FALSE_ALARMS_MAX: u64 = 8;

/// A fixed end, so that weekdays and hours are the same in every run.
const END: &str = "1760000000";

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_promantis"))
        .arg("demo")
        .args(arguments)
        .env_remove("PROMANTIS_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

fn finish(child: Child) -> Output {
    child.wait_with_output().expect("the binary ends")
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the report is one JSON document")
}

/// The report of one run, for all tests: a run takes seconds in a debug build.
static REPORT: LazyLock<Value> = LazyLock::new(|| {
    report(&finish(start(&["--exit", "--json", "--days", "8", "--seed", "1", "--end", END])))
});

#[test]
fn finds_every_fault_with_few_false_alarms() {
    let faults = REPORT["faults"].as_array().expect("faults are a list");
    assert_eq!(faults.len(), 7);
    for fault in faults {
        assert_eq!(fault["found"], true, "{fault}");
    }
    let false_alarms = REPORT["false_alarms"]["count"].as_u64().expect("a count");
    assert!(false_alarms <= FALSE_ALARMS_MAX, "{:#}", REPORT["flags"]);
    assert!(REPORT["run"]["samples"].as_u64() > Some(300_000), "{}", REPORT["run"]);
}

#[test]
fn what_cannot_be_made_up_is_wrong_usage() {
    for (arguments, expected) in [
        (&["--days", "7"][..], "7 is not in 8..=400"),
        (&["--end", "9000000000"], "is in the future"),
        (&["--end=-9223372036854775808"], "is not in 0.."),
    ] {
        let output = finish(start(arguments));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_seed_gives_the_same_report_and_the_page_lives_until_the_demo_is_asked_to_stop() {
    let mut child = start(&["--json", "--days", "8", "--seed", "1", "--end", END]);
    let mut stdout = child.stdout.take().expect("stdout is a pipe");
    // Read beside: the report may be larger than a pipe.
    let written = std::thread::spawn(move || {
        let mut text = Vec::new();
        stdout.read_to_end(&mut text).map(|_| text)
    });
    let mut told =
        BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines().map_while(Result::ok);
    let line = told.find(|line| line.contains("http://")).expect("the page's address is told");
    let address = line.split(['/', ' ']).find(|word| word.starts_with("127.0.0.1:")).expect("an address");
    let page = get(address, "/");
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
    let stopped = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(stopped.expect("kill runs").success());
    assert!(told.any(|line| line.contains("stopped")), "it says that it stopped");
    let mut output = finish(child);
    output.stdout = written.join().expect("the reader ends").expect("the report is read");
    let second = report(&output);
    for part in ["faults", "flags", "false_alarms"] {
        assert_eq!(REPORT[part], second[part], "{part}");
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the page listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer comes");
    answer
}
