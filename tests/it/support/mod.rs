//! What integration tests share.

pub(crate) mod client;
pub(crate) mod disk;
pub(crate) mod exporter;
pub(crate) mod http;
pub(crate) mod peers;
pub(crate) mod receiver;
pub(crate) mod server;
pub(crate) mod stack;
pub(crate) mod stores;
pub(crate) mod teller;
pub(crate) mod until;
pub(crate) mod written;
