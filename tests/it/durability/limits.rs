//! A journal at its limit, with a target that takes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{compressed, now, series};
use crate::support::http::Reply as Answer;
use crate::support::peers::{Peer, free_addr};
use crate::support::receiver::{Receiver, Reply};
use crate::support::stack;
use crate::support::until::until;

const PATIENCE: Duration = Duration::from_secs(60);
/// More than the journal takes, in requests.
const FLOOD: usize = 24;

/// A request of about 4 MB, however compressed.
fn bulk(seed: usize) -> Vec<u8> {
    let mut state = seed as u64 + 1;
    let mut draw = || {
        // Xorshift: George Marsaglia, Xorshift RNGs, Journal of Statistical Software 8 (14), 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state >> 32) as u8 % 90)
    };
    let hosts: Vec<String> = (0..1000).map(|_| (0..4000).map(|_| draw()).collect()).collect();
    compressed(hosts.iter().map(|host| series("bulk", host, now())).collect())
}

/// promantis that forwards to a target that is away, and takes nothing of it until it is back.
fn stage(when_full: &str) -> (tempfile::TempDir, tokio::runtime::Runtime, Arc<AtomicBool>, Receiver, Peer) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Runtime::new().expect("threads are to be had");
    let away = Arc::new(AtomicBool::new(true));
    let behaviour = {
        let away = Arc::clone(&away);
        move |_: &_| Reply::Status(if away.load(Ordering::Relaxed) { 503 } else { 204 })
    };
    let target = runtime.block_on(Receiver::start(behaviour));
    let config = format!(
        "journal: {{max_bytes: 64MiB, snapshot_interval: 1s}}
forward: [{{name: copy, url: \"{}\", when_full: {when_full}, max_backoff: 200ms}}]
monitors: [{{name: none, select: nothing}}]\n",
        target.url()
    );
    let promantis = stack::promantis(dir.path(), free_addr(), &config);
    (dir, runtime, away, target, promantis)
}

fn post(promantis: &Peer, body: &[u8]) -> Answer {
    promantis.post("/api/v1/write", body)
}

#[test]
fn a_target_that_must_not_lose_anything_holds_back_senders_until_it_has_taken_it() {
    let (_dir, _runtime, away, target, promantis) = stage("hold_back");
    let bodies: Vec<_> = (0..FLOOD).map(bulk).collect();
    let acknowledged = bodies.iter().take_while(|body| post(&promantis, body).status == 204).count();
    assert!((2..FLOOD).contains(&acknowledged), "{acknowledged} fit");
    until(PATIENCE, "the target is named", || {
        let refused = post(&promantis, &bodies[acknowledged]);
        assert_eq!(refused.status, 503, "{refused:?}");
        refused.body.contains("when_full: hold_back").then_some(())
    });
    away.store(false, Ordering::Relaxed);
    until(PATIENCE, "there is room", || {
        (post(&promantis, &bodies[acknowledged]).status == 204).then_some(())
    });
    until(PATIENCE, "all is forwarded", || {
        let posts = target.posts();
        let last = posts.last().is_some_and(|post| post.body == bodies[acknowledged]);
        last.then_some(())
    });
    let mut taken: Vec<_> = target.posts().into_iter().map(|post| post.body).collect();
    taken.dedup();
    assert!(taken.iter().eq(&bodies[..=acknowledged]), "each once and in order, but for retries");
}

#[test]
fn for_a_target_that_may_lose_the_oldest_they_are_dropped_and_counted_and_input_goes_on() {
    let (_dir, _runtime, away, target, promantis) = stage("drop_oldest");
    let bodies: Vec<_> = (0..FLOOD).map(bulk).collect();
    for body in &bodies {
        until(PATIENCE, "there is room", || (post(&promantis, body).status == 204).then_some(()));
    }
    away.store(false, Ordering::Relaxed);
    until(PATIENCE, "the last arrives", || {
        target.posts().last().is_some_and(|post| post.body == bodies[FLOOD - 1]).then_some(())
    });
    let dropped = "promantis_remote_write_requests_total{target=\"copy\",outcome=\"queue_full\"}";
    let dropped = promantis.metric(dropped).expect("it is counted") as usize;
    assert!((1..FLOOD).contains(&dropped), "{dropped} were dropped");
    let mut taken: Vec<_> = target.posts().into_iter().map(|post| post.body).collect();
    taken.dedup();
    // The one in hand when the others were dropped is still sent.
    let expected: Vec<_> = bodies[..1].iter().chain(&bodies[dropped + 1..]).collect();
    assert!(taken.iter().eq(expected), "{} arrived, {dropped} were dropped", taken.len());
}
