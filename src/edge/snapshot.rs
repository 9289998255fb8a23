//! What engines know, in files: versioned, checksummed, written beside and renamed.
//!
//! Each shard has files of its own, tied to the sequence of the record that it would take next. The two newest are
//! kept: if one is damaged the other is used, and the journal is kept from the older one on. Only shards among whom
//! series are divided since the same record belong together; those of the division before are kept until all files
//! of the next one are there. A file: magic of 8 bytes that end in the version; then blocks, each with its length
//! `u32`, its CRC32C `u32` and its bytes, little-endian. The first block says what it is, the others are those of
//! [`Engine::save`].

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::disk::{Disk, File, MemoryDisk, Stream};
use super::judge::Judge;
use super::telemetry::Metrics;
use crate::engine::{Engine, Shard};

const MAGIC: &[u8; 7] = b"prmsnap";
const VERSION: u8 = 1;
/// Longest block that is read: one is about half a MiB at most, or a single series or plan that is longer.
const BLOCK_BYTES_MAX: usize = 64 << 20;
/// How many files are kept of each shard.
const KEPT: usize = 2;
/// No journal comes so far: a file that says so is none of ours.
const SEQUENCE_MAX: u64 = 1 << 60;

/// What a snapshot says of itself.
#[derive(Serialize, Deserialize)]
struct Head {
    name: Name,
    samples_per_request: usize,
}

/// Those among whom series are divided from a record on. The newest has the highest sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Division {
    since: u64,
    count: usize,
}

/// What a file is named after.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Name {
    division: Division,
    shard: usize,
    next: u64,
}

/// For each shard the sequences of its files, ascending, and their bytes.
type Files = BTreeMap<usize, BTreeMap<u64, u64>>;

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// The system's error.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its bytes are no snapshot.
    #[error("it is no snapshot")]
    Foreign,
    /// Another program wrote it.
    #[error("it has version {found}, this program reads version {VERSION}")]
    Version {
        /// Its version.
        found: u8,
    },
    /// Its head does not agree with its name.
    #[error("its head is damaged")]
    Head,
    /// Its blocks make no engine.
    #[error(transparent)]
    Engine(#[from] crate::engine::snapshot::RestoreError),
}

/// The snapshots on a disk.
#[derive(Debug)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    known: Mutex<BTreeMap<Division, Files>>,
    /// How often somebody asked for snapshots before their time.
    asked: AtomicU64,
    metrics: Arc<Metrics>,
}

/// A snapshot that is written, and that nobody may rely on yet: dropped, it is removed.
#[derive(Debug)]
pub struct Unfinished {
    disk: Arc<dyn Disk>,
    file: Box<dyn Stream>,
    name: Name,
    finished: bool,
}

impl Unfinished {
    /// The number of its shard.
    pub fn shard(&self) -> usize {
        self.name.shard
    }

    /// The sequence of the record that its judge would take next.
    pub fn next(&self) -> u64 {
        self.name.next
    }

    /// Appends a block of its engine.
    ///
    /// # Errors
    /// As the system tells.
    pub fn append(&mut self, block: &[u8]) -> io::Result<()> {
        let length = u32::try_from(block.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut head = [0; 8];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4..].copy_from_slice(&crc32c::crc32c(block).to_le_bytes());
        self.file.append(&head)?;
        self.file.append(block)
    }

    /// Makes it durable, under its own name, and tells its bytes.
    fn finish(&mut self) -> io::Result<u64> {
        let bytes = self.file.finish()?;
        self.disk.rename(&self.name.temporary(), &self.name.to_string())?;
        self.finished = true;
        self.disk.sync()?;
        Ok(bytes)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            // One that cannot be removed now is removed at the next start.
            let _ = self.disk.remove(&self.name.temporary());
        }
    }
}

