//! A disk in memory for tests: it fails when told to, and a loss of power leaves of it what was synced.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, File};

/// What fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Every change of a file. Half of what is appended is written all the same.
    Write(ErrorKind),
    /// To make anything durable. What was not durable before is lost, as with Linux, even if a later sync succeeds.
    Sync(ErrorKind),
    /// What is appended once a file would have more bytes than this.
    Beyond(usize),
    /// What is appended once all files together would have more bytes than this.
    Over(usize),
}

/// See the module.
#[derive(Clone, Default, Debug)]
pub(crate) struct FailingDisk {
    files: Arc<Mutex<BTreeMap<String, Arc<FailingFile>>>>,
    /// Who holds it keeps every change waiting.
    pub(crate) fault: Arc<Mutex<Option<Fault>>>,
    /// Bytes of all files.
    used: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct FailingFile {
    bytes: Mutex<Bytes>,
    fault: Arc<Mutex<Option<Fault>>>,
    used: Arc<AtomicUsize>,
}

#[derive(Default, Debug)]
struct Bytes {
    all: Vec<u8>,
    /// So many are durable, but for what is `lost`.
    synced: usize,
    lost: Vec<Range<usize>>,
}

impl FailingDisk {
    /// Fails from now on, or does not.
    pub(crate) fn set(&self, fault: Option<Fault>) {
        *lock(&self.fault) = fault;
    }

    /// What is there after a loss of power: the files, and of each what was synced.
    pub(crate) fn after_power_loss(&self) -> Self {
        let disk = Self::default();
        for (name, file) in &*lock(&self.files) {
            let bytes = lock(&file.bytes);
            let mut left = bytes.all[..bytes.synced].to_vec();
            bytes.lost.iter().for_each(|lost| left[lost.clone()].fill(0));
            let file = disk.create(name).expect("it is well");
            file.append(&left).and_then(|()| file.sync()).expect("it is well");
        }
        disk
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn to_write(fault: &Mutex<Option<Fault>>) -> io::Result<()> {
    match *lock(fault) {
        Some(Fault::Write(kind)) => Err(kind.into()),
        _ => Ok(()),
    }
}

impl Disk for FailingDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        to_write(&self.fault)?;
        let (fault, used) = (Arc::clone(&self.fault), Arc::clone(&self.used));
        let file = Arc::new(FailingFile { bytes: Mutex::default(), fault, used });
        lock(&self.files).insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = lock(&self.files).get(name).cloned().ok_or(ErrorKind::NotFound)?;
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        to_write(&self.fault)?;
        let mut files = lock(&self.files);
        let file = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match *lock(&self.fault) {
            Some(Fault::Write(ErrorKind::ReadOnlyFilesystem)) => Err(ErrorKind::ReadOnlyFilesystem.into()),
            _ => {
                let file = lock(&self.files).remove(name).ok_or(ErrorKind::NotFound)?;
                self.used.fetch_sub(lock(&file.bytes).all.len(), Ordering::Relaxed);
                Ok(())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        match *lock(&self.fault) {
            Some(Fault::Sync(kind)) => Err(kind.into()),
            _ => Ok(()),
        }
    }
}

impl FailingFile {
    fn extend(&self, has: &mut Bytes, bytes: &[u8]) {
        has.all.extend_from_slice(bytes);
        self.used.fetch_add(bytes.len(), Ordering::Relaxed);
    }
}

impl File for FailingFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut has = lock(&self.bytes);
        match *lock(&self.fault) {
            Some(Fault::Write(kind)) => {
                self.extend(&mut has, &bytes[..bytes.len() / 2]);
                Err(kind.into())
            }
            Some(Fault::Beyond(most)) if has.all.len() + bytes.len() > most => {
                Err(ErrorKind::StorageFull.into())
            }
            Some(Fault::Over(most)) if self.used.load(Ordering::Relaxed) + bytes.len() > most => {
                Err(ErrorKind::StorageFull.into())
            }
            _ => {
                self.extend(&mut has, bytes);
                Ok(())
            }
        }
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let has = lock(&self.bytes);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(has.all.len());
        let read = into.len().min(has.all.len() - from);
        into[..read].copy_from_slice(&has.all[from..from + read]);
        Ok(read)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.bytes).all.len() as u64)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        to_write(&self.fault)?;
        let mut has = lock(&self.bytes);
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(has.all.len());
        self.used.fetch_sub(has.all.len() - size, Ordering::Relaxed);
        has.all.truncate(size);
        has.synced = has.synced.min(size);
        has.lost.iter_mut().for_each(|lost| lost.end = lost.end.min(size));
        has.lost.retain(|lost| lost.start < lost.end);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut has = lock(&self.bytes);
        let before = std::mem::replace(&mut has.synced, 0);
        has.synced = has.all.len();
        match *lock(&self.fault) {
            Some(Fault::Sync(kind)) => {
                let lost = before..has.synced;
                has.lost.push(lost);
                Err(kind.into())
            }
            Some(Fault::Write(kind)) if before < has.synced => {
                has.synced = before;
                Err(kind.into())
            }
            _ => Ok(()),
        }
    }
}
