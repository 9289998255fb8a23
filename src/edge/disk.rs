//! Files behind a trait, so that memory, or a disk that loses power, can stand in for a folder.

pub mod descriptors;
mod folder;
mod memory;
mod stream;

use std::fmt;
use std::io;
use std::sync::Arc;

pub use folder::{Folder, Locked};
pub use memory::MemoryDisk;
pub use stream::Stream;
use stream::Synced;

/// A flat folder of files.
///
/// What was created, renamed or removed survives a loss of power only after [`Disk::sync`], and what was
/// appended only after [`File::sync`].
pub trait Disk: Send + Sync + fmt::Debug {
    /// Names of all files, in no order.
    ///
    /// # Errors
    /// As the system tells.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file, in the place of one of that name.
    ///
    /// # Errors
    /// As the system tells.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// The same for a file that is written at once, and that nobody reads soon.
    ///
    /// # Errors
    /// As the system tells.
    fn stream(&self, name: &str) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(Synced::of(self.create(name)?)))
    }

    /// Opens a file that exists.
    ///
    /// # Errors
    /// As the system tells; [`io::ErrorKind::NotFound`] without the file.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name, in the place of one that has it: whoever looks sees the old or the new.
    ///
    /// # Errors
    /// As the system tells.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Who has it open can still read it.
    ///
    /// # Errors
    /// As the system tells.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which files there are.
    ///
    /// # Errors
    /// As the system tells.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait File: Send + Sync + fmt::Debug {
    /// Writes at the end.
    ///
    /// # Errors
    /// As the system tells. A part may have been written all the same.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Reads from `offset`, as much as there is and fits. 0 at the end.
    ///
    /// # Errors
    /// As the system tells.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Bytes in it.
    ///
    /// # Errors
    /// As the system tells.
    fn size(&self) -> io::Result<u64>;

    /// Cuts it to `size` bytes.
    ///
    /// # Errors
    /// As the system tells.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Makes durable what is in it.
    ///
    /// # Errors
    /// As the system tells. What was not durable before may be lost then, even if a later call succeeds.
    fn sync(&self) -> io::Result<()>;
}

/// Reads a whole file of at most `bytes_max` bytes.
///
/// # Errors
/// As the system tells; [`io::ErrorKind::InvalidData`] where it is larger.
pub fn read_whole(file: &dyn File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let size = file.size()?;
    if size > bytes_max {
        let message = format!("file has {size} bytes, at most {bytes_max} are read");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(read as u64, &mut bytes[read..])? {
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
pub(crate) mod failing;
