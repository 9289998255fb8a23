//! Messages of remote write as prost generates them.
//!
//! Not on the hot path: they build requests where speed is of no matter, and are the oracle that the
//! borrowing decoder is tested against.

/// Remote write 1.0, package `prometheus.write.v1`.
#[allow(missing_docs, reason = "generated; the schema is the documentation")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/prometheus.write.v1.rs"));
}

/// Remote write 2.0, package `prometheus.write.v2`.
#[allow(missing_docs, reason = "generated; the schema is the documentation")]
pub mod v2 {
    include!(concat!(env!("OUT_DIR"), "/prometheus.write.v2.rs"));
}
