//! Large pages for what engines know.
//!
//! A million series stand in hundreds of MiB, all of which are passed through once a scrape: in pages of 4 KiB the
//! processor looks nearly each of them up in its tables, in pages of 2 MiB one in hundreds. Many systems give large pages only
//! to those who ask (`madvise` in `/sys/kernel/mm/transparent_hugepage/enabled`). glibc's allocator asks where a
//! tunable says so when the process starts, and so the process starts once more, as the same process.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What the system does about large pages.
const SYSTEM: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// Where glibc reads its tunables.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// `glibc.malloc.hugetlb` of 1: what the allocator takes from the system is advised to be in large pages.
const TUNED: &str = "glibc.malloc.hugetlb=1";
/// Set by the one who starts it: large pages are not asked for. Set by ourselves, so that nothing starts twice.
pub const SWITCH: &str = "PROMANTIS_HUGE_PAGES";

/// Starts the process once more with large pages, where they are to be had by asking and nobody has decided: neither
/// by [`SWITCH`], of whatever value, nor by tunables of their own. Returns where there is nothing to be done.
///
/// # Errors
/// As the system tells, where the process could not start anew: it goes on as it is.
pub fn ask() -> io::Result<()> {
    let is_decided = [SWITCH, TUNABLES].iter().any(|name| std::env::var_os(name).is_some());
    if is_decided || !cfg!(target_env = "gnu") || !is_wanted() {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let mut again = Command::new(std::env::current_exe()?);
    again.args(arguments).env(TUNABLES, TUNED).env(SWITCH, "on");
    if name != OsStr::new("") {
        again.arg0(name);
    }
    Err(again.exec())
}

/// Whether to ask is what it takes here.
fn is_wanted() -> bool {
    std::fs::read_to_string(SYSTEM).is_ok_and(|enabled| is_by_request(&enabled))
}

/// Whether the system gives large pages to those who ask.
fn is_by_request(enabled: &str) -> bool {
    enabled.contains("[madvise]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_system_that_wants_to_be_asked_is_asked() {
        assert!(is_by_request("always [madvise] never\n"));
        assert!(!is_by_request("[always] madvise never\n"));
        assert!(!is_by_request("always madvise [never]\n"));
    }
}
