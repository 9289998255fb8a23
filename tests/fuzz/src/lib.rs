//! What fuzz targets check: one file per decoder, with what an input may cost and what must hold of its result.

mod cost;

pub mod configuration;
pub mod exposition;
pub mod journal;
pub mod remote_write;
pub mod seeds;
pub mod selector;
pub mod snapshot;

// The oracle of the decoder's property tests, and the generators of its requests.
#[path = "../../it/decoder/any_histogram.rs"]
mod any_histogram;
#[path = "../../it/decoder/oracle.rs"]
mod oracle;
