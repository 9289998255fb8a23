//! What integration tests share.

pub(crate) mod client;
pub(crate) mod server;
