//! What live tests stand on: real peers, a small exporter, HTTP.

pub(crate) mod exporter;
pub(crate) mod http;
pub(crate) mod peers;
pub(crate) mod stack;
pub(crate) mod target;
pub(crate) mod until;
