//! One lane of one target: a task with one request in flight, so that each series keeps its order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::delivery::{Delivery, Next, Part, Verdict};
use super::feed::Feed;
use super::outcome::{Outcome, is_about_content};
use super::retry::Backoff;
use super::target::Target;
use super::{Clock, Outgoing, Phase, REQUEST_BYTES_MAX};
use crate::edge::journal::record;
use crate::wire::snappy;

/// How old the samples of a request may be that is sent again as a witness, milliseconds. What is older may be
/// refused for its age alone, by some targets with a 500.
const FRESH_MS: i64 = 10 * 60_000;

/// A lane before it runs.
pub(super) struct Lane {
    pub(super) target: Arc<Target>,
    pub(super) feed: Feed,
    pub(super) clock: Clock,
    /// Samples of the witness whose answer is awaited.
    pub(super) asked: usize,
}

impl Lane {
    /// Sends until the target is drained or stopped. Returns the samples of the request in hand that were not
    /// delivered and will not be, and counts them; one whose answer was still awaited is among them.
    pub(super) async fn run(mut self, mut phase: watch::Receiver<Phase>) -> usize {
        let mut hand = None;
        let reason = tokio::select! {
            biased;
            reason = stopped(&mut phase) => reason,
            () = self.work(&mut hand) => None,
        };
        self.feed.leave();
        let Some(reason) = reason else { return 0 };
        let samples = hand.as_ref().map_or(0, Delivery::samples_left) + self.asked;
        self.target.dropped(samples, reason);
        samples
    }

    async fn work(&mut self, hand: &mut Option<Delivery>) {
        let mut last = None;
        // What was sent together in vain goes one by one: only so is it known what a refusal is about, and what may be
        // sent in between.
        let mut alone_below = 0;
        while let Some(record) = self.feed.next().await {
            let Some(request) = record::outgoing(&record) else {
                tracing::error!(
                    sequence = record.head.sequence,
                    "a derived request in the journal is malformed"
                );
                self.feed.place.skip();
                continue;
            };
            let request = Arc::new(request);
            if record.head.sequence >= alone_below
                && let Some(all) = self.with_those_behind(&request)
            {
                let delivery = hand.insert(Delivery::new(Arc::new(Outgoing::joined(&all))));
                let outcome = self.send_at_once(delivery).await;
                if outcome == Outcome::Accepted {
                    last = delivery.taken_whole();
                    *hand = None;
                    self.feed.place.done();
                    continue;
                }
                alone_below = self.feed.behind_hand();
                let others = delivery.samples_left() - request.samples;
                *delivery = Delivery::new(Arc::clone(&request));
                if let Some(reason) = self.feed.give_back() {
                    self.target.dropped(others, reason);
                }
                pause(&mut self.target.backoff(), outcome).await;
            }
            let delivery = hand.get_or_insert_with(|| Delivery::new(request));
            self.deliver(delivery, last.as_deref()).await;
            last = delivery.taken_whole().or(last);
            *hand = None;
            self.feed.place.done();
        }
    }

    /// A request and what waits right behind it, as far as the target takes so much at once; `None` where nothing does.
    /// A request costs both ends as much as hundreds of samples do.
    fn with_those_behind(&mut self, first: &Outgoing) -> Option<Vec<Outgoing>> {
        let samples_max = self.target.endpoint().spec.max_samples_per_send;
        let (now, age_max) = ((self.clock)(), self.age_max());
        let mut bytes = snappy::declared_len(&first.body, REQUEST_BYTES_MAX).ok()?;
        if is_older(first.newest, now, age_max) {
            return None;
        }
        let (mut samples, mut all) = (first.samples, vec![first.clone()]);
        while let Some(next) = self.feed.next_too(|next| {
            let more = snappy::declared_len(&next.body, REQUEST_BYTES_MAX - bytes);
            let fits = more.is_ok() && samples + next.samples <= samples_max;
            bytes += more.unwrap_or_default();
            fits && !is_older(next.newest, now, age_max)
        }) {
            samples += next.samples;
            all.push(next);
        }
        (all.len() > 1).then_some(all)
    }

    /// Sends a request once.
    async fn send_at_once(&self, delivery: &mut Delivery) -> Outcome {
        let Next::Send(part) = delivery.next() else { return Outcome::UNHEARD };
        let outcome = self.target.post(part).await;
        if outcome == Outcome::Accepted {
            delivery.answered(outcome);
        }
        outcome
    }

