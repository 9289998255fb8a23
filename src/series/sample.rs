//! One value at one instant, and the marker that ends a series.

use serde::{Deserialize, Serialize};

/// Bits of the NaN that means "this series ended here" and nothing else.
///
/// Source: remote write 1.0 specification, "Stale Markers".
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// A value at an instant.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Any float, stale markers included.
    pub value: f64,
}

impl PartialEq for Sample {
    /// Compares values by their bits, so that a stale marker equals itself.
    fn eq(&self, other: &Self) -> bool {
        self.timestamp == other.timestamp && self.value.to_bits() == other.value.to_bits()
    }
}

/// The value that ends a series.
pub const fn stale_marker() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` ends a series. An ordinary NaN does not.
pub const fn is_stale_marker(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}
