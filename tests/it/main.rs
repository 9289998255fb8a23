//! All integration tests, in one binary.

mod config;
mod conformance;
mod decoder;
mod detectors;
mod readme;
mod receiving;
mod reference;
mod sender;
mod support;
mod tidy;