impl Snapshots {
    /// Those on `disk`.
    ///
    /// # Errors
    /// As the system tells.
    pub fn on(disk: Arc<dyn Disk>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let mut known: BTreeMap<Division, Files> = BTreeMap::new();
        for file in disk.list()? {
            if let Some(Name { division, shard, next }) = Name::parse(&file) {
                let files = known.entry(division).or_default().entry(shard).or_default();
                files.insert(next, disk.open(&file)?.size()?);
            } else if file.ends_with(TEMPORARY) {
                // A crash left it half written. One that cannot be removed now is found again.
                let _ = disk.remove(&file);
            }
        }
        Ok(Self { disk, known: Mutex::new(known), asked: AtomicU64::new(0), metrics })
    }

    /// Saves what a judge knows, and forgets older files of its shard. Everything that it derived must be durable.
    ///
    /// # Errors
    /// As the system tells; what was saved before stays.
    pub fn save(&self, judge: &Judge) -> io::Result<()> {
        self.finish(self.write(judge)?)
    }

    /// Writes what a judge knows: all of [`Self::save`] that needs the judge.
    ///
    /// # Errors
    /// As the system tells; what was saved before stays.
    pub fn write(&self, judge: &Judge) -> io::Result<Unfinished> {
        let mut unfinished = self.begin(judge)?;
        let mut outcome = Ok(());
        judge.engine().save(&mut |block| {
            if outcome.is_ok() {
                outcome = unfinished.append(block);
            }
        });
        outcome.map(|()| unfinished)
    }

    /// Writes the begin of a snapshot of what a judge knows now, whose blocks are to be appended.
    ///
    /// # Errors
    /// As the system tells.
    pub fn begin(&self, judge: &Judge) -> io::Result<Unfinished> {
        let Shard { index: shard, count } = judge.shard();
        let division = Division { since: judge.since(), count };
        let name = Name { division, shard, next: judge.next() };
        let file = self.disk.stream(&name.temporary())?;
        let mut unfinished = Unfinished { disk: Arc::clone(&self.disk), file, name, finished: false };
        let head = Head { name, samples_per_request: judge.samples_per_request() };
        let head = postcard::to_stdvec(&head).expect("numbers can be written");
        unfinished.file.append(MAGIC)?;
        unfinished.file.append(&[VERSION])?;
        unfinished.append(&head)?;
        Ok(unfinished)
    }

    /// Makes durable what was written, and forgets older files of its shard: the rest of [`Self::save`], which waits
    /// for the disk. Everything that its judge had derived must be durable.
    ///
    /// # Errors
    /// As the system tells; what was saved before stays.
    pub fn finish(&self, mut unfinished: Unfinished) -> io::Result<()> {
        let bytes = unfinished.finish()?;
        let name @ Name { division, shard, .. } = unfinished.name;
        let mut known = self.lock();
        let shards = known.entry(division).or_default();
        let files = shards.entry(shard).or_default();
        files.insert(name.next, bytes);
        while files.len() > KEPT
            && let Some((next, _)) = files.pop_first()
        {
            // One that cannot be removed now is found at the next start.
            let _ = self.disk.remove(&Name { next, ..name }.to_string());
        }
        let newest = shards.values().filter_map(|files| files.last_key_value());
        self.metrics.snapshot_bytes.set(newest.map(|(_, bytes)| *bytes as i64).sum());
        if older(division, shards).is_some() {
            self.forget_others(&mut known, division);
        }
        Ok(())
    }

    /// The newest good snapshots of all shards of the newest division that has one of each; where there is none, what
    /// there is of the newest that has any. Damaged ones are counted and told of.
    pub fn load(&self) -> Vec<Option<Judge>> {
        self.load_by(|division| (0..division.count).map(|shard| self.load_one(division, shard)).collect())
    }

