//! Stub.

pub mod spec;
