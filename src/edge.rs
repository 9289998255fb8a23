//! Sockets, files, threads and the clock: everything that touches the world.
//!
//! Knows the engine, the wire and the words; decides nothing that they could decide.

pub mod api;
pub mod clock;
pub mod disk;
pub mod history;
pub mod journal;
pub mod judge;
pub mod limits;
pub mod log;
mod outgoing;
pub mod receive;
pub mod recent;
pub mod recovery;
pub mod replay;
pub mod scrape;
pub mod send;
pub mod serve;
pub mod shards;
pub mod snapshot;
pub mod telemetry;
