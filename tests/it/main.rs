//! All integration tests, in one binary.

mod decoder;
mod sender;
mod support;
