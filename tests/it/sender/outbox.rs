//! What waits in the journal for targets that are away, slow, new or gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use promantis::edge::send::spec::WhenFull;
use promantis::edge::send::{Specs, TargetSpec};
use promantis::edge::telemetry::Metrics;

use super::bench::{OK, Sender, in_folder, in_memory, request, set_shards, spec, timestamps, to};
use crate::support::peers::free_addr;
use crate::support::receiver::{Post, Receiver, Reply, eventually, url};

/// A receiver that is busy until the flag is set, and the flag.
async fn closed_receiver() -> (Receiver, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let reply = move |_: &Post| if gate.load(Ordering::SeqCst) { OK } else { Reply::Status(503) };
    (Receiver::start(reply).await, open)
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib << 10
}

#[tokio::test]
async fn an_outage_costs_disk_and_no_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let metrics = Arc::new(Metrics::new());
    let address = free_addr();
    let sender = Sender::over(in_folder(folder.path(), &metrics), to(vec![spec(url(address))]), metrics);
    // Nothing in it repeats, so that it does not shrink.
    let long: String = (1..700_i64).map(|at| format!("{:x}", at * 2_654_435_761_987)).collect();
    let before = resident();
    for timestamp in 1..=10_000 {
        sender.offer(&request(["a", &long], timestamp));
    }
    assert!(sender.pending() > 60 << 20, "{} bytes wait", sender.pending());
    // Other tests have their memory in the same process, and give it back; what waits would stay.
    eventually("what waits takes less than 40 MiB", || resident() < before + (40 << 20)).await;
    let receiver = Receiver::start_on(address, |_| OK).await;
    sender.finish().await;
    assert_eq!(timestamps(&receiver.taken(), "a"), (1..=10_000).collect::<Vec<_>>());
    assert_eq!(sender.journal.needed_by("one"), None);
}

#[tokio::test]
async fn a_start_goes_on_where_the_last_one_ended_and_sends_nothing_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start(|post| if post.nth < 3 { OK } else { Reply::Hang }).await;
    {
        let metrics = Arc::new(Metrics::new());
        let specs = to(vec![spec(receiver.url())]);
        let sender = Sender::over(in_folder(folder.path(), &metrics), specs, metrics);
        (1..=6).for_each(|timestamp| sender.offer(&request(["a", "b"], timestamp)));
        receiver.wait_for_posts(4).await;
        assert_eq!(
            sender.targets.drain(Duration::from_millis(20)).await,
            0,
            "what is left stays in the journal"
        );
        assert_eq!(sender.dropped("shutdown"), 0);
    }
    let next = Receiver::start(|_| OK).await;
    let metrics = Arc::new(Metrics::new());
    let sender = Sender::over(in_folder(folder.path(), &metrics), to(vec![spec(next.url())]), metrics);
    sender.offer(&request(["a", "b"], 7));
    sender.finish().await;
    assert_eq!(timestamps(&receiver.taken(), "a"), [1, 2, 3]);
    assert_eq!(timestamps(&next.taken(), "a"), [4, 5, 6, 7]);
}

#[tokio::test]
async fn what_waits_for_a_target_that_is_gone_at_the_start_is_counted_and_let_go() {
    let metrics = Arc::new(Metrics::new());
    let journal = in_memory(&metrics);
    journal.move_cursor("gone", 0, 0);
    let sender = Sender::over(journal, Specs::default(), metrics);
    assert_eq!(sender.dropped("target_removed"), 0, "nothing waited");
    sender.journal.move_cursor("gone", 0, 0);
    (1..=3).for_each(|timestamp| sender.offer(&request(["a", "b"], timestamp)));
    let (journal, metrics) = (Arc::clone(&sender.journal), Arc::clone(&sender.metrics));
    let sender = Sender::over(journal, Specs::default(), metrics);
    assert_eq!(sender.dropped("target_removed"), 6);
    assert_eq!(sender.journal.targets(), Vec::<String>::new());
}

#[tokio::test]
async fn a_witness_that_was_taken_ahead_of_its_turn_is_not_sent_twice() {
    let receiver = Receiver::start(|post| if post.has("bad") { Reply::Status(500) } else { OK }).await;
    let sender = Sender::to(&receiver);
    sender.offer(&request(["bad"], 1));
    (2..=9).for_each(|timestamp| sender.offer(&request(["good"], timestamp)));
    sender.finish().await;
    assert_eq!(sender.dropped("poisoned"), 1);
    assert_eq!(timestamps(&receiver.taken(), "good"), (2..=9).collect::<Vec<_>>());
    assert_eq!((sender.samples("one"), sender.journal.needed_by("one")), (8, None));
}

