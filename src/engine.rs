//! The engine: a pure function from batches to derived samples.
//!
//! Takes batches with their arrival time, returns through a sink what is to be written back. No clock,
//! no socket, no file, no thread, no log: the same input gives the same output, byte for byte.

pub mod baseline;
pub mod detect;
pub mod forecast;
pub mod monitor;
pub mod select;
