//! What waits is sent together, as far as a target takes so much at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use promantis::edge::clock::unix_ms;
use promantis::edge::send::{Specs, TargetSpec};

use super::bench::{OK, Sender, request, spec, timestamps};
use crate::support::receiver::{Post, Receiver, Reply, eventually};

/// A receiver that takes nothing until it is opened, and a target that is sent at most six samples at once.
struct Gate {
    open: Arc<AtomicBool>,
    receiver: Receiver,
    sender: Sender,
}

impl Gate {
    async fn start(then: impl Fn(&Post) -> Reply + Send + Sync + 'static, target: TargetSpec) -> Self {
        let open = Arc::new(AtomicBool::new(false));
        let gate = Arc::clone(&open);
        let reply =
            move |post: &Post| if gate.load(Ordering::SeqCst) { then(post) } else { Reply::Status(503) };
        let receiver = Receiver::start(reply).await;
        let url = spec(receiver.url()).url;
        let sender = Sender::start(vec![TargetSpec { url, max_samples_per_send: 6, ..target }]);
        Self { open, receiver, sender }
    }

    /// Lets the first request be refused alone before the others come, and sends all.
    async fn send(&self, timestamps: &[i64]) {
        for (place, timestamp) in timestamps.iter().enumerate() {
            self.sender.offer(&request(["a", "b"], *timestamp));
            if place == 0 {
                self.receiver.wait_for_posts(1).await;
            }
        }
        self.open.store(true, Ordering::SeqCst);
        self.sender.finish().await;
    }

    /// Samples in each request that was taken.
    fn taken(&self) -> Vec<usize> {
        let posts = self.receiver.posts();
        let refused = self.sender.requests("recoverable") as usize;
        posts[refused..].iter().map(|post| post.samples.len()).collect()
    }
}

fn anywhere() -> TargetSpec {
    spec("http://127.0.0.1:1/".parse().expect("a URL"))
}

#[tokio::test]
async fn what_waits_is_sent_together_in_order_and_no_more_than_the_target_takes() {
    let gate = Gate::start(|_| OK, anywhere()).await;
    gate.send(&[1, 2, 3, 4, 5, 6, 7, 8]).await;
    assert_eq!(gate.taken(), [2, 6, 6, 2]);
    for series in ["a", "b"] {
        assert_eq!(timestamps(&gate.receiver.taken(), series), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
    assert_eq!((gate.sender.requests("accepted"), gate.sender.samples("one")), (4, 16));
    assert_eq!(gate.sender.journal.needed_by("one"), None, "nothing of it is kept");
}

#[tokio::test]
async fn a_sample_that_is_refused_costs_nothing_that_was_sent_with_it() {
    let bad = |post: &Post| post.samples.iter().any(|sample| sample.series == "b" && sample.timestamp == 3);
    let gate = Gate::start(move |post| if bad(post) { Reply::Status(400) } else { OK }, anywhere()).await;
    gate.send(&[1, 2, 3, 4, 5]).await;
    assert_eq!(gate.sender.dropped("rejected"), 1);
    let taken = gate.receiver.taken();
    assert_eq!(timestamps(&taken, "a"), [1, 2, 3, 4, 5]);
    assert_eq!(timestamps(&taken, "b"), [1, 2, 4, 5]);
}

#[tokio::test]
async fn what_is_too_old_is_not_sent_with_what_is_not() {
    let now = unix_ms();
    let aged = TargetSpec { max_sample_age: Some(Duration::from_secs(3600)), ..anywhere() };
    let gate = Gate::start(|_| OK, aged).await;
    gate.send(&[now, now + 1, 5, now + 2]).await;
    assert_eq!(gate.sender.dropped("too_old"), 2);
    assert_eq!(gate.taken(), [2, 2, 2]);
    assert_eq!(timestamps(&gate.receiver.taken(), "a"), [now, now + 1, now + 2]);
}

#[tokio::test]
async fn what_is_refused_together_goes_one_by_one_and_what_follows_together_again() {
    let bad = |post: &Post| post.samples.iter().any(|sample| sample.series == "b" && sample.timestamp == 3);
    let gate = Gate::start(move |post| if bad(post) { Reply::Status(400) } else { OK }, anywhere()).await;
    gate.send(&[1, 2, 3, 4, 5, 6, 7]).await;
    // 2 to 4 together; alone, with 3 in halves; 5 to 7 together.
    assert_eq!(gate.taken(), [2, 6, 2, 2, 1, 1, 2, 6]);
}

#[tokio::test]
async fn what_is_in_hand_when_its_target_goes_is_counted_once() {
    let gate = Gate::start(|_| Reply::Hang, anywhere()).await;
    (1..=5).for_each(|timestamp| gate.sender.offer(&request(["a", "b"], timestamp)));
    gate.receiver.wait_for_posts(1).await;
    gate.open.store(true, Ordering::SeqCst);
    let asked = gate.receiver.posts().len();
    gate.receiver.wait_for_posts(asked + 1).await;
    gate.sender.targets.replace(Specs::default());
    eventually("all is counted", || gate.sender.dropped("target_removed") == 10).await;
    assert_eq!(gate.sender.samples("one"), 0);
}
