//! All integration tests, in one binary.

mod detectors;
mod reference;
