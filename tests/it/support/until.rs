//! Waiting for something to become true, no longer than a deadline.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks `probe` again and again until it has an answer; fails the test after `patience`.
#[track_caller]
pub(crate) fn until<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        std::thread::park_timeout(PAUSE);
    }
}
