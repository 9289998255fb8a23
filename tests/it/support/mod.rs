//! What integration tests share.

pub(crate) mod client;
pub(crate) mod receiver;
pub(crate) mod server;
