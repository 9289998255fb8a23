//! All integration tests, in one binary.

mod config;
mod decoder;
mod demo;
mod detectors;
mod reference;
mod tidy;
