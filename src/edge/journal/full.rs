//! Why an entry is not taken: there is no room, the disk fails, or it is the end.

use std::io::ErrorKind;

use crate::edge::log::LogError;

/// Why an entry was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Full {
    /// The engines lag behind.
    #[error("journal is full: {waiting} bytes wait for the engines, at most {max} do")]
    NoRoom {
        /// Bytes of records that are not done.
        waiting: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A target that must not lose anything has not got what is in it.
    #[error("journal is full of what a target with `when_full: hold_back` has not taken")]
    HeldBack,
    /// Somebody still needs all that is in it.
    #[error("journal is full: it has {bytes} bytes, `journal.max_bytes` is {max}")]
    TooLarge {
        /// Bytes in it.
        bytes: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The disk does not take it.
    #[error("journal cannot be written: {0}")]
    Unwritable(String),
    /// The process is stopping.
    #[error("journal is closed: the process is stopping")]
    Closed,
}

impl Full {
    /// In a word, as it is counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoRoom { .. } | Self::HeldBack | Self::TooLarge { .. } | Self::Closed => "journal_full",
            Self::Unwritable(_) => "journal_unwritable",
        }
    }
}

/// A disk that takes nothing.
#[derive(Debug)]
pub(super) struct Broken {
    /// Its last error.
    message: String,
    /// Whether that was that it is full.
    pub(super) is_full: bool,
}

impl Broken {
    /// By its last error.
    pub(super) fn by(error: &LogError) -> Self {
        let kind = if let LogError::Io(error) = error { error.kind() } else { ErrorKind::Other };
        let is_full = matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        Self { message: error.to_string(), is_full }
    }

    /// What is said to whoever has something to write.
    pub(super) fn full(&self) -> Full {
        Full::Unwritable(self.message.clone())
    }
}
