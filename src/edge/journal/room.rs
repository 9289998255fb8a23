//! Room: what the journal lets go.

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
}
