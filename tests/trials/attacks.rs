//! Attacks on the real program over real sockets, with its memory watched.
//!
//! `cargo test --release --test trials attacks -- --nocapture` prints what was measured.

mod amplification;
mod client;
mod declared_length;
mod figures;
mod victim;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by each attack: two at once would measure each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
