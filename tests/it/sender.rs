//! The sender against receivers that refuse, fail, hang and die: whatever can be delivered arrives.

pub(crate) mod bench;
mod outbox;
mod together;
mod version_2;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HeaderName};
use promantis::edge::clock::unix_ms;
use promantis::edge::send::{Outgoing, Secret, TargetSpec, Targets};
use promantis::edge::telemetry::Metrics;

use crate::support::peers::free_addr;
use crate::support::receiver::{Post, Receiver, Reply, eventually, url};
use bench::{OK, Sender, in_memory, names, request, set_shards, spec, timestamps, to, wide};

/// Beside the first request, for one bad series in `n`.
fn extra_requests(n: usize) -> usize {
    (2.0 * (n as f64).log2()) as usize + 2
}

/// Three requests to a receiver that treats each to `failures` first: all arrive, once each, in order, and
/// each retry is the same.
async fn check_retries(failures: &'static [Reply]) {
    let per_request = failures.len() + 1;
    let reply = move |post: &Post| failures.get(post.nth % per_request).cloned().unwrap_or(OK);
    let receiver = Receiver::start(reply).await;
    let sender = Sender::start(vec![TargetSpec {
        timeout: Duration::from_millis(if failures.contains(&Reply::Hang) { 100 } else { 30_000 }),
        ..spec(receiver.url())
    }]);
    let requests = [1, 2, 3].map(|timestamp| request(["a", "b"], timestamp));
    requests.iter().for_each(|request| sender.offer(request));
    sender.finish().await;
    assert_eq!(timestamps(&receiver.taken(), "a"), [1, 2, 3], "{failures:?}");
    assert_eq!(timestamps(&receiver.taken(), "b"), [1, 2, 3], "{failures:?}");
    let bodies: Vec<Bytes> = receiver.posts().into_iter().map(|post| post.body).collect();
    let expected: Vec<Bytes> =
        requests.iter().flat_map(|request| vec![request.body.clone(); per_request]).collect();
    assert_eq!(bodies, expected, "{failures:?}");
    assert_eq!(sender.requests("recoverable"), 3 * failures.len() as u64, "{failures:?}");
    assert_eq!((sender.requests("accepted"), sender.samples("one")), (3, 6), "{failures:?}");
}

#[tokio::test]
async fn a_failure_that_passes_costs_nothing_but_time() {
    check_retries(&[]).await;
    check_retries(&[Reply::Status(503), Reply::Status(503), Reply::Status(503)]).await;
    check_retries(&[Reply::Status(429)]).await;
    check_retries(&[Reply::Status(500), Reply::Status(502), Reply::Status(504)]).await;
    check_retries(&[Reply::With(503, "retry-after", "0")]).await;
    check_retries(&[Reply::Cut, Reply::Cut]).await;
    check_retries(&[Reply::Hang]).await;
}

