//! Files that are written once, from begin to end, and read at a start at most.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::sync::Arc;

use super::File;

/// A file that is being written.
pub trait Stream: Send + Sync + fmt::Debug {
    /// Writes at the end. It may be in memory until it is finished.
    ///
    /// # Errors
    /// As the system tells. A part may have been written all the same.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes durable what was written, after which nothing more is, and tells its bytes.
    ///
    /// # Errors
    /// As the system tells.
    fn finish(&mut self) -> io::Result<u64>;
}

/// So many bytes are made durable together: at the end all would hold up whoever else syncs.
const SYNC_BYTES: usize = 8 << 20;

/// A file like any other.
#[derive(Debug)]
pub(super) struct Synced {
    file: Arc<dyn File>,
    unsynced: usize,
}

impl Synced {
    pub(super) fn of(file: Arc<dyn File>) -> Self {
        Self { file, unsynced: 0 }
    }
}

impl Stream for Synced {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)?;
        self.unsynced += bytes.len();
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.file.sync()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<u64> {
        self.file.sync()?;
        self.file.size()
    }
}

/// Where a file and memory must begin that the disk itself reads: no disk that is used asks for more.
const ALIGNMENT: usize = 4096;

/// So many bytes are given to the disk at once.
const PIECE_BYTES: usize = 1 << 20;

/// A file that the disk takes out of this process's memory (`O_DIRECT`, open(2)): the system's own copy of it would cost a
/// third of all that it takes to save, and nobody would read it.
pub(super) struct Direct {
    /// Takes whole pieces; none once the disk refused one, or the end was reached.
    direct: Option<fs::File>,
    /// The same file, and takes any bytes.
    file: fs::File,
    /// Has an aligned piece in it, from `start` on.
    room: Box<[u8]>,
    start: usize,
    /// Bytes of the piece.
    filled: usize,
}

impl Direct {
    /// Of one file, opened both ways to be appended to, without anything in it.
    pub(super) fn of(direct: fs::File, file: fs::File) -> Self {
        let room = vec![0; PIECE_BYTES + ALIGNMENT].into_boxed_slice();
        let start = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT - 1);
        Self { direct: Some(direct), file, room, start, filled: 0 }
    }

    fn write_piece(&mut self) -> io::Result<()> {
        let piece = &self.room[self.start..self.start + self.filled];
        self.filled = 0;
        let mut written = 0;
        while piece.len() == PIECE_BYTES
            && written < piece.len()
            && let Some(direct) = &mut self.direct
        {
            match direct.write(&piece[written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another alignment is asked for.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.direct = None,
                Err(error) => return Err(error),
            }
        }
        self.file.write_all(&piece[written..])
    }
}

impl Stream for Direct {
    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let fits = bytes.len().min(PIECE_BYTES - self.filled);
            let from = self.start + self.filled;
            self.room[from..from + fits].copy_from_slice(&bytes[..fits]);
            self.filled += fits;
            bytes = &bytes[fits..];
            if self.filled == PIECE_BYTES {
                self.write_piece()?;
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<u64> {
        self.write_piece()?;
        self.file.sync_data()?;
        Ok(self.file.metadata()?.len())
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { direct, file, filled, .. } = self;
        f.debug_struct("Direct").field("direct", direct).field("file", file).field("filled", filled).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    use super::super::{Disk, Folder, read_whole};
    use super::*;

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at ^ at >> 8) as u8).collect()
    }

    #[track_caller]
    fn check(stream: &mut dyn Stream, lengths: &[usize]) -> Vec<u8> {
        let all = bytes(lengths.iter().sum());
        let mut at = 0;
        for length in lengths {
            stream.append(&all[at..at + length]).expect("there is room");
            at += length;
        }
        assert_eq!(stream.finish().expect("it can be synced"), all.len() as u64);
        all
    }

    #[test]
    fn what_was_written_in_any_parts_is_in_the_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = Folder::make(dir.path()).expect("it can be made");
        let parts: [&[usize]; 5] =
            [&[], &[1], &[PIECE_BYTES], &[7, PIECE_BYTES - 8, 2], &[3 * PIECE_BYTES + 5, 0, 9_000]];
        for lengths in parts {
            let all = check(&mut *folder.stream("one").expect("it can be made"), lengths);
            let file = folder.open("one").expect("it is there");
            assert!(read_whole(&*file, 4 << 20).expect("it is small") == all, "{lengths:?}");
        }
    }

    #[test]
    fn what_the_disk_refuses_is_written_by_the_system() {
        let path = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut options = fs::OpenOptions::new();
        options.append(true);
        let file = options.open(&path).expect("it is there");
        let direct = options.custom_flags(OFlags::DIRECT.bits() as i32).open(&path);
        let Ok(direct) = direct.or_else(|_| file.try_clone()) else { panic!("it is there") };
        let mut stream = Direct::of(direct, file);
        // No disk takes it from there.
        stream.start += 1;
        let all = check(&mut stream, &[PIECE_BYTES + 3]);
        assert!(fs::read(&path).expect("it is there") == all);
    }
}
