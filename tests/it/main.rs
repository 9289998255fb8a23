//! All integration tests, in one binary.

mod config;
mod decoder;
mod detectors;
mod reference;
mod tidy;
