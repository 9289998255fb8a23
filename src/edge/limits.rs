//! Limits: how much may come, how fast, from how many, and how much of it is kept, where and how safely.

use std::path::PathBuf;
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

/// Where accepted requests and derived samples are kept until all have taken them, and how safely.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalSettings {
    /// In memory, or in which folder.
    pub place: Place,
    /// Bytes of the journal. At least 64 MiB, so that there are segments to let go, and twice what one request may
    /// hold decoded.
    pub max_bytes: u64,
    /// How long a record is kept for those who have not taken it and may lose it. At least a minute.
    pub max_age: Duration,
    /// When written bytes are made durable.
    pub sync: SyncMode,
    /// How often the state of the engines is saved, which bounds what is judged again after a crash. At least a
    /// second.
    pub snapshot_interval: Duration,
}

/// Where the journal is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// In memory: what was accepted and learned ends with the process.
    Memory,
    /// In this folder, which is made where it is not there. Relative to the working directory.
    Folder(PathBuf),
}

/// When an accepted request is made durable, and so what its acknowledgement means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SyncMode {
    /// Before it is acknowledged, many requests together. Acknowledged means: it outlasts a crash of the process, of
    /// the system, and a loss of power.
    Batch,
    /// Once a second. Acknowledged means: it outlasts a crash of the process; a crash of the system or a loss of power
    /// may cost the last second.
    Interval,
    /// When the system sees fit. Acknowledged means: it outlasts a crash of the process; what a crash of the system or
    /// a loss of power costs is up to the system, some 30 s on Linux.
    Never,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            place: Place::Folder(PathBuf::from("data")),
            max_bytes: 2 << 30,
            max_age: Duration::from_secs(24 * 3600),
            sync: SyncMode::Batch,
            snapshot_interval: Duration::from_secs(5 * 60),
        }
    }
}
