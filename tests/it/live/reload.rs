//! Configurations, wrong and right, at the start and while it runs.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::peers::{Peer, free_addr};
use crate::support::stack;
use crate::support::until::until;

const PATIENCE: Duration = Duration::from_secs(10);
/// Whether the last configuration was taken.
const RELOADED: &str = "promantis_config_last_reload_successful";
const GOOD: &str = "monitors: [{name: one, select: up}]\n";
const BROKEN: &str = "limits: {series_max: many}\nmonitors:\n  - name: one\n    select: '{'\n";

#[test]
fn a_broken_file_ends_the_start_with_every_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = stack::write(dir.path(), "broken.yml", BROKEN);
    for command in [["serve", "--config"].as_slice(), &["check"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_promantis")).args(command).arg(&file).output();
        let output = output.expect("the program starts");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for error in ["broken.yml:1: limits.series_max: ", "broken.yml:4: monitors[0].select: "] {
            assert!(text.contains(error), "{error} is not in {text}");
        }
    }
}

/// Waits for the gauge, because a signal is not answered.
#[track_caller]
fn told(promantis: &Peer, success: f64) {
    until(PATIENCE, "the reload is told", || (promantis.metric(RELOADED) == Some(success)).then_some(()));
}

#[test]
fn a_broken_reload_leaves_the_old_configuration_in_force() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let promantis = stack::promantis(dir.path(), free_addr(), GOOD);
    let put = |text: &str| fs::write(dir.path().join("promantis.yml"), text).expect("it can be written");
    assert_eq!(promantis.metric(RELOADED), Some(1.0));

    put(BROKEN);
    let reply = promantis.post("/-/reload", b"");
    assert_eq!(reply.status, 500, "{reply:?}");
    let error = reply.json()["error"].as_str().unwrap_or_default().to_owned();
    for part in ["limits.series_max", "monitors[0].select"] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert_eq!(promantis.metric(RELOADED), Some(0.0));
    assert_eq!(promantis.get("/-/ready").status, 200);
    assert!(promantis.log().contains("configuration not reloaded"), "{}", promantis.log());

    put(GOOD);
    assert_eq!(promantis.post("/-/reload", b"").status, 200);
    assert_eq!(promantis.metric(RELOADED), Some(1.0));

    put(BROKEN);
    promantis.signal("HUP");
    told(&promantis, 0.0);
    put(GOOD);
    promantis.signal("HUP");
    told(&promantis, 1.0);
    assert_eq!(promantis.log().matches("configuration not reloaded").count(), 2);
}
