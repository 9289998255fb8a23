//! What trials share with the integration tests, and how they keep out of each other's way.

use std::env;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[path = "../it/support/http.rs"]
pub(crate) mod http;
#[path = "../it/support/peers.rs"]
pub(crate) mod peers;
#[path = "../it/support/stores.rs"]
pub(crate) mod stores;
#[path = "../it/support/until.rs"]
pub(crate) mod until;

/// Held by the trial that runs: two at once would measure each other.
static FLOOR: Mutex<()> = Mutex::new(());

/// Waits for the trials before this one.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    // One that failed has stopped all that it started.
    FLOOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number in the environment variable `name`, or `default`.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
}

/// Lets `duration` pass, all of it.
pub(crate) fn pass(duration: Duration) {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}
