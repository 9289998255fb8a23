//! What bounds a receiver: bytes, connections and time.

use std::time::Duration;

/// Limits of the receiving side. Whatever arrives, memory and connections stay below them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiveLimits {
    /// Bytes of one request's body as it is sent, compressed. Default 8 MiB; a larger one is answered 400.
    pub body_bytes_max: usize,
    /// Bytes of one request's body once decompressed. Default 32 MiB; what declares more is answered 400 before any
    /// of it is allocated.
    pub decoded_bytes_max: usize,
    /// Bytes of all bodies that are being received and decoded. Default 128 MiB; beyond it requests are answered 503.
    pub in_flight_bytes_max: usize,
    /// Connections open at the same time. Default 512; further ones are closed at once.
    pub connections_max: usize,
    /// The same for one address, loopback included. 0 sets no limit. Default 64: a sender opens one per shard and
    /// Prometheus has 50 at most; raise it where many senders share an address, as behind a proxy.
    pub connections_per_ip_max: usize,
    /// How long the head of a request may take. Default 5 s.
    pub header_timeout: Duration,
    /// How long the body of a request may take. Default 10 s.
    pub body_timeout: Duration,
    /// How long a connection may wait for its next request. Default 60 s.
    pub idle_timeout: Duration,
    /// Milliseconds that a sample may be ahead of our clock. Default 600,000, ten minutes; samples further ahead are
    /// refused.
    pub future_ms_max: i64,
}

impl Default for ReceiveLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 8 << 20,
            decoded_bytes_max: 32 << 20,
            in_flight_bytes_max: 128 << 20,
            connections_max: 512,
            connections_per_ip_max: 64,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            future_ms_max: 600_000,
        }
    }
}
