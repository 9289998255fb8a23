//! Requests that are passed on as they came, to receivers that take them, refuse them, or do not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use promantis::edge::journal::{Journal, Received};
use promantis::edge::send::spec::WhenFull;
use promantis::edge::send::{Specs, TargetSpec};
use promantis::edge::telemetry::Metrics;
use promantis::series::Batch;
use promantis::wire::decode::Protocol;

use crate::sender::bench::{OK, Sender, in_memory, request, spec};
use crate::support::receiver::{Post, Receiver, Reply, eventually};

/// Targets without any for derived requests.
fn forwarding(spec: TargetSpec) -> Sender {
    let metrics = Arc::new(Metrics::new());
    let specs = Specs { remote_write: Vec::new(), forward: vec![spec] };
    Sender::over(in_memory(&metrics), specs, metrics)
}

/// Appends a request of one sample, as a sender would have brought it; returns its body.
fn append(journal: &Journal, protocol: Protocol, timestamp: i64, forward: bool) -> Bytes {
    let body = request(["a"], timestamp).body;
    let received = Received { protocol, body: body.clone(), latest: i64::MAX, forward };
    let appended = journal.append_request(timestamp, Instant::now(), &received, Batch::default());
    appended.expect("there is room");
    body
}

fn bodies(posts: &[Post]) -> Vec<Bytes> {
    posts.iter().map(|post| post.body.clone()).collect()
}

/// Three requests to a receiver that treats each to `failures` first: all arrive, in order, byte for byte.
async fn check(protocol: Protocol, headers: [(&str, &str); 3], failures: &'static [Reply]) {
    let per_request = failures.len() + 1;
    let reply = move |post: &Post| failures.get(post.nth % per_request).cloned().unwrap_or(OK);
    let receiver = Receiver::start(reply).await;
    let hanging = failures.contains(&Reply::Hang);
    let sender = forwarding(TargetSpec {
        timeout: Duration::from_millis(if hanging { 100 } else { 30_000 }),
        ..spec(receiver.url())
    });
    let sent: Vec<Bytes> = (1..=3).map(|at| append(&sender.journal, protocol, at, true)).collect();
    sender.finish().await;
    let posts = receiver.posts();
    let expected: Vec<Bytes> = sent.into_iter().flat_map(|body| vec![body; per_request]).collect();
    assert_eq!(bodies(&posts), expected, "{failures:?}");
    for (name, value) in headers {
        assert!(posts.iter().all(|post| post.headers[name] == value), "{name}");
    }
    assert_eq!((sender.requests("accepted"), sender.requests("recoverable")), (3, 3 * failures.len() as u64));
}

#[tokio::test]
async fn requests_arrive_byte_for_byte_by_the_protocol_they_came_by() {
    let v1 = [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "0.1.0"),
    ];
    let v2 = [
        ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "2.0.0"),
    ];
    for (protocol, headers) in [(Protocol::V1, v1), (Protocol::V2, v2)] {
        check(protocol, headers, &[]).await;
        check(protocol, headers, &[Reply::Status(503), Reply::Status(429), Reply::Cut]).await;
        check(protocol, headers, &[Reply::Hang]).await;
        // A derived request would be suspected by now.
        check(protocol, headers, &[const { Reply::Status(500) }; 20]).await;
    }
}

#[tokio::test]
async fn what_is_refused_for_good_is_counted_and_what_follows_arrives() {
    for status in [400, 404, 413] {
        let receiver =
            Receiver::start(move |post| if post.nth == 1 { Reply::Status(status) } else { OK }).await;
        let sender = forwarding(spec(receiver.url()));
        let sent: Vec<Bytes> = (1..=3).map(|at| append(&sender.journal, Protocol::V1, at, true)).collect();
        sender.finish().await;
        assert_eq!(bodies(&receiver.posts()), sent, "{status}: each once");
        assert_eq!((sender.requests("rejected"), sender.requests("accepted")), (1, 2), "{status}");
        assert_eq!(sender.journal.needed_by("one"), None, "{status}");
    }
}

#[tokio::test]
async fn only_what_is_to_be_forwarded_is() {
    let receiver = Receiver::start(|_| OK).await;
    let sender = forwarding(spec(receiver.url()));
    append(&sender.journal, Protocol::V1, 1, false);
    let body = append(&sender.journal, Protocol::V1, 2, true);
    append(&sender.journal, Protocol::V1, 3, false);
    sender.offer(&request(["derived"], 4));
    sender.finish().await;
    assert_eq!(bodies(&receiver.posts()), [body]);
}

#[tokio::test]
async fn what_waits_goes_or_holds_back_as_the_target_says() {
    for when_full in [WhenFull::DropOldest, WhenFull::HoldBack] {
        let open = Arc::new(AtomicBool::new(false));
        let gate = Arc::clone(&open);
        let reply = move |_: &Post| if gate.load(Ordering::SeqCst) { OK } else { Reply::Status(503) };
        let receiver = Receiver::start(reply).await;
        let sender = forwarding(TargetSpec { when_full, ..spec(receiver.url()) });
        append(&sender.journal, Protocol::V1, 1, true);
        receiver.wait_for_posts(1).await;
        (2..=4).for_each(|at| drop(append(&sender.journal, Protocol::V1, at, at != 3)));
        let before = sender.journal.end();
        append(&sender.journal, Protocol::V1, 5, true);
        let holds = when_full == WhenFull::HoldBack;
        assert_eq!(sender.targets.make_room(before), holds);
        let gone = if holds { 0 } else { 2 };
        assert_eq!(sender.requests("queue_full"), gone, "{when_full:?}");
        open.store(true, Ordering::SeqCst);
        sender.finish().await;
        let arrived: Vec<i64> = receiver.taken().iter().map(|sample| sample.timestamp).collect();
        let expected: &[i64] = if holds { &[1, 2, 4, 5] } else { &[1, 5] };
        assert_eq!(arrived, expected, "{when_full:?}");
        assert!(!sender.targets.make_room(before), "{when_full:?}: nothing is left of it");
    }
}

#[tokio::test]
async fn a_name_that_changes_its_kind_begins_anew() {
    let receiver = Receiver::start(|_| Reply::Status(503)).await;
    let sender = forwarding(spec(receiver.url()));
    (1..=3).for_each(|at| drop(append(&sender.journal, Protocol::V1, at, true)));
    receiver.wait_for_posts(1).await;
    let next = Receiver::start(|_| OK).await;
    let specs = Specs { remote_write: vec![spec(next.url())], forward: Vec::new() };
    sender.targets.replace(specs);
    eventually("what waited is counted", || sender.requests("target_removed") == 3).await;
    sender.offer(&request(["derived"], 4));
    sender.finish().await;
    assert_eq!(next.taken().len(), 1);
}
