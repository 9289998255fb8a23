//! All integration tests, in one binary.

mod config;
mod conformance;
mod decoder;
mod detectors;
mod receiving;
mod reference;
mod scrape;
mod support;
mod tidy;