    /// The same, all shards at once.
    pub fn load_on_threads(&self) -> Vec<Option<Judge>> {
        self.load_by(|division| {
            std::thread::scope(|scope| {
                let one = |shard| scope.spawn(move || self.load_one(division, shard));
                let threads: Vec<_> = (0..division.count).map(one).collect();
                threads.into_iter().map(|thread| thread.join().expect("what is read never panics")).collect()
            })
        })
    }

    fn load_by(&self, load: impl Fn(Division) -> Vec<Option<Judge>>) -> Vec<Option<Judge>> {
        let divisions: Vec<Division> = self.lock().keys().rev().copied().collect();
        let mut partial = Vec::new();
        for division in divisions {
            let loaded = load(division);
            if loaded.iter().all(Option::is_some) {
                return loaded;
            }
            if partial.is_empty() && loaded.iter().any(Option::is_some) {
                partial = loaded;
            }
        }
        partial
    }

    fn load_one(&self, division: Division, shard: usize) -> Option<Judge> {
        let nexts: Vec<u64> = self.lock().get(&division)?.get(&shard)?.keys().rev().copied().collect();
        nexts.into_iter().find_map(|next| self.load_named(Name { division, shard, next }))
    }

    fn load_named(&self, name: Name) -> Option<Judge> {
        match self.read(name) {
            Ok(judge) => Some(judge),
            Err(damaged) => {
                self.metrics.snapshots_damaged.inc();
                tracing::warn!(file = %name, "a snapshot cannot be used: {damaged}");
                let mut known = self.lock();
                known.entry(name.division).or_default().entry(name.shard).or_default().remove(&name.next);
                None
            }
        }
    }

    /// The good snapshot of a shard of so many that would take the record `next`.
    pub fn load_at(&self, shard: usize, count: usize, next: u64) -> Option<Judge> {
        let divisions: Vec<Division> = self.lock().keys().filter(|it| it.count == count).copied().collect();
        let names = divisions.into_iter().map(|division| Name { division, shard, next });
        names.filter(|name| self.has(*name)).find_map(|name| self.load_named(name))
    }

    /// The sequences of all snapshots of a shard of so many, ascending.
    pub fn sequences(&self, shard: usize, count: usize) -> Vec<u64> {
        let known = self.lock();
        let divisions = known.iter().filter(|(division, _)| division.count == count);
        let files = divisions.filter_map(|(_, shards)| shards.get(&shard));
        let mut sequences: Vec<u64> = files.flat_map(BTreeMap::keys).copied().collect();
        sequences.sort_unstable();
        sequences
    }

    fn has(&self, Name { division, shard, next }: Name) -> bool {
        let known = self.lock();
        known.get(&division).and_then(|shards| shards.get(&shard)).is_some_and(|it| it.contains_key(&next))
    }

    /// The sequence from which on a start may need the journal.
    pub fn needed(&self) -> u64 {
        let known = self.lock();
        known.last_key_value().and_then(|(division, shards)| older(*division, shards)).unwrap_or(0)
    }

    /// The sequence that the newest of all would take next; 0 without any.
    pub fn newest(&self) -> u64 {
        let known = self.lock();
        known.values().flat_map(BTreeMap::values).flat_map(BTreeMap::keys).copied().max().unwrap_or(0)
    }

