//! Large pages, as a process asks for them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const TUNED: &str = "GLIBC_TUNABLES=glibc.malloc.hugetlb=1";

/// Whether a server that was started with `environment` runs with large pages, and the id that it began with is still
/// the process's.
fn has_asked(environment: &[(&str, &str)]) -> bool {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut server = Command::new(env!("CARGO_BIN_EXE_promantis"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env_remove("PROMANTIS_LOG")
        .env_remove("PROMANTIS_HUGE_PAGES")
        .env_remove("GLIBC_TUNABLES")
        .envs(environment.iter().copied())
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(server.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let is_ready = lines.any(|line| line.contains("configuration loaded"));
    let environ = fs::read(format!("/proc/{}/environ", server.id()));
    server.kill().and_then(|()| server.wait()).expect("it can be stopped");
    assert!(is_ready, "it ended before it was ready");
    let environ = environ.expect("Linux tells");
    environ.split(|byte| *byte == 0).any(|variable| variable == TUNED.as_bytes())
}

#[test]
fn a_server_asks_for_large_pages_where_the_system_wants_to_be_asked_and_nobody_has_decided() {
    let system = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let is_by_request = system.contains("[madvise]") && cfg!(target_env = "gnu");
    assert_eq!(has_asked(&[]), is_by_request, "the system says {system:?}");
    assert!(!has_asked(&[("PROMANTIS_HUGE_PAGES", "off")]));
    assert!(!has_asked(&[("GLIBC_TUNABLES", "glibc.malloc.arena_max=4")]));
}
