//! A real folder.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, OFlags, fadvise};

use super::stream::{Direct, Stream, Synced};
use super::{Disk, File};

/// Files of one folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    access: Access,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Full,
    /// Whatever would change something is refused.
    Read,
}

/// Keeps another process from the same folder, until dropped or until the process ends, however it ends.
#[derive(Debug)]
pub struct Locked {
    _file: fs::File,
}

impl Folder {
    /// The folder at `path`, which is made if it does not exist.
    ///
    /// # Errors
    /// As the system tells.
    pub fn make(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        // A parent that does not last would take the folder with it.
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::File::open(parent)?.sync_all()?;
        }
        Ok(Self { path: path.to_owned(), access: Access::Full })
    }

    /// The folder at `path`, which must exist.
    ///
    /// # Errors
    /// As the system tells; [`io::ErrorKind::NotADirectory`] where it is something else.
    pub fn existing(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.is_dir() {
            Ok(Self { path: path.to_owned(), access: Access::Full })
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    /// The folder at `path`, which must exist, to be read only: whatever would change something in it is an error of
    /// the kind [`io::ErrorKind::ReadOnlyFilesystem`].
    ///
    /// # Errors
    /// As [`Self::existing`].
    pub fn read_only(path: &Path) -> io::Result<Self> {
        Ok(Self { access: Access::Read, ..Self::existing(path)? })
    }

    fn create_new(&self, name: &str) -> io::Result<(PathBuf, fs::File)> {
        self.changeable()?;
        let path = self.path.join(name);
        // Not in place: one that has the old file open goes on reading the old one.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(&path)?;
        Ok((path, file))
    }

    fn changeable(&self) -> io::Result<()> {
        match self.access {
            Access::Full => Ok(()),
            Access::Read => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    /// Takes the folder for this process alone, by a file called `lock`.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] where another process has it, else as the system tells.
    pub fn lock(&self) -> io::Result<Locked> {
        self.changeable()?;
        let file = OpenOptions::new().create(true).append(true).open(self.path.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Locked { _file: file }),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("another process uses {}", self.path.display()),
            )),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let (_, file) = self.create_new(name)?;
        Ok(Arc::new(RealFile::of(file)))
    }

    fn stream(&self, name: &str) -> io::Result<Box<dyn Stream>> {
        let (path, file) = self.create_new(name)?;
        let direct = i32::try_from(OFlags::DIRECT.bits()).unwrap_or_default();
        // Not every file system has such files.
        Ok(match OpenOptions::new().append(true).custom_flags(direct).open(path) {
            Ok(direct) => Box::new(Direct::of(direct, file)),
            Err(_) => Box::new(Synced::of(Arc::new(RealFile::of(file)))),
        })
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.path.join(name);
        if self.access == Access::Read {
            return Ok(Arc::new(RealFile::of(fs::File::open(&path)?)));
        }
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                fs::File::open(&path)?
            }
            opened => opened?,
        };
        Ok(Arc::new(RealFile::of(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.changeable()?;
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.changeable()?;
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }
}

/// Bytes of a file that the system keeps in memory behind what was made durable last. What is older is asked for by those
/// alone who lag far behind, and other programs have more use of the room.
const CACHED_BYTES: u64 = 16 << 20;

/// Memory is given back in steps of so many bytes.
const STEP_BYTES: u64 = 1 << 20;

#[derive(Debug)]
struct RealFile {
    file: fs::File,
    /// Bytes from the begin on of which the system was told that nobody needs them in memory.
    let_go: AtomicU64,
}

impl RealFile {
    fn of(file: fs::File) -> Self {
        Self { file, let_go: AtomicU64::new(0) }
    }

    /// Where a file of which `size` bytes are durable has what need not stay in memory, but for what was told before.
    fn stale(&self, size: u64) -> Option<(u64, NonZeroU64)> {
        let end = size.saturating_sub(CACHED_BYTES) / STEP_BYTES * STEP_BYTES;
        let start = self.let_go.swap(end, Ordering::Relaxed);
        Some((start, NonZeroU64::new(end.checked_sub(start)?)?))
    }
}

impl File for RealFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        (&self.file).write_all(bytes)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(into, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        // What comes meanwhile may not be durable.
        let size = self.size()?;
        self.file.sync_data()?;
        if let Some((start, length)) = self.stale(size) {
            // Else each write takes pages that nobody used for long, until memory is full: where that is a virtual
            // machine's, its host has to find them first, and copying to them took a fifth of all time. It is advice:
            // errors change nothing.
            let _ = fadvise(&self.file, start, Some(length), Advice::DontNeed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::read_whole;
    use super::*;

    #[test]
    fn files_are_appended_to_cut_renamed_and_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = Folder::make(&dir.path().join("a/b")).expect("it can be made");
        let file = folder.create("one").expect("it can be made");
        file.append(b"hello world").expect("it can be written");
        file.truncate(5).expect("it can be cut");
        file.append(b"!").expect("it can be written");
        folder.rename("one", "two").expect("it can be renamed");
        folder.sync().expect("it can be synced");
        assert_eq!(folder.list().expect("it can be listed"), ["two"]);
        let file = folder.open("two").expect("it is there");
        assert_eq!(read_whole(&*file, 6).expect("it is small"), b"hello!");
        assert_eq!(read_whole(&*file, 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(folder.open("one").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn memory_is_given_back_once_and_not_that_of_the_newest_bytes() {
        let file = RealFile::of(tempfile::tempfile().expect("a temporary file"));
        let stale = |size| file.stale(size).map(|(start, length)| (start, length.get()));
        assert_eq!(stale(CACHED_BYTES + STEP_BYTES - 1), None);
        assert_eq!(stale(CACHED_BYTES + 5 * STEP_BYTES + 7), Some((0, 5 * STEP_BYTES)));
        assert_eq!(stale(CACHED_BYTES + 6 * STEP_BYTES - 1), None);
        assert_eq!(stale(CACHED_BYTES + 8 * STEP_BYTES), Some((5 * STEP_BYTES, 3 * STEP_BYTES)));
        assert_eq!(stale(3), None, "it was cut");
        assert_eq!(stale(CACHED_BYTES + STEP_BYTES), Some((0, STEP_BYTES)));
    }

    #[test]
    fn a_folder_to_be_read_only_is_never_changed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = Folder::make(dir.path()).expect("it can be made");
        folder.create("one").and_then(|file| file.append(b"1")).expect("it can be written");
        let reading = Folder::read_only(dir.path()).expect("it is there");
        let file = reading.open("one").expect("it can be read");
        assert!(file.append(b"2").is_err() && file.truncate(0).is_err());
        let refused = [
            reading.create("one").map(drop),
            reading.rename("one", "two"),
            reading.remove("one"),
            reading.lock().map(drop),
        ];
        for outcome in refused {
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        assert_eq!(read_whole(&*file, 9).expect("it is small"), b"1");
        assert_eq!(folder.list().expect("it can be listed"), ["one"]);
    }

    #[test]
    fn a_locked_folder_is_refused_until_it_is_let_go() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = Folder::make(dir.path()).expect("it can be made");
        let locked = folder.lock().expect("nobody has it");
        assert_eq!(folder.lock().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(locked);
        assert!(folder.lock().is_ok());
    }
}
