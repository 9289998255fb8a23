//! All integration tests, in one binary.

mod conformance;
mod decoder;
mod receiving;
mod support;
