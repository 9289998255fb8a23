//! Limits of receiving: how much may come, how fast, from how many.

use std::time::Duration;

/// Bounds on connections and requests. Breaking one is answered or closed at once, and counted.
#[derive(Clone, PartialEq, Debug)]
pub struct ReceiveLimits {
    /// Bytes of a body as sent, compressed. More is answered 400: some senders retry a 413 for ever.
    pub body_bytes_max: usize,
    /// Bytes of a body after decompression. Its declared size is checked before memory is taken.
    pub decoded_bytes_max: usize,
    /// Bytes of all bodies that are being received and decoded. Past it requests are answered 503 at once.
    pub in_flight_bytes_max: usize,
    /// Open connections. A further one is closed as it comes.
    pub connections_max: usize,
    /// Open connections from one address. 0 sets no limit.
    pub connections_per_ip_max: usize,
    /// How long the head of a request may take, from its first byte or from the opening of the connection.
    pub header_timeout: Duration,
    /// How long a body may take in all. It must also keep up 16 KiB/s.
    pub body_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How far ahead of our clock a sample may be, in milliseconds.
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
