//! The time guard: what is too far ahead of its record's arrival does not leave.

/// How far ahead of its arrival a derived sample may be, in milliseconds. Prometheus 2.42 stops taking
/// samples altogether after one that is more than an hour ahead.
pub const AHEAD_MS_MAX: i64 = 60_000;

/// Decides for each sample that one record brings forth whether it may leave.
#[derive(Clone, Copy, Debug)]
pub struct TimeGuard {
    latest: i64,
    held_back: u64,
}

impl TimeGuard {
    /// The guard over what a record that came at `arrival`, in Unix milliseconds, brings forth.
    pub fn new(arrival: i64) -> Self {
        Self { latest: arrival.saturating_add(AHEAD_MS_MAX), held_back: 0 }
    }

    /// Whether so many samples of `timestamp` may leave; counts them if not.
    pub fn admits(&mut self, timestamp: i64, samples: usize) -> bool {
        let admitted = timestamp <= self.latest;
        self.held_back += if admitted { 0 } else { samples as u64 };
        admitted
    }

    /// How many samples were not let through.
    pub fn held_back(&self) -> u64 {
        self.held_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_ahead_may_leave_and_no_more() {
        let mut guard = TimeGuard::new(1_000);
        assert!(guard.admits(i64::MIN, 1));
        assert!(guard.admits(61_000, 1));
        assert!(!guard.admits(61_001, 1));
        assert!(!guard.admits(i64::MAX, 6));
        assert_eq!(guard.held_back(), 7);
        assert!(TimeGuard::new(i64::MAX).admits(i64::MAX, 1));
    }
}
