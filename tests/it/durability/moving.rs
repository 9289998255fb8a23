//! A target that gets another address while something waits for it.

use std::time::Duration;

use super::{MONITORS, load, now};
use crate::support::peers::free_addr;
use crate::support::receiver::{Receiver, Reply};
use crate::support::stack;
use crate::support::until::until;

const PATIENCE: Duration = Duration::from_secs(30);

/// A target without a name was known by its address, and what waited for it was dropped when that changed.
#[test]
fn what_waits_for_a_target_goes_where_its_name_goes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("threads are to be had");
    let target = runtime.block_on(Receiver::start(|_| Reply::Status(204)));
    let away = format!("{}/write", free_addr());
    let config = |target: &str| format!("remote_write: [{{{target}, max_backoff: 100ms}}]\n{MONITORS}\n");
    let promantis = stack::promantis(dir.path(), free_addr(), &config(&format!("url: \"http://{away}\"")));
    assert_eq!(promantis.post("/api/v1/write", &load(&["a"], now())).status, 204);

    let reload = |target: &str| {
        stack::write(dir.path(), "promantis.yml", &config(target));
        promantis.post("/-/reload", b"")
    };
    let moved = format!("url: \"{}\"", target.url());
    let refused = reload(&moved);
    let said = refused.json()["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(refused.status, 500, "{refused:?}");
    assert!(said.contains(&format!("write `name: '{away}'`")), "{said}");

    assert_eq!(reload(&format!("{moved}, name: '{away}'")).status, 200);
    // A score and a flag.
    until(PATIENCE, "what waited is delivered", || (target.taken().len() == 2).then_some(()));
    assert_eq!(promantis.metric("promantis_derived_dropped_total{reason=\"target_removed\"}"), None);
}
