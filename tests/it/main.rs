//! All integration tests, in one binary.

mod config;
mod live;
mod support;