#[tokio::test]
async fn a_wait_that_the_target_asks_for_is_kept() {
    let receiver = Receiver::start(|post| match post.nth {
        0 => Reply::With(503, "retry-after", "1"),
        _ => OK,
    })
    .await;
    let sender = Sender::to(&receiver);
    let start = std::time::Instant::now();
    sender.offer(&request(["a"], 1));
    sender.finish().await;
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn requests_say_what_they_are_and_who_sends_them() {
    let receiver = Receiver::start(|_| OK).await;
    let tenant = HeaderName::from_static("x-scope-orgid");
    let headers = vec![(AUTHORIZATION, Secret::new("Bearer t")), (tenant, Secret::new("anonymous"))];
    let sender = Sender::start(vec![TargetSpec { headers, ..spec(receiver.url()) }]);
    sender.offer(&request(["a"], 1));
    sender.finish().await;
    let post = receiver.posts().remove(0);
    assert_eq!(post.method, "POST");
    let agent = concat!("promantis/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("content-type", "application/x-protobuf"),
        ("content-encoding", "snappy"),
        ("user-agent", agent),
        ("x-prometheus-remote-write-version", "0.1.0"),
        ("authorization", "Bearer t"),
        ("x-scope-orgid", "anonymous"),
    ] {
        assert_eq!(post.headers.get(name).expect("a header"), value, "{name}");
    }
}

/// One of 2,000 series is answered `status` for ever: it alone is dropped as `reason`, for at most
/// `extra` requests beside those of the three batches.
async fn check_one_bad(bad: usize, status: u16, reason: &str, extra: usize) {
    let culprit = format!("s{bad}");
    let receiver = Receiver::start({
        let culprit = culprit.clone();
        move |post| {
            if post.has(&culprit) && post.samples[0].timestamp == 1 { Reply::Status(status) } else { OK }
        }
    })
    .await;
    let sender = Sender::to(&receiver);
    [1, 2, 3].into_iter().for_each(|timestamp| sender.offer(&wide(2000, timestamp)));
    sender.finish().await;
    assert_eq!(sender.dropped(reason), 1, "{status} at {bad}");
    let taken = receiver.taken();
    assert_eq!(taken.len(), 3 * 2000 - 1, "{status} at {bad}");
    for name in names(2000) {
        let expected: &[i64] = if name == culprit { &[2, 3] } else { &[1, 2, 3] };
        assert_eq!(timestamps(&taken, &name), expected, "{name}, {status} at {bad}");
    }
    let posts = receiver.posts().len();
    assert!(posts <= 3 + extra, "{posts} requests for {status} at {bad}");
}

#[tokio::test]
async fn one_refused_series_in_2000_costs_one_sample() {
    for bad in [0, 1234, 1999] {
        check_one_bad(bad, 400, "rejected", extra_requests(2000)).await;
    }
}

#[tokio::test]
async fn one_series_in_2000_that_breaks_the_target_costs_one_sample() {
    // Four more attempts of the whole before it is suspected, five checks of the culprit.
    for bad in [0, 1234, 1999] {
        check_one_bad(bad, 500, "poisoned", 4 + extra_requests(2000) + 5).await;
    }
}

#[tokio::test]
async fn a_request_that_is_too_big_arrives_in_pieces() {
    let receiver =
        Receiver::start(|post| if post.samples.len() > 300 { Reply::Status(413) } else { OK }).await;
    let sender = Sender::to(&receiver);
    sender.offer(&wide(2000, 1));
    sender.finish().await;
    let arrived: Vec<String> = receiver.taken().into_iter().map(|sample| sample.series).collect();
    assert_eq!(arrived, names(2000), "all of them, in order");
    assert_eq!(sender.dropped("rejected"), 0);
}

#[tokio::test]
async fn a_refusal_that_is_not_about_content_is_not_bisected() {
    for reply in [Reply::Status(401), Reply::Status(404), Reply::With(307, "location", "/elsewhere")] {
        let first = reply.clone();
        let receiver = Receiver::start(move |post| if post.nth == 0 { first.clone() } else { OK }).await;
        let sender = Sender::to(&receiver);
        sender.offer(&wide(10, 1));
        sender.offer(&wide(10, 2));
        sender.finish().await;
        assert_eq!((receiver.posts().len(), sender.dropped("rejected")), (2, 10), "{reply:?}");
    }
}

#[tokio::test]
async fn an_ill_target_loses_nothing_and_keeps_the_order() {
    // What is sent together is sent so once, in vain.
    for (at_once, ill_for) in [(1, 120), (10_000, 121)] {
        let reply = move |post: &Post| if post.nth < ill_for { Reply::Status(500) } else { OK };
        let receiver = Receiver::start(reply).await;
        let sender =
            Sender::start(vec![TargetSpec { max_samples_per_send: at_once, ..spec(receiver.url()) }]);
        [1, 2, 3].into_iter().for_each(|timestamp| sender.offer(&wide(50, timestamp)));
        sender.finish().await;
        assert_eq!(sender.dropped("poisoned"), 0);
        for name in names(50) {
            assert_eq!(timestamps(&receiver.taken(), &name), [1, 2, 3], "{name}, {at_once} at once");
        }
    }
}

#[tokio::test]
async fn a_target_that_recovers_while_a_witness_is_heard_gets_everything_in_order() {
    let start = unix_ms();
    let well = AtomicBool::new(true);
    let receiver = Receiver::start(move |post: &Post| {
        let in_hand = post.samples.iter().any(|sample| sample.timestamp == start + 1);
        if in_hand && post.nth == 1 {
            well.store(false, Ordering::SeqCst);
        } else if !in_hand {
            well.store(true, Ordering::SeqCst);
        }
        if well.load(Ordering::SeqCst) { OK } else { Reply::Status(500) }
    });
    let receiver = receiver.await;
    let sender = Sender::to(&receiver);
    sender.offer(&request(["a", "b"], start));
    receiver.wait_for_taken(2).await;
    sender.offer(&request(["a", "b"], start + 1));
    sender.offer(&request(["a", "b"], start + 2));
    eventually("the last is taken", || timestamps(&receiver.taken(), "b").contains(&(start + 2))).await;
    for series in ["a", "b"] {
        let mut arrived = timestamps(&receiver.taken(), series);
        arrived.dedup();
        assert_eq!(arrived, [start, start + 1, start + 2], "{series}");
    }
    assert_eq!((sender.dropped("poisoned"), sender.dropped("rejected")), (0, 0));
}

#[tokio::test]
async fn a_poisoned_sample_that_is_alone_is_given_up_only_once_another_was_taken() {
    let receiver = Receiver::start(|post| if post.has("bad") { Reply::Status(500) } else { OK }).await;
    let sender = Sender::to(&receiver);
    sender.offer(&request(["bad"], 1));
    receiver.wait_for_posts(30).await;
    assert_eq!(sender.dropped("poisoned"), 0, "the target may be ill");
    sender.offer(&request(["good"], 2));
    sender.finish().await;
    assert_eq!(sender.dropped("poisoned"), 1);
    assert_eq!(timestamps(&receiver.taken(), "good"), [2]);
}

#[tokio::test]
async fn a_stretch_of_poisoned_requests_does_not_hold_up_what_follows() {
    let receiver =
        Receiver::start(|post| if post.samples[0].timestamp <= 3 { Reply::Status(500) } else { OK }).await;
    let sender = Sender::to(&receiver);
    // Each of the three needs witnesses; the stream brings them.
    let stream = (1..)
        .map(|timestamp| wide(40, timestamp))
        .take(1000)
        .take_while(|_| sender.dropped("poisoned") < 120);
    let mut offered = 0;
    for request in stream {
        sender.offer(&request);
        offered += 1;
        receiver.wait_for_posts(receiver.posts().len() + 1).await;
    }
    sender.finish().await;
    assert_eq!(sender.dropped("poisoned"), 120);
    assert_eq!(receiver.taken().len(), (offered - 3) * 40);
}

#[tokio::test]
async fn a_target_that_comes_up_late_gets_everything_in_order() {
    let addr = free_addr();
    let sender = Sender::start(vec![spec(url(addr))]);
    (1..=50).for_each(|timestamp| sender.offer(&request(["a"], timestamp)));
    eventually("the first request fails", || sender.requests("recoverable") > 3).await;
    let receiver = Receiver::start_on(addr, |_| OK).await;
    sender.finish().await;
    assert_eq!(timestamps(&receiver.taken(), "a"), (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dead_target_holds_up_nobody_else() {
    let well = Receiver::start(|_| OK).await;
    let dead = TargetSpec { name: "dead".to_owned(), ..spec(url(free_addr())) };
    let sender = Sender::start(vec![dead, spec(well.url())]);
    (1..=20).for_each(|timestamp| sender.offer(&request(["a", "b"], timestamp)));
    well.wait_for_taken(40).await;
    let up =
        |name: &str| sender.metrics.remote_write_up.get_or_create(&vec![("target", name.to_owned())]).get();
    eventually("both are known", || up("one") == 1 && up("dead") == 0).await;
    assert_eq!(sender.targets.drain(Duration::from_millis(10)).await, 40, "those for the dead one");
    assert_eq!((sender.dropped("shutdown"), sender.samples("dead")), (40, 0));
}

#[tokio::test]
async fn lanes_keep_the_order_of_their_series_through_all_kinds_of_trouble() {
    for at_once in [1, 12, 10_000] {
        check_order(at_once).await;
    }
}

async fn check_order(max_samples_per_send: usize) {
    let receiver = Receiver::start(|post| match post.nth * 7 % 11 {
        0 | 5 => Reply::Status(503),
        1 => Reply::Cut,
        2 | 8 => Reply::Status(500),
        _ if post.samples.len() > 3 => Reply::Status(413),
        _ => OK,
    })
    .await;
    let metrics = Arc::new(Metrics::new());
    let journal = in_memory(&metrics);
    set_shards(&journal, 3);
    let target = TargetSpec { max_samples_per_send, ..spec(receiver.url()) };
    let sender = Sender::over(journal, to(vec![target]), metrics);
    let series: Vec<Vec<String>> =
        (0..3).map(|lane| names(5).into_iter().map(|name| format!("{lane}{name}")).collect()).collect();
    for timestamp in 1..=20 {
        for (lane, names) in series.iter().enumerate() {
            sender.offer_to(lane as u16, &request(names.iter().map(String::as_str), timestamp));
        }
    }
    sender.finish().await;
    let taken = receiver.taken();
    for name in series.iter().flatten() {
        let in_order: Vec<_> = (1..=20).collect();
        assert_eq!(timestamps(&taken, name), in_order, "{name}, {max_samples_per_send} at once");
    }
}

#[tokio::test]
async fn what_is_too_old_is_counted_and_not_sent() {
    let receiver = Receiver::start(|_| OK).await;
    let aged = TargetSpec { max_sample_age: Some(Duration::from_secs(60)), ..spec(receiver.url()) };
    let sender = Sender::start(Vec::new());
    let (journal, counted) = (Arc::clone(&sender.journal), Arc::clone(&sender.metrics));
    let targets = Targets::start_at(to(vec![aged]), journal, counted, Arc::new(|| 100_000));
    let sender = Sender { targets, ..sender };
    for newest in [39_999, 40_000, 100_000] {
        sender.offer(&request(["a", "b"], newest));
    }
    sender.offer(&Outgoing { oldest: 1, ..request(["c"], 50_000) });
    sender.finish().await;
    assert_eq!(timestamps(&receiver.taken(), "a"), [40_000, 100_000]);
    assert_eq!(timestamps(&receiver.taken(), "c"), [50_000], "a part of it may still be taken");
    assert_eq!(sender.dropped("too_old"), 2);
}

#[tokio::test]
async fn a_drain_sends_what_waits_and_counts_what_it_cannot_send() {
    let receiver = Receiver::start(|post| if post.nth < 2 { OK } else { Reply::Hang }).await;
    let sender = Sender::to(&receiver);
    (1..=5).for_each(|timestamp| sender.offer(&request(["a", "b"], timestamp)));
    receiver.wait_for_posts(3).await;
    let left = sender.targets.drain(Duration::from_millis(20)).await;
    assert_eq!((left, sender.dropped("shutdown")), (6, 6), "one in flight and two that wait");
    assert_eq!(timestamps(&receiver.taken(), "a"), [1, 2]);
    sender.offer(&request(["a"], 6));
    assert_eq!(sender.targets.drain(Duration::ZERO).await, 0, "nobody is left to send to");
}

#[tokio::test]
async fn a_reload_keeps_what_waits_for_the_targets_that_stay() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let receiver =
        Receiver::start(move |_| if gate.load(Ordering::SeqCst) { OK } else { Reply::Status(503) }).await;
    let gone = TargetSpec { name: "gone".to_owned(), ..spec(url(free_addr())) };
    let new = Receiver::start(|_| OK).await;
    let added = TargetSpec { name: "new".to_owned(), ..spec(new.url()) };
    let sender = Sender::start(vec![gone, spec(receiver.url())]);
    let requests = [1, 2, 3, 4].map(|timestamp| request(["a"], timestamp));
    sender.offer(&requests[0]);
    receiver.wait_for_posts(1).await;
    requests[1..].iter().for_each(|request| sender.offer(request));
    sender.targets.replace(to(vec![spec(receiver.url()), added]));
    assert_eq!(sender.dropped("target_removed"), 3, "what waited for it; one is in hand");
    eventually("what was in hand is counted", || sender.dropped("target_removed") == 4).await;
    assert!(!sender.metrics.render().contains("pending_bytes{target=\"gone\"}"));
    open.store(true, Ordering::SeqCst);
    receiver.wait_for_taken(4).await;
    sender.offer(&request(["a"], 5));
    sender.finish().await;
    assert_eq!(timestamps(&receiver.taken(), "a"), [1, 2, 3, 4, 5]);
    assert_eq!(timestamps(&new.taken(), "a"), [5], "what came before is not for it");
}
