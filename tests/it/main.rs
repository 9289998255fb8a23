//! All integration tests, in one binary.

mod sender;
mod support;
