//! The wish to end early, seen by all threads of a run, so that what it started is ended in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Not raised at first; never taken back.
#[derive(Clone, Default, Debug)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(super) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// When it is raised.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.0.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }
}
