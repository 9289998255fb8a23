//! A disk that loses power, fails and fills up as its dice want.
//!
//! # Compared with turmoil
//!
//! turmoil 0.7.2 (`unstable-fs`, <https://docs.rs/turmoil/0.7.2/turmoil/fs/index.html>) keeps writes pending until
//! they are synced or, by chance, earlier; a crash drops them all, or, with a block size, keeps a first part of
//! each. Changes of a folder that were not synced are all gone. Reads and writes fail by chance, space may end,
//! what is read may be corrupt.
//!
//! Here, beyond that: each block of 512 bytes survives or not, independently of those before it, so that a write
//! may have holes; a block may survive as it was some writes ago; the size of a file is as uncertain as its
//! blocks; of a folder's changes any first part survives, or any part at all; a failed sync leaves blocks that no
//! later sync writes (Rebello et al., "Can applications recover from fsync failures?", USENIX ATC 2020); the power
//! goes within the n-th operation, which then happened, or half, or not. Not modelled: corruption of what was
//! durable, latency, links and folders in folders.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use promantis::edge::disk::{Disk, File};
use xxhash_rust::xxh3::Xxh3;

use super::dice::Dice;
use super::image::Image;
use super::names::Names;

/// How the disk feels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Weather {
    /// Nothing fails.
    Fair,
    /// Any operation fails now and then.
    Flaky,
    /// There is no space left.
    Full,
    /// Nothing can be written.
    Dead,
}

/// The disk of a machine over all its starts.
#[derive(Debug)]
pub(crate) struct SimDisk(Arc<Mutex<Machine>>);

/// The disk as a process sees it, until that ends.
#[derive(Clone, Debug)]
struct Mounted {
    machine: Arc<Mutex<Machine>>,
    boot: u64,
}

#[derive(Debug)]
struct Opened {
    mounted: Mounted,
    image: usize,
}

struct Machine {
    dice: Dice,
    names: Names,
    images: Vec<Image>,
    weather: Weather,
    /// Operations until the power goes.
    strike: Option<u64>,
    off: bool,
    boot: u64,
    operations: u64,
    faults: u64,
    trace: Xxh3,
}

/// What becomes of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Done,
    Failed(io::ErrorKind),
    /// The power goes meanwhile: it happened, or in part, or not.
    Struck,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Create,
    Rename,
    Remove,
    SyncNames,
    Append,
    Truncate,
    Sync,
}

impl SimDisk {
    /// An empty disk.
    pub(crate) fn new(mut dice: Dice) -> Self {
        let names = Names::new(dice.once_in(2));
        Self(Arc::new(Mutex::new(Machine {
            dice,
            names,
            images: Vec::new(),
            weather: Weather::Fair,
            strike: None,
            off: false,
            boot: 0,
            operations: 0,
            faults: 0,
            trace: Xxh3::new(),
        })))
    }

    /// The disk for the process that starts now. It is of no use after [`Self::lose_power`] and [`Self::kill`].
    pub(crate) fn mount(&self) -> Arc<dyn Disk> {
        let boot = lock(&self.0).boot;
        Arc::new(Mounted { machine: Arc::clone(&self.0), boot })
    }

    /// Changes how the disk feels.
    pub(crate) fn turn(&self, weather: Weather) {
        lock(&self.0).weather = weather;
    }

    /// Lets the power go within an operation that changes something: the next where `after` is 0.
    pub(crate) fn strike_after(&self, after: u64) {
        lock(&self.0).strike = Some(after);
    }

    /// Lets the power stay on, after [`Self::strike_after`].
    pub(crate) fn spare(&self) {
        lock(&self.0).strike = None;
    }

    /// Whether the power has gone; every operation fails then.
    pub(crate) fn is_off(&self) -> bool {
        lock(&self.0).off
    }

    /// Starts the machine anew after a loss of power. The disk is well.
    pub(crate) fn lose_power(&self) {
        let machine = &mut *lock(&self.0);
        let Machine { names, images, dice, .. } = machine;
        names.lose_power(dice);
        images.iter_mut().for_each(|image| image.lose_power(dice));
        machine.restart();
    }

    /// Starts the process anew: nothing that it wrote is lost. The disk is well.
    pub(crate) fn kill(&self) {
        lock(&self.0).restart();
    }

    /// How many operations did not do what they should.
    pub(crate) fn faults(&self) -> u64 {
        lock(&self.0).faults
    }

    /// How many operations there were, and a hash of them all.
    pub(crate) fn trace(&self) -> (u64, u64) {
        let machine = lock(&self.0);
        (machine.operations, machine.trace.digest())
    }
}

impl Machine {
    fn restart(&mut self) {
        self.boot += 1;
        self.off = false;
        self.strike = None;
        self.weather = Weather::Fair;
    }

