//! Where the lanes of one target wait for each other: series change lanes with the number of shards.

use tokio::sync::watch;

/// How far each lane is.
#[derive(Debug)]
pub(super) struct Passage {
    /// For each lane, the sequence below which all is delivered or counted.
    lanes: watch::Sender<Vec<u64>>,
}

impl Passage {
    /// For lanes that have come so far.
    pub(super) fn new(lanes: Vec<u64>) -> Self {
        Self { lanes: watch::Sender::new(lanes) }
    }

    /// `lane` has nothing to send any more below `next`.
    pub(super) fn reach(&self, lane: u16, next: u64) {
        self.lanes.send_if_modified(|lanes| match lanes.get_mut(usize::from(lane)) {
            Some(reached) if *reached < next => {
                *reached = next;
                true
            }
            _ => false,
        });
    }

    /// `lane` has nothing to send any more up to `sequence`. Waits until that is so for all lanes.
    pub(super) async fn cross(&self, lane: u16, sequence: u64) {
        self.reach(lane, sequence.saturating_add(1));
        let mut lanes = self.lanes.subscribe();
        // The sender lives as long as `self`.
        let _ = lanes.wait_for(|lanes| lanes.iter().all(|reached| *reached > sequence)).await;
    }

    /// `lane` holds up nobody any more.
    pub(super) fn leave(&self, lane: u16) {
        self.reach(lane, u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_crosses_before_all_have_come() {
        let passage = Passage::new(vec![3, 9, 0]);
        let crossing = passage.cross(0, 8);
        tokio::pin!(crossing);
        let mut is_open = async || {
            tokio::select! { biased; () = &mut crossing => true, () = std::future::ready(()) => false }
        };
        passage.reach(2, 8);
        assert!(!is_open().await, "a lane has not passed 8 yet");
        passage.reach(2, 9);
        assert!(is_open().await);
    }

    #[tokio::test]
    async fn who_leaves_is_waited_for_no_longer() {
        let passage = Passage::new(vec![0, 0]);
        passage.leave(1);
        passage.cross(0, 8).await;
    }
}
