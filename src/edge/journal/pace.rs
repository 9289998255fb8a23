//! How time goes on in the journal: by the wall clock, but never back, and never slower than it passes.
//!
//! A wall clock that was ahead for a moment leaves a record in the future. Until that is reached all that comes would
//! arrive at one instant, and whatever waits for time to pass would wait.

use std::time::Instant;

/// The newest arrival, and when it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pace {
    /// Unix milliseconds.
    arrival: i64,
    at: Instant,
}

impl Pace {
    /// Goes on from `arrival`, Unix milliseconds, which is taken to be now.
    pub(super) fn from(arrival: i64, now: Instant) -> Self {
        Self { arrival, at: now }
    }

    /// Unix milliseconds at `at`, when the wall clock says `unix_ms`.
    pub(super) fn time(&self, unix_ms: i64, at: Instant) -> i64 {
        let passed = at.saturating_duration_since(self.at).as_millis();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        self.arrival.saturating_add(passed).max(unix_ms)
    }

    /// A record that came at `at` was said to arrive then. What came earlier and was decoded later changes nothing.
    pub(super) fn took(&mut self, arrival: i64, at: Instant) {
        if arrival > self.arrival {
            *self = Self { arrival, at };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Records of wall clock and monotonic clock, milliseconds, and when they should arrive.
    fn check(records: &[(i64, u64, i64)]) {
        let start = Instant::now();
        let mut pace = Pace::from(i64::MIN, start);
        for &(unix_ms, passed, expected) in records {
            let at = start + Duration::from_millis(passed);
            let arrival = pace.time(unix_ms, at);
            assert_eq!(arrival, expected, "{unix_ms} at {passed} ms of {records:?}");
            pace.took(arrival, at);
        }
    }

    /// Everything that came after a leap of the clock arrived at one instant, until the clock got there.
    #[test]
    fn time_passes_at_its_own_speed_after_a_clock_that_was_ahead() {
        check(&[
            (1000, 0, 1000),
            (1500, 500, 1500),
            (9000, 510, 9000),
            (1600, 600, 9090),
            (3000, 2000, 10_490),
        ]);
        check(&[(9000, 0, 9000), (1000, 0, 9000), (8999, 10, 9010), (9500, 20, 9500)]);
    }

    #[test]
    fn the_wall_clock_counts_while_it_is_not_behind() {
        check(&[(-5, 0, -5), (10, 7, 10), (10_000, 8, 10_000), (10_001, 9, 10_001)]);
        check(&[(i64::MAX, 0, i64::MAX), (0, 1000, i64::MAX)]);
    }

    #[test]
    fn what_came_earlier_and_took_longer_does_not_drive_time_on() {
        check(&[(1100, 100, 1100), (1000, 0, 1100), (1200, 200, 1200)]);
    }
}