    /// Asks for snapshots before their time, since the journal is nearly full.
    pub fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// How often somebody asked.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn read(&self, name: Name) -> Result<Judge, Damaged> {
        let file = self.disk.open(&name.to_string())?;
        let (head, engine) = parse(&*file)?;
        if head.name != name {
            return Err(Damaged::Head);
        }
        Ok(Judge::with(engine, head.samples_per_request, name.division.since, name.next))
    }

    /// Those of other divisions are of no use any more.
    fn forget_others(&self, known: &mut BTreeMap<Division, Files>, division: Division) {
        for (other, shards) in known.extract_if(.., |other, _| *other != division) {
            for (shard, files) in shards {
                for next in files.into_keys() {
                    let _ = self.disk.remove(&Name { division: other, shard, next }.to_string());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Division, Files>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The oldest sequence that is needed where the newest file of each shard is damaged; `None` where that would be too
/// much.
fn older(division: Division, shards: &Files) -> Option<u64> {
    let full = |shard| shards.get(&shard).filter(|files| files.len() >= KEPT);
    let firsts = (0..division.count).map(|shard| full(shard)?.first_key_value().map(|(next, _)| *next));
    firsts.collect::<Option<Vec<_>>>()?.into_iter().min()
}

const SUFFIX: &str = ".snapshot";
const TEMPORARY: &str = ".new";

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { division: Division { since, count }, shard, next } = self;
        write!(f, "{since:020}-{shard:05}-of-{count:05}-{next:020}{SUFFIX}")
    }
}

impl Name {
    /// While it is being written.
    fn temporary(self) -> String {
        format!("{self}{TEMPORARY}")
    }

    fn parse(file: &str) -> Option<Self> {
        let (since, rest) = file.strip_suffix(SUFFIX)?.split_once('-')?;
        let (shard, rest) = rest.split_once("-of-")?;
        let (count, next) = rest.split_once('-')?;
        let division = Division { since: since.parse().ok()?, count: count.parse().ok()? };
        let name = Self { division, shard: shard.parse().ok()?, next: next.parse().ok()? };
        // A count takes as many lookups, and sequences go on from the newest.
        let sane = division.count <= usize::from(u16::MAX) && name.next <= SEQUENCE_MAX;
        (sane && name.shard < division.count).then_some(name)
    }
}

/// Says whether the bytes of a file are a snapshot, as a start does, and how many series are in it.
///
/// Never panics, whatever the bytes are: for tools and tests.
///
/// # Errors
/// [`Damaged`].
pub fn check(bytes: &[u8]) -> Result<usize, Damaged> {
    let file = MemoryDisk::default().create("snapshot")?;
    file.append(bytes)?;
    parse(&*file).map(|(_, engine)| engine.series_count())
}

fn parse(file: &dyn File) -> Result<(Head, Engine), Damaged> {
    let mut start = [0; MAGIC.len() + 1];
    read_exact(file, 0, &mut start)?;
    match start.split_last() {
        Some((&VERSION, magic)) if magic == MAGIC => {}
        Some((&found, magic)) if magic == MAGIC => return Err(Damaged::Version { found }),
        _ => return Err(Damaged::Foreign),
    }
    let mut blocks = Blocks { file, offset: start.len() as u64, size: file.size()? };
    let head = blocks.next().and_then(|block| postcard::from_bytes::<Head>(&block).ok());
    let head = head.ok_or(Damaged::Head)?;
    let engine = Engine::restore(blocks)?;
    let Name { division, shard, .. } = head.name;
    match engine.shard() == (Shard { index: shard, count: division.count }) {
        true => Ok((head, engine)),
        false => Err(Damaged::Head),
    }
}

fn read_exact(file: &dyn File, offset: u64, into: &mut [u8]) -> io::Result<()> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(offset + read as u64, &mut into[read..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => read += more,
        }
    }
    Ok(())
}

/// The blocks of a file, up to the first that is not good.
struct Blocks<'a> {
    file: &'a dyn File,
    offset: u64,
    size: u64,
}

impl Iterator for Blocks<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut frame = [0; 8];
        read_exact(self.file, self.offset, &mut frame).ok()?;
        let (length, crc) = frame.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        let left = self.size.saturating_sub(self.offset + 8);
        if length as usize > BLOCK_BYTES_MAX || u64::from(length) > left {
            return None;
        }
        let mut block = vec![0; length as usize];
        read_exact(self.file, self.offset + 8, &mut block).ok()?;
        self.offset += 8 + u64::from(length);
        (crc32c::crc32c(&block).to_le_bytes() == *crc).then_some(block)
    }
}

#[cfg(test)]
mod tests;