    /// Brings one request to its end, however long that takes. `last` is what the target took whole before.
    async fn deliver(&mut self, delivery: &mut Delivery, last: Option<&Outgoing>) {
        let mut backoff = self.target.backoff();
        let mut distance = 0_usize;
        loop {
            if self.is_too_old(delivery.newest()) {
                return self.target.dropped(delivery.samples_left(), "too_old");
            }
            match delivery.next() {
                Next::Done => return,
                Next::Send(part) => self.send(delivery, part, &mut backoff).await,
                Next::AskAnother => {
                    let other = match last.filter(|last| self.is_fresh(last.oldest)) {
                        Some(last) => self.ask_again(last).await,
                        None => self.ask_another(distance).await,
                    };
                    delivery.witnessed(other);
                    if other == Outcome::Accepted {
                        distance = 0;
                    } else {
                        distance = distance.saturating_mul(2).saturating_add(1);
                        pause(&mut backoff, other).await;
                    }
                }
            }
        }
    }

    async fn send(&self, delivery: &mut Delivery, part: Part, backoff: &mut Backoff) {
        let outcome = self.target.post(part).await;
        match delivery.answered(outcome) {
            Verdict::GoOn if outcome == Outcome::Accepted => backoff.reset(),
            Verdict::GoOn => {}
            Verdict::Lost(loss) => self.target.lost(&loss),
            Verdict::Wait => pause(backoff, outcome).await,
        }
    }

    /// Sends again what the target took last: whether it takes that, or says why not, tells whether it is
    /// well. The samples are the same, so nothing is overtaken, whenever the target recovers.
    async fn ask_again(&self, last: &Outgoing) -> Outcome {
        let part = Part { body: last.body.clone(), samples: 0 };
        match self.target.post(part).await {
            Outcome::Rejected { status } if is_about_content(status) => Outcome::Accepted,
            outcome => outcome,
        }
    }

    /// Sends a request that waits behind the one in hand, `distance` further on: whether the target takes
    /// it says whether the target is well. One that is taken is passed over in its turn; any other stays where it is.
    ///
    /// The next one is asked first, since nothing is overtaken then but the request in hand. Where that is
    /// no better, ones further on are, up to the newest: a whole stretch may be poisoned.
    async fn ask_another(&mut self, distance: usize) -> Outcome {
        let Some(record) = self.feed.peek(distance).await else { return Outcome::UNHEARD };
        let Some(other) = record::outgoing(&record) else { return Outcome::UNHEARD };
        if !self.feed.place.ask(record.head.sequence) {
            return Outcome::UNHEARD;
        }
        self.asked = other.samples;
        let outcome = self.target.post(Part { body: other.body, samples: other.samples }).await;
        self.asked = 0;
        let taken = outcome == Outcome::Accepted;
        if let Some(reason) = self.feed.place.answered(taken) {
            self.target.dropped(other.samples, reason);
        }
        if taken {
            self.feed.look_anew();
        }
        outcome
    }

    /// Whether a sample of `timestamp` is young enough for any target to take it again.
    fn is_fresh(&self, timestamp: i64) -> bool {
        (self.clock)().saturating_sub(timestamp) < FRESH_MS
    }

    /// Whether a sample of `timestamp` is past the age that the target takes.
    fn is_too_old(&self, timestamp: i64) -> bool {
        is_older(timestamp, (self.clock)(), self.age_max())
    }

    /// How old a sample may be that the target takes, milliseconds.
    fn age_max(&self) -> Option<i64> {
        let age = self.target.endpoint().spec.max_sample_age?;
        Some(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
    }
}

fn is_older(timestamp: i64, now: i64, age_max: Option<i64>) -> bool {
    age_max.is_some_and(|age| timestamp < now.saturating_sub(age))
}

/// Waits as `backoff` says, or as long as the target asked for.
pub(super) async fn pause(backoff: &mut Backoff, outcome: Outcome) {
    let asked_for: Option<Duration> = match outcome {
        Outcome::Recoverable { retry_after, .. } => retry_after,
        Outcome::Accepted | Outcome::Rejected { .. } => None,
    };
    tokio::time::sleep(backoff.pause(asked_for)).await;
}

/// Why what is in hand is given up, once the lane is to stop; `None` where it is not. Where nobody is left to say so,
/// the process is ending.
pub(super) async fn stopped(phase: &mut watch::Receiver<Phase>) -> Option<&'static str> {
    match phase.wait_for(|phase| matches!(phase, Phase::Stop(_))).await.as_deref() {
        Ok(Phase::Stop(reason)) => *reason,
        _ => None,
    }
}
