//! All integration tests, in one binary.

mod receiving;
mod support;