#[tokio::test]
async fn a_series_keeps_its_order_when_it_moves_to_another_lane() {
    // The lane that the series comes from is the slow one.
    let receiver = Receiver::start(|post| match post.nth % 4 {
        0 | 1 if post.has("moves") && post.samples[0].timestamp <= 20 => Reply::Status(503),
        _ => OK,
    })
    .await;
    let metrics = Arc::new(Metrics::new());
    let journal = in_memory(&metrics);
    set_shards(&journal, 2);
    let address = free_addr();
    let sender = Sender::over(journal, to(vec![spec(url(address))]), metrics);
    let before = [("stays", 0), ("moves", 1)];
    for (timestamp, (series, stream)) in (1..=20).flat_map(|at| before.map(|one| (at, one))) {
        sender.offer_to(stream, &request([series], timestamp));
    }
    set_shards(&sender.journal, 1);
    (21..=40).for_each(|timestamp| sender.offer(&request(["stays", "moves"], timestamp)));
    sender.targets.replace(to(vec![spec(receiver.url())]));
    sender.finish().await;
    for series in ["stays", "moves"] {
        assert_eq!(timestamps(&receiver.taken(), series), (1..=40).collect::<Vec<_>>(), "{series}");
    }
}

#[tokio::test]
async fn at_the_journal_s_limit_the_oldest_go_and_are_counted_exactly() {
    let (receiver, open) = closed_receiver().await;
    let sender = Sender::to(&receiver);
    sender.offer(&request(["a", "b"], 10));
    receiver.wait_for_posts(1).await;
    (11..=17).for_each(|timestamp| sender.offer(&request(["a", "b"], timestamp)));
    let before = sender.journal.end();
    (18..=20).for_each(|timestamp| sender.offer(&request(["a", "b"], timestamp)));
    assert!(!sender.targets.make_room(before), "nobody holds it back");
    assert_eq!(sender.dropped("queue_full"), 2 * 7, "the first is in hand");
    assert!(!sender.targets.make_room(before));
    assert_eq!(sender.dropped("queue_full"), 2 * 7, "they are counted once");
    assert_eq!(sender.journal.needed_by("one"), Some(before));
    open.store(true, Ordering::SeqCst);
    sender.finish().await;
    assert_eq!(timestamps(&receiver.taken(), "a"), [10, 18, 19, 20]);
    assert_eq!(sender.dropped("queue_full"), 2 * 7);
}

#[tokio::test]
async fn a_witness_that_is_let_go_while_it_is_asked_is_counted_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // The witness is never answered in time, and refused then.
    let receiver = Receiver::start(move |post| {
        if post.has("bad") {
            return Reply::Status(500);
        }
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Hang,
            _ => OK,
        }
    })
    .await;
    let patient = TargetSpec { timeout: Duration::from_millis(200), ..spec(receiver.url()) };
    let sender = Sender::start(vec![patient]);
    sender.offer(&request(["bad"], 1));
    sender.offer(&request(["good", "fine"], 2));
    let before = sender.journal.end();
    sender.offer(&request(["good", "fine"], 3));
    eventually("the witness is asked", || asked.load(Ordering::SeqCst) == 1).await;
    sender.targets.make_room(before);
    sender.finish().await;
    assert_eq!((sender.dropped("queue_full"), sender.dropped("poisoned")), (2, 1));
    assert_eq!(timestamps(&receiver.taken(), "good"), [3]);
}

#[tokio::test]
async fn a_target_may_hold_back_the_journal_instead_of_losing_anything() {
    let (receiver, open) = closed_receiver().await;
    let patient = TargetSpec { when_full: WhenFull::HoldBack, ..spec(receiver.url()) };
    let sender = Sender::start(vec![patient]);
    (1..=5).for_each(|timestamp| sender.offer(&request(["a"], timestamp)));
    let before = sender.journal.end();
    sender.offer(&request(["a"], 6));
    assert!(sender.targets.make_room(before), "it waits for what is to go");
    assert_eq!(sender.dropped("queue_full"), 0);
    open.store(true, Ordering::SeqCst);
    receiver.wait_for_taken(6).await;
    eventually("nothing is held back any more", || !sender.targets.make_room(before)).await;
    sender.finish().await;
    assert_eq!(timestamps(&receiver.taken(), "a"), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn what_waits_is_told_by_its_bytes_and_its_age() {
    let (receiver, open) = closed_receiver().await;
    let sender = Sender::to(&receiver);
    sender.journal.append_tick(promantis::edge::clock::unix_ms() - 5000).expect("the journal is open");
    let lag = || sender.metrics.remote_write_lag.get_or_create(&vec![("target", "one".to_owned())]).get();
    assert_eq!((sender.pending(), lag()), (0, 0.0));
    sender.offer(&request(["a"], 1));
    receiver.wait_for_posts(1).await;
    assert!(sender.pending() > 0);
    assert!((5.0..60.0).contains(&lag()), "{} s", lag());
    open.store(true, Ordering::SeqCst);
    eventually("it is taken", || sender.pending() == 0).await;
    assert_eq!(lag(), 0.0);
}
