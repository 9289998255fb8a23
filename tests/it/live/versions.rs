//! Remote write 2.0 to peers that know 1.0 alone, and say so by taking nothing.

use std::time::Duration;

use crate::support::client::{post, v1_body, v1_series};
use crate::support::peers::{Peer, free_addr};
use crate::support::stack::{self, query};
use crate::support::until::until;

const PATIENCE: Duration = Duration::from_secs(30);

/// Has one sample judged and written to `peer`, which is offered version 2.0.
fn check(dir: &std::path::Path, peer: &Peer) {
    let config = format!(
        "remote_write: [{{url: \"http://{}/api/v1/write\", protocol: 2.0}}]
monitors: [{{name: one, select: load, detectors: [static], static: {{upper: 5}}}}]\n",
        peer.addr
    );
    let promantis = stack::promantis(dir, free_addr(), &config);
    let body = v1_body(vec![v1_series(&[("__name__", "load"), ("job", "a")], 10.0)]);
    assert_eq!(post(promantis.addr, "application/x-protobuf", &body).status, 204);
    let (labels, score) = until(PATIENCE, "the score is there", || query(peer, "ml_anomaly_score").pop());
    assert!(score > 1.0, "{labels:?} {score}");
    assert!(promantis.log().contains("does not speak remote write 2.0"), "{}", promantis.log());
}

#[test]
fn prometheus_of_version_1_gets_what_it_is_offered_in_version_2() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let prometheus = stack::prometheus(dir.path(), free_addr(), "{}");
    check(dir.path(), &prometheus);
}

#[test]
fn victoria_metrics_of_version_1_gets_what_it_is_offered_in_version_2() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let victoria = stack::victoria_metrics(dir.path(), free_addr());
    check(dir.path(), &victoria);
}
