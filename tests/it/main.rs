//! All integration tests, in one binary.

mod batches;
mod bench;
mod config;
mod conformance;
mod decoder;
mod demo;
mod detectors;
mod durability;
mod forward;
mod ha;
mod history;
mod huge_pages;
mod live;
mod readme;
mod receiving;
mod reference;
mod replay;
mod scrape;
mod sender;
mod snapshot;
mod support;
mod tidy;
