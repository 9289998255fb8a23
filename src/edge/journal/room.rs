//! Room: what the journal lets go, and when something has to go.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use super::{Full, Journal, State};
use crate::edge::telemetry::count;

/// Which part of the bytes that may wait for engines is easy for them: a few requests, which are still in the caches of
/// the processor when their turn comes.
const EASY_PART: usize = 8;
/// How long a sender is kept waiting for that; then its request is taken as long as there is room at all.
const KEPT_MAX: Duration = Duration::from_secs(1);

impl Journal {
    /// Waits for a moment while much waits for engines, and tells whether a small request would be taken then. Asked
    /// before any work is done for one: a sender that waits for its answer comes with no more, and one that is refused
    /// comes with the same again.
    ///
    /// # Errors
    /// [`Full`], without waiting where that would not change it.
    pub async fn make_room(&self) -> Result<(), Full> {
        // Many are told at once, and all but the first few find that they have to wait again.
        let eased = async {
            loop {
                let mut eased = pin!(self.eased.notified());
                eased.as_mut().enable();
                if self.is_easy_or_refused() {
                    return;
                }
                eased.await;
            }
        };
        if !self.is_easy_or_refused() {
            let _ = timeout(KEPT_MAX, eased).await;
        }
        self.refusal().map_or(Ok(()), Err)
    }

    /// Whether a small request would be taken now.
    pub fn has_room(&self) -> bool {
        self.refusal().is_none()
    }

    /// Why even a small request would not be taken now.
    pub fn refusal(&self) -> Option<Full> {
        self.refused(&self.lock())
    }

    pub(super) fn refused(&self, state: &State) -> Option<Full> {
        if let Err(full) = state.open() {
            return Some(full);
        }
        let (waiting, max) = (state.waiting.bytes(), self.waiting_max);
        if waiting >= max {
            return Some(Full::NoRoom { waiting, max });
        }
        if state.held.is_some() {
            return Some(Full::HeldBack);
        }
        let bytes = self.log.bytes();
        (bytes >= self.max_bytes).then_some(Full::TooLarge { bytes, max: self.max_bytes })
    }

    /// Whether there is nothing that a request would have to wait for.
    fn is_easy_or_refused(&self) -> bool {
        let state = self.lock();
        self.is_easy(&state)
            || matches!(self.refused(&state), Some(full) if !matches!(full, Full::NoRoom { .. }))
    }

    /// Whether little waits for engines.
    pub(super) fn is_easy(&self, state: &State) -> bool {
        state.waiting.bytes() <= self.waiting_max / EASY_PART
    }

    /// Lets go what neither engines nor targets need, and nobody from `keep` on.
    pub fn trim(&self, keep: u64) {
        if let Err(error) = self.log.trim(self.needless(keep)) {
            count(&self.metrics.journal_errors, "operation", "remove", 1);
            tracing::warn!(%error, "a segment of the journal that nobody needs cannot be removed");
        }
        self.metrics.journal_bytes.set(i64::try_from(self.log.bytes()).unwrap_or(i64::MAX));
    }

    /// The sequence below which nobody needs anything, `keep` at most.
    pub(super) fn needless(&self, keep: u64) -> u64 {
        let state = self.lock();
        let needed = [state.ledger.needed(), state.waiting.needed()].into_iter().flatten().min();
        // Somebody may need what comes after this look.
        needed.unwrap_or(u64::MAX).min(keep).min(self.log.next())
    }

    /// The sequence up to which records have to go for the journal to stay within its limits, if any has to: it is
    /// nearly full, or has all that the disk has room for. That of one segment; there may be more to do then.
    pub fn pressed(&self) -> Option<u64> {
        let nearly_full = self.log.bytes() >= self.max_bytes - self.max_bytes / 8;
        let disk_full = || self.lock().broken.as_ref().is_some_and(|broken| broken.is_full);
        if nearly_full || disk_full() { self.log.oldest_end() } else { None }
    }

    /// The sequence below which everything came before `arrival`, Unix milliseconds, by whole segments; `None` where
    /// not even the oldest is so old.
    pub fn outdated(&self, arrival: i64) -> Option<u64> {
        self.log.end_before(arrival)
    }

    /// Takes no requests while some target has not got everything below a sequence, and must not lose it.
    pub fn hold(&self, until: Option<u64>) {
        self.lock().held = until;
    }

    /// Whether the disk takes what is written.
    pub fn is_writable(&self) -> bool {
        self.lock().broken.is_none()
    }
}
