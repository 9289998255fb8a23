//! A pair of Prometheus that scrape the same target, and one of them fails.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::support::exporter::Exporter;
use crate::support::peers::{Peer, free_addr};
use crate::support::stack;
use crate::support::until::until;

/// Half a minute until the other replica takes over, and time to start.
const PATIENCE: Duration = Duration::from_secs(85);
const SKIPPED: &str = "promantis_samples_skipped_total{reason=\"replica\"}";
const JUDGED: &str = "promantis_samples_judged_total";

/// A replica of the pair `eu`, with a folder of its own.
fn replica(name: &str, dir: &Path, app: SocketAddr, promantis: SocketAddr) -> Peer {
    let config = format!(
        "global: {{scrape_interval: 1s, external_labels: {{cluster: eu, __replica__: {name}}}}}
scrape_configs:
  - job_name: app
    static_configs: [{{targets: [\"{app}\"]}}]
remote_write:
  - url: http://{promantis}/api/v1/write
    queue_config: {{batch_send_deadline: 500ms}}
"
    );
    stack::prometheus(dir, free_addr(), &config)
}

#[test]
fn one_of_a_pair_counts_and_the_other_takes_over() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a temporary directory"));
    let app = Exporter::start();
    let config = "monitors: [{name: load, select: app_load}]\n";
    let promantis = stack::promantis(dirs[0].path(), free_addr(), config);
    let judged = || promantis.metric(JUDGED).unwrap_or_default();
    let first = replica("a", dirs[1].path(), app.addr, promantis.addr);
    until(PATIENCE, "the first is judged", || (judged() > 0.0).then_some(()));
    let _second = replica("b", dirs[2].path(), app.addr, promantis.addr);
    until(PATIENCE, "the second is skipped", || promantis.metric(SKIPPED));

    drop(first);
    // What the first had sent may still be on its way, a second or two of it.
    let before = judged() + 5.0;
    until(PATIENCE, "the second takes over", || (judged() > before).then_some(()));
    let answer = promantis.get("/api/v1/series").json().to_string();
    assert!(answer.contains("\"cluster\":\"eu\""), "{answer}");
    assert!(!answer.contains("__replica__"), "{answer}");
    assert_eq!(promantis.metric("promantis_series{state=\"monitored\"}"), Some(1.0));
}
