//! How long to pause before a request is sent again: doubling, between two limits.

use std::time::Duration;

/// Pauses of one request's retries.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `min`, doubles, stays at `max`; where `max` is below `min`, at `min`.
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), next: min }
    }

    /// The next pause: what the target asked for, if that is longer.
    pub(super) fn pause(&mut self, retry_after: Option<Duration>) -> Duration {
        let pause = self.next;
        self.next = self.next.saturating_mul(2).min(self.max);
        pause.max(retry_after.unwrap_or_default())
    }

    /// Something was taken: the next failure starts anew.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn pauses_double_up_to_the_limit_and_start_anew() {
        let mut backoff = Backoff::new(ms(30), ms(5000));
        let pauses: Vec<u128> = (0..10).map(|_| backoff.pause(None).as_millis()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 960, 1920, 3840, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.pause(None), ms(30));
    }

    #[test]
    fn a_longer_wait_that_was_asked_for_wins() {
        let mut backoff = Backoff::new(ms(30), ms(5000));
        assert_eq!(backoff.pause(Some(ms(7000))), ms(7000));
        assert_eq!(backoff.pause(Some(ms(1))), ms(60));
    }

    proptest! {
        /// Never shorter than the least pause, never longer than the greatest unless asked for.
        #[test]
        fn pauses_stay_within_their_limits(min in 0u64..1000, max in 0u64..100_000, times in 1usize..100) {
            let mut backoff = Backoff::new(ms(min), ms(max));
            for _ in 0..times {
                let pause = backoff.pause(None);
                prop_assert!(pause >= ms(min) && pause <= ms(max.max(min)));
            }
        }
    }
}
