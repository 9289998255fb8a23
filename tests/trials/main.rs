//! Trials of the promises: crashes, power losses, outages and attacks, many times over.
//!
//! Run them optimised: `cargo test --release --test trials`.

mod attacks;
