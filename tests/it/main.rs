//! All integration tests, in one binary.

mod config;
mod conformance;
mod decoder;
mod demo;
mod detectors;
mod forward;
mod ha;
mod history;
mod live;
mod readme;
mod receiving;
mod reference;
mod scrape;
mod sender;
mod snapshot;
mod support;
mod tidy;
