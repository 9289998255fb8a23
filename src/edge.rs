//! Sockets, files, threads and the clock: everything that touches the world.
//!
//! Knows the engine, the wire and the words; decides nothing that they could decide.

pub mod api;
pub mod clock;
pub mod disk;
pub mod journal;
pub mod limits;
pub mod log;
pub mod history;
pub mod journal;
pub mod limits;
mod outgoing;
pub mod receive;
pub mod recent;
pub mod scrape;
pub mod send;
pub mod serve;
pub mod shards;

pub mod telemetry;
