//! `promantis demo --stack`: all its pages answer, and nothing of it is left after a signal.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::http;
use crate::support::peers::{Peer, Program};
use crate::support::until::until;

const PATIENCE: Duration = Duration::from_secs(40);

/// The running demo. When a test fails it is asked to stop, so that its programs are stopped, too.
struct Demo(Peer);

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() && Path::new(&format!("/proc/{}", self.0.pid())).exists() {
            self.0.signal("TERM");
            self.0.ended();
        }
    }
}

impl Demo {
    fn start(dir: &Path) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let program = Program { name: env!("CARGO_BIN_EXE_promantis"), addr, ready: "" };
        Self(Peer::spawn(&program, dir, &["demo".into(), "--stack".into()]))
    }

    /// The pages that it names, by program.
    fn pages(&mut self) -> Vec<(String, SocketAddr)> {
        until(PATIENCE, "four pages are named", || {
            self.0.check();
            let log = self.0.log();
            let page = |line: &str| {
                let (program, url) = line.split_once(" http://")?;
                Some((program.trim().to_owned(), url.strip_suffix('/')?.parse().ok()?))
            };
            let pages: Vec<_> = log.lines().filter_map(page).collect();
            (pages.len() == 4).then_some(pages)
        })
    }

    /// Process ids of the programs that it has started.
    fn children(&self) -> Vec<u32> {
        let pid = self.0.pid().to_string();
        let entries = fs::read_dir("/proc").expect("Linux tells").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
        pids.filter(|child| {
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            // After the name, which may hold anything: state, and who started it.
            let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
            after.split(' ').nth(1) == Some(&pid)
        })
        .collect()
    }
}

#[test]
fn demo_of_the_stack_answers_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut demo = Demo::start(dir.path());
    let pages = demo.pages();
    let programs: Vec<_> = pages.iter().map(|(program, _)| program.as_str()).collect();
    assert_eq!(programs, ["promantis", "prometheus", "prometheus-alertmanager", "prometheus-node-exporter"]);
    for (program, addr) in &pages {
        until(PATIENCE, program, || {
            http::get(*addr, "/").ok().filter(|reply| matches!(reply.status, 200 | 302))
        });
    }
    let received = "promantis_samples_received_total";
    until(PATIENCE, "samples arrive", || {
        let page = http::get(pages[0].1, "/metrics").expect("it runs").body;
        let line = page.lines().find_map(|line| line.strip_prefix(received)?.trim().parse::<f64>().ok());
        line.filter(|count| *count > 100.0)
    });
    let children = demo.children();
    assert_eq!(children.len(), 3);
    let scratch = scratch(&demo.0);
    assert!(scratch.join("prometheus.yml").exists(), "{}", scratch.display());

    demo.0.signal("TERM");
    assert!(demo.0.ended().success(), "{}", demo.0.log());
    for child in children {
        assert!(!Path::new(&format!("/proc/{child}")).exists(), "process {child} is left");
    }
    assert!(!scratch.exists(), "{} is left", scratch.display());
}

fn scratch(demo: &Peer) -> PathBuf {
    std::env::temp_dir().join(format!("promantis-demo-{}", demo.pid()))
}
