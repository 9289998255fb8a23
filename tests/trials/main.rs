//! Trials of the promises: crashes, power losses, outages and attacks, many times over.
//!
//! Run them optimised: `cargo test --release --test trials`.

mod attacks;
mod crash;
mod determinism;
mod ledger;
mod load;
mod outage;
mod power;
mod power_log;
mod random;
mod sim;
mod sink;
mod stage;
mod stop;
mod support;
