//! Targets that are sent remote write 2.0, and those that turn out not to speak it.

use promantis::edge::send::TargetSpec;
use promantis::wire::decode::Protocol;

use super::bench::{OK, Sender, request, spec, timestamps};
use crate::support::receiver::{Post, Receiver, Reply};

const WRITTEN: Reply = Reply::With(204, "x-prometheus-remote-write-samples-written", "2");

fn is_v2(post: &Post) -> bool {
    let header = |name: &str| post.headers.get(name).expect("a header").to_str().expect("it is text");
    let v2 = header("content-type") == "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let version = header("x-prometheus-remote-write-version");
    assert_eq!(version, if v2 { "2.0.0" } else { "0.1.0" });
    v2
}

/// Sends three requests to a receiver that answers those of version 2.0 as `reply` says, and compares which versions it
/// sees and how many requests count as accepted. Each sample is to be taken once.
async fn check(reply: fn(&Post) -> Reply, versions: &[bool]) -> Vec<Post> {
    let receiver = Receiver::start(move |post| if is_v2(post) { reply(post) } else { OK }).await;
    let sender = Sender::start(vec![TargetSpec { protocol: Protocol::V2, ..spec(receiver.url()) }]);
    [1, 2, 3].into_iter().for_each(|timestamp| sender.offer(&request(["a", "b"], timestamp)));
    sender.finish().await;
    let posts = receiver.posts();
    assert_eq!(posts.iter().map(is_v2).collect::<Vec<_>>(), versions);
    // Where it does not speak version 2.0, it takes nothing of it, whatever it answers.
    let v1: Vec<_> = posts.into_iter().filter(|post| !is_v2(post)).flat_map(|post| post.samples).collect();
    let taken = if v1.is_empty() { receiver.taken() } else { v1 };
    assert_eq!(timestamps(&taken, "a"), [1, 2, 3]);
    assert_eq!((sender.requests("accepted"), sender.samples("one")), (3, 6));
    assert_eq!(sender.dropped("rejected"), 0);
    receiver.posts()
}

#[tokio::test]
async fn a_target_that_speaks_version_2_is_sent_it() {
    check(|_| WRITTEN, &[true; 3]).await;
    let hiccup = |post: &Post| if post.nth == 1 { Reply::Status(503) } else { WRITTEN };
    let posts = check(hiccup, &[true; 4]).await;
    assert_eq!(posts[1].body, posts[2].body, "a retry is the same");
}

#[tokio::test]
async fn a_target_that_does_not_speak_version_2_is_sent_version_1_and_loses_nothing() {
    // As the specification asks for; as receivers of 1.0 do that read an empty request; as those do that call it damaged.
    for reply in [|_: &Post| Reply::Status(415), |_: &Post| Reply::Status(204), |_: &Post| Reply::Status(400)]
    {
        check(reply, &[true, false, false, false]).await;
    }
}

#[tokio::test]
async fn a_target_that_forgets_version_2_is_noticed() {
    for status in [204, 400, 415] {
        let forgets = move |post: &Post| if post.nth == 0 { WRITTEN } else { Reply::Status(status) };
        let receiver = Receiver::start(move |post| if is_v2(post) { forgets(post) } else { OK }).await;
        let sender = Sender::start(vec![TargetSpec { protocol: Protocol::V2, ..spec(receiver.url()) }]);
        [1, 2, 3].into_iter().for_each(|timestamp| sender.offer(&request(["a"], timestamp)));
        sender.finish().await;
        let versions: Vec<_> = receiver.posts().iter().map(is_v2).collect();
        assert_eq!(versions, [true, true, false, false], "{status}");
        let counts = ["accepted", "unsupported", "rejected"].map(|outcome| sender.requests(outcome));
        assert_eq!(counts, [3, 1, 0], "{status}");
    }
}

#[tokio::test]
async fn a_refusal_in_either_version_says_nothing_of_the_version() {
    let receiver = Receiver::start(|post| match post.nth {
        0 | 1 => Reply::Status(400),
        _ => WRITTEN,
    })
    .await;
    let sender = Sender::start(vec![TargetSpec { protocol: Protocol::V2, ..spec(receiver.url()) }]);
    [1, 2].into_iter().for_each(|timestamp| sender.offer(&request(["a"], timestamp)));
    sender.finish().await;
    assert_eq!(receiver.posts().iter().map(is_v2).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(sender.dropped("rejected"), 1);
}

#[tokio::test]
async fn a_series_that_a_target_of_version_2_refuses_is_found() {
    let refuses = |post: &Post| match post.has("b") {
        true => Reply::With(400, "x-prometheus-remote-write-samples-written", "0"),
        false => WRITTEN,
    };
    let receiver = Receiver::start(refuses).await;
    let sender = Sender::start(vec![TargetSpec { protocol: Protocol::V2, ..spec(receiver.url()) }]);
    sender.offer(&request(["a", "b", "c", "d"], 1));
    sender.finish().await;
    assert!(receiver.posts().iter().all(is_v2));
    let taken = receiver.taken();
    assert_eq!(taken.iter().map(|it| it.series.as_str()).collect::<Vec<_>>(), ["a", "c", "d"]);
    assert_eq!(sender.dropped("rejected"), 1);
}
