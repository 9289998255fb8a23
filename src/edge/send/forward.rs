//! The one lane of a forward target: requests as they came, byte for byte, in order.
//!
//! They belong to their sender: they are never cut, and sent again for as long as the target may still take them.
//! What it refuses for good is dropped and counted, since nothing behind it would ever be sent otherwise.

use std::sync::Arc;

use tokio::sync::watch;

use super::Phase;
use super::feed::Feed;
use super::lane::{pause, stopped};
use super::outcome::Outcome;
use super::target::Target;
use crate::edge::journal::{Received, record};

/// A lane before it runs.
pub(super) struct Forward {
    pub(super) target: Arc<Target>,
    pub(super) feed: Feed,
}

impl Forward {
    /// Sends until the target is drained or stopped. Returns how many requests are in hand then and given up: none
    /// or one, which it counts.
    pub(super) async fn run(mut self, mut phase: watch::Receiver<Phase>) -> usize {
        let mut in_hand = 0;
        let reason = tokio::select! {
            biased;
            reason = stopped(&mut phase) => reason,
            () = self.work(&mut in_hand) => None,
        };
        self.feed.leave();
        let Some(reason) = reason else { return 0 };
        self.target.dropped(in_hand, reason);
        in_hand
    }

    async fn work(&mut self, in_hand: &mut usize) {
        while let Some(record) = self.feed.next().await {
            let Some(request) = record::request(&record).filter(|request| request.forward) else {
                self.feed.place.skip();
                continue;
            };
            *in_hand = 1;
            self.deliver(&request).await;
            *in_hand = 0;
            self.feed.place.done();
        }
    }

    async fn deliver(&self, request: &Received) {
        let mut backoff = self.target.backoff();
        loop {
            let outcome = self.target.forward(request).await;
            match outcome {
                Outcome::Accepted | Outcome::Rejected { .. } => return,
                Outcome::Recoverable { .. } => pause(&mut backoff, outcome).await,
            }
        }
    }
}
