//! Bytes that all requests together may hold in memory.
//!
//! Nobody waits for bytes: a request that gets none is sent away and comes again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::edge::telemetry::Metrics;

/// A number of bytes to lend.
#[derive(Debug)]
pub(super) struct Budget {
    lent: AtomicUsize,
    max: usize,
    metrics: Arc<Metrics>,
}

/// Bytes lent to one request, until dropped.
#[derive(Debug)]
pub(super) struct Loan {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { lent: AtomicUsize::new(0), max, metrics })
    }

    /// A loan of nothing, to be grown.
    pub(super) fn open(self: &Arc<Self>) -> Loan {
        Loan { budget: Arc::clone(self), bytes: 0 }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }
}

impl Loan {
    /// Grows the loan to `bytes`; false when there is too little left, and then it stays as it was.
    pub(super) fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let lend = |lent: usize| lent.checked_add(more).filter(|lent| *lent <= self.budget.max);
        if self.budget.lent.fetch_update(Ordering::AcqRel, Ordering::Acquire, lend).is_err() {
            return false;
        }
        self.bytes += more;
        self.budget.metrics.request_bytes_in_flight.inc_by(signed(more));
        true
    }

    /// Grows the loan by `bytes`, as [`Self::grow_to`] does.
    pub(super) fn grow_by(&mut self, bytes: usize) -> bool {
        self.grow_to(self.bytes.saturating_add(bytes))
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.budget.lent.fetch_sub(self.bytes, Ordering::AcqRel);
        self.budget.metrics.request_bytes_in_flight.dec_by(signed(self.bytes));
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lends_no_more_than_there_is_and_takes_back_what_is_dropped() {
        let metrics = Arc::new(Metrics::new());
        let budget = Budget::new(100, Arc::clone(&metrics));
        let (mut one, mut two) = (budget.open(), budget.open());
        assert!(one.grow_to(60));
        assert!(!two.grow_to(41));
        assert!(two.grow_to(40));
        assert!(one.grow_to(50), "a loan never shrinks");
        assert!(!one.grow_by(1));
        assert_eq!(metrics.request_bytes_in_flight.get(), 100);
        drop(one);
        assert!(two.grow_to(100));
        drop(two);
        assert_eq!(metrics.request_bytes_in_flight.get(), 0);
    }

    #[test]
    fn an_absurd_size_is_refused() {
        let mut loan = Budget::new(100, Arc::new(Metrics::new())).open();
        assert!(loan.grow_to(1));
        assert!(!loan.grow_by(usize::MAX));
    }
}
