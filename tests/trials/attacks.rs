//! Attacks on the real program over real sockets, with its memory watched.
//!
//! `cargo test --release --test trials attacks -- --nocapture` prints what was measured. They follow one another,
//! and want a machine that does little else.

mod amplification;
mod cardinality;
mod client;
mod declared_length;
mod figures;
mod odd_values;
mod sink;
mod slow_connections;
mod time_guard;
mod victim;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by each attack: two at once would measure each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A count from the environment, or `default`.
fn count(variable: &str, default: u64) -> u64 {
    let told = std::env::var(variable).ok();
    told.map_or(default, |told| told.parse().unwrap_or_else(|_| panic!("{variable} is no count: {told:?}")))
}