    fn fate(&mut self, operation: Operation) -> Fate {
        self.operations += 1;
        let struck = self.strike == Some(0);
        self.strike = self.strike.map(|left| left.saturating_sub(1));
        let fate = match (self.weather, operation) {
            _ if struck => Fate::Struck,
            (Weather::Dead, _) => Fate::Failed(io::ErrorKind::ReadOnlyFilesystem),
            (Weather::Full, Operation::Create | Operation::Append) => {
                Fate::Failed(io::ErrorKind::StorageFull)
            }
            (Weather::Flaky, _) if self.dice.once_in(8) => Fate::Failed(io::ErrorKind::Other),
            _ => Fate::Done,
        };
        self.off |= struck;
        self.faults += u64::from(fate != Fate::Done);
        self.trace.update(&[operation as u8, u8::from(fate == Fate::Done)]);
        fate
    }

    /// What the system does meanwhile, and the answer.
    fn finish(&mut self, fate: Fate) -> io::Result<()> {
        if self.dice.once_in(8) {
            self.names.write_back(&mut self.dice);
        }
        match fate {
            Fate::Done => Ok(()),
            Fate::Failed(kind) => Err(kind.into()),
            Fate::Struck => Err(io::Error::other("the power has gone")),
        }
    }

    /// Whether an operation that is done whole or not at all is done.
    fn happens(&mut self, fate: Fate) -> bool {
        fate == Fate::Done || fate == Fate::Struck && self.dice.once_in(2)
    }

    fn create(&mut self, name: &str) -> io::Result<usize> {
        let fate = self.fate(Operation::Create);
        let image = self.images.len();
        if self.happens(fate) {
            self.images.push(Image::default());
            self.names.create(name, image);
        }
        self.finish(fate).map(|()| image)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let fate = self.fate(Operation::Rename);
        if self.happens(fate) && !self.names.rename(from, to) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.finish(fate)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let fate = self.fate(Operation::Remove);
        if self.happens(fate) && !self.names.remove(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.finish(fate)
    }

    fn sync_names(&mut self) -> io::Result<()> {
        let fate = self.fate(Operation::SyncNames);
        if self.happens(fate) {
            self.names.sync();
        }
        self.finish(fate)
    }

    fn append(&mut self, image: usize, bytes: &[u8]) -> io::Result<()> {
        let fate = self.fate(Operation::Append);
        let written = match fate {
            Fate::Done => bytes.len(),
            Fate::Failed(_) => self.dice.below(bytes.len()),
            Fate::Struck => self.dice.below(bytes.len() + 1),
        };
        self.trace.update(&bytes[..written]);
        self.images[image].append(&bytes[..written]);
        if self.dice.once_in(4) {
            self.images[image].write_back(&mut self.dice);
        }
        self.finish(fate)
    }

    fn truncate(&mut self, image: usize, size: usize) -> io::Result<()> {
        let fate = self.fate(Operation::Truncate);
        if self.happens(fate) {
            self.images[image].truncate(size);
        }
        self.finish(fate)
    }

    fn sync(&mut self, image: usize) -> io::Result<()> {
        let fate = self.fate(Operation::Sync);
        match fate {
            Fate::Done => self.images[image].sync(),
            Fate::Failed(_) => self.images[image].fail_sync(&mut self.dice),
            Fate::Struck => self.images[image].write_back(&mut self.dice),
        }
        if fate == Fate::Done && self.names.is_orderly() && self.dice.once_in(2) {
            // One journal for all: what was changed before a sync becomes durable with it.
            self.names.sync();
        }
        self.finish(fate)
    }

    fn read(&mut self, image: usize, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if self.weather == Weather::Flaky && self.dice.once_in(32) {
            self.faults += 1;
            return Err(io::ErrorKind::Other.into());
        }
        let seen = &self.images[image].seen;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(seen.len());
        let read = into.len().min(seen.len() - from);
        into[..read].copy_from_slice(&seen[from..from + read]);
        Ok(read)
    }
}

impl Mounted {
    fn machine(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = lock(&self.machine);
        if machine.off || machine.boot != self.boot {
            return Err(io::Error::other("the machine is off"));
        }
        Ok(machine)
    }

    fn file(&self, image: usize) -> Arc<dyn File> {
        Arc::new(Opened { mounted: self.clone(), image })
    }
}

impl Disk for Mounted {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.machine()?.names.list())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let image = self.machine()?.create(name)?;
        Ok(self.file(image))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let image = self.machine()?.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(image))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.machine()?.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.machine()?.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.machine()?.sync_names()
    }
}

impl File for Opened {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.mounted.machine()?.append(self.image, bytes)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.mounted.machine()?.read(self.image, offset, into)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.mounted.machine()?.images[self.image].seen.len() as u64)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.mounted.machine()?.truncate(self.image, usize::try_from(size).unwrap_or(usize::MAX))
    }

    fn sync(&self) -> io::Result<()> {
        self.mounted.machine()?.sync(self.image)
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Machine")
            .field("boot", &self.boot)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

fn lock(machine: &Mutex<Machine>) -> MutexGuard<'_, Machine> {
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}
