//! Bytes on the wire: snappy, remote write 1.0 and 2.0 in and out, text exposition in.
//!
//! Pure, knows only the words. Never trusts a length.

pub mod decode;
pub mod encode;
pub mod exposition;
mod fields;
pub mod prompb;
pub mod snappy;

pub use fields::{SyntaxError, WireType};
