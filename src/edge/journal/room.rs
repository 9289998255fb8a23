//! Room: what the journal lets go, and when something has to go.

use super::Journal;
use crate::edge::telemetry::count;

impl Journal {
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
