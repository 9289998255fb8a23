//! Lets one log line through in a while, and counts those it held back.

use std::time::{Duration, Instant};

/// Time between two lines that say the same.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Memory of the last line of one kind.
#[derive(Default, Debug)]
pub(super) struct Throttle {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// How many lines were held back since the last one, if a line may be written at `now`.
    pub(super) fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_LINES) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_line_is_written_every_ten_seconds_with_the_count_of_the_others() {
        let start = Instant::now();
        let mut throttle = Throttle::default();
        let mut at = |seconds| throttle.pass(start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 9, 10, 11, 25].map(&mut at), [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
