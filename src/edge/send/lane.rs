//! One lane of one target: a task with one request in flight, so that each series keeps its order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::delivery::{Delivery, Next, Part, Verdict};
use super::outcome::{Outcome, is_about_content};
use super::retry::Backoff;
use super::target::Target;
use super::{Clock, Outgoing};

/// How old the samples of a request may be that is sent again as a witness, milliseconds. What is older may be
/// refused for its age alone, by some targets with a 500.
const FRESH_MS: i64 = 10 * 60_000;

/// Why a lane is to end at once: value of the label `reason`; `None` while it may run.
pub(super) type Stop = Option<&'static str>;

/// A lane before it runs.
pub(super) struct Lane {
    pub(super) target: Arc<Target>,
    /// Which of the target's queues it serves.
    pub(super) number: usize,
    pub(super) clock: Clock,
    pub(super) stop: watch::Receiver<Stop>,
}

impl Lane {
    /// Sends until the queue is drained or the lane is stopped. Returns the samples of the request in hand
    /// that were not delivered, and counts them; one whose answer was still awaited is among them.
    pub(super) async fn run(mut self) -> usize {
        let mut hand = None;
        let mut stop = self.stop.clone();
        let reason = tokio::select! {
            biased;
            reason = stopped(&mut stop) => reason,
            () = self.work(&mut hand) => return 0,
        };
        let samples = hand.as_ref().map_or(0, Delivery::samples_left);
        self.target.dropped(samples, reason);
        samples
    }

    async fn work(&mut self, hand: &mut Option<Delivery>) {
        let mut last = None;
        while let Some(request) = self.target.queue.take(self.number).await {
            let delivery = hand.insert(Delivery::new(request));
            self.deliver(delivery, last.as_deref()).await;
            last = delivery.taken_whole().or(last);
            *hand = None;
        }
    }

    /// Brings one request to its end, however long that takes. `last` is what the target took whole before.
    async fn deliver(&self, delivery: &mut Delivery, last: Option<&Outgoing>) {
        let spec = &self.target.endpoint().spec;
        let mut backoff = Backoff::new(spec.backoff_min, spec.backoff_max);
        let mut distance = 0_usize;
        loop {
            if self.is_too_old(delivery.newest()) {
                return self.target.dropped(delivery.samples_left(), "too_old");
            }
            match delivery.next() {
                Next::Done => return,
                Next::Send(part) => self.send(delivery, part, &mut backoff).await,
                Next::AskAnother => {
                    let other = match last.filter(|last| self.is_fresh(last.newest)) {
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
    /// it says whether the target is well. One that is taken waits no longer; any other stays where it is.
    ///
    /// The next one is asked first, since nothing is overtaken then but the request in hand. Where that is
    /// no better, ones further on are, up to the newest: a whole stretch may be poisoned.
    async fn ask_another(&self, distance: usize) -> Outcome {
        let Some(other) = self.target.queue.peek(self.number, distance) else { return Outcome::UNHEARD };
        let part = Part { body: other.body.clone(), samples: other.samples };
        let outcome = self.target.post(part).await;
        if outcome == Outcome::Accepted {
            self.target.queue.remove(self.number, &other);
        }
        outcome
    }

    /// Whether a sample of `timestamp` is young enough for any target to take it again.
    fn is_fresh(&self, timestamp: i64) -> bool {
        (self.clock)().saturating_sub(timestamp) < FRESH_MS
    }

    /// Whether a sample of `timestamp` is past the age that the target takes.
    fn is_too_old(&self, timestamp: i64) -> bool {
        let Some(age) = self.target.endpoint().spec.max_sample_age else { return false };
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        timestamp < (self.clock)().saturating_sub(age)
    }
}

async fn pause(backoff: &mut Backoff, outcome: Outcome) {
    let asked_for: Option<Duration> = match outcome {
        Outcome::Recoverable { retry_after, .. } => retry_after,
        Outcome::Accepted | Outcome::Rejected { .. } => None,
    };
    tokio::time::sleep(backoff.pause(asked_for)).await;
}

/// The reason to stop, when there is one. Where nobody is left to give one, the process is ending.
async fn stopped(stop: &mut watch::Receiver<Stop>) -> &'static str {
    match stop.wait_for(Option::is_some).await {
        Ok(reason) => reason.unwrap_or("shutdown"),
        Err(_) => "shutdown",
    }
}
