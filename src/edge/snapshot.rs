//! What engines know, in files: versioned, checksummed, written beside and renamed.
//!
//! Each shard has files of its own, tied to the sequence of the record that it would take next. The two newest are
//! kept: if one is damaged the other is used, and the journal is kept from the older one on. A file: magic of 8 bytes
//! that end in the version; then blocks, each with its length `u32`, its CRC32C `u32` and its bytes, little-endian.
//! The first block says what it is, the others are those of [`Engine::save`].

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::disk::{Disk, File};
use super::judge::Judge;
use super::telemetry::Metrics;
use crate::engine::{Engine, Shard};

const MAGIC: &[u8; 8] = b"prmsnap\x01";
/// Longest block that is read: one is half a MiB, or a single series or plan that is longer.
const BLOCK_BYTES_MAX: usize = 64 << 20;
/// How many files are kept of each shard.
const KEPT: usize = 2;

/// What a snapshot says of itself.
#[derive(Serialize, Deserialize)]
struct Head {
    shard: usize,
    count: usize,
    next: u64,
    samples_per_request: usize,
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// The system's error.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its bytes are no snapshot.
    #[error("it is no snapshot of this version")]
    Foreign,
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
    /// For each shard of a count: the sequences of its files, ascending, and their bytes.
    known: Mutex<BTreeMap<(usize, usize), BTreeMap<u64, u64>>>,
    /// How often somebody asked for snapshots before their time.
    asked: AtomicU64,
    metrics: Arc<Metrics>,
}

/// A snapshot that is written, and that nobody may rely on yet: dropped, it is removed.
#[derive(Debug)]
pub struct Unfinished {
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    shard: Shard,
    next: u64,
    finished: bool,
}

impl Unfinished {
    /// Whose it is.
    pub fn shard(&self) -> Shard {
        self.shard
    }

    /// The sequence of the record that its judge would take next.
    pub fn next(&self) -> u64 {
        self.next
    }

    fn name(&self) -> String {
        file_name(self.shard.index, self.shard.count, self.next)
    }

    fn temporary(&self) -> String {
        self.name() + TEMPORARY
    }

    /// Makes it durable, under its own name, and tells its bytes.
    fn finish(&mut self) -> io::Result<u64> {
        self.file.sync()?;
        self.disk.rename(&self.temporary(), &self.name())?;
        self.finished = true;
        self.disk.sync()?;
        self.file.size()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            // One that cannot be removed now is removed at the next start.
            let _ = self.disk.remove(&self.temporary());
        }
    }
}

impl Snapshots {
    /// Those on `disk`.
    ///
    /// # Errors
    /// As the system tells.
    pub fn on(disk: Arc<dyn Disk>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let mut known: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for name in disk.list()? {
            if let Some((shard, count, next)) = parse_name(&name) {
                known.entry((count, shard)).or_default().insert(next, disk.open(&name)?.size()?);
            } else if name.ends_with(TEMPORARY) {
                // A crash left it half written.
                disk.remove(&name)?;
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
        let (shard, next) = (judge.shard(), judge.next());
        let file = self.disk.create(&(file_name(shard.index, shard.count, next) + TEMPORARY))?;
        let unfinished = Unfinished { disk: Arc::clone(&self.disk), file, shard, next, finished: false };
        write_blocks(&*unfinished.file, judge)?;
        Ok(unfinished)
    }

    /// Makes durable what was written, and forgets older files of its shard: the rest of [`Self::save`], which waits
    /// for the disk. Everything that its judge had derived must be durable.
    ///
    /// # Errors
    /// As the system tells; what was saved before stays.
    pub fn finish(&self, mut unfinished: Unfinished) -> io::Result<()> {
        let bytes = unfinished.finish()?;
        let Shard { index, count } = unfinished.shard;
        let mut known = self.lock();
        let files = known.entry((count, index)).or_default();
        files.insert(unfinished.next, bytes);
        while files.len() > KEPT
            && let Some((oldest, _)) = files.pop_first()
        {
            // One that cannot be removed now is found at the next start.
            let _ = self.disk.remove(&file_name(index, count, oldest));
        }
        self.forget_other_counts(&mut known, count);
        let newest = known.values().filter_map(|files| files.last_key_value());
        self.metrics.snapshot_bytes.set(newest.map(|(_, bytes)| *bytes as i64).sum());
        Ok(())
    }

    /// The newest good snapshot of a shard. Damaged ones are counted and told of.
    pub fn load(&self, shard: usize, count: usize) -> Option<Judge> {
        let nexts: Vec<u64> = self.lock().get(&(count, shard))?.keys().rev().copied().collect();
        nexts.into_iter().find_map(|next| match self.read(shard, count, next) {
            Ok(judge) => Some(judge),
            Err(damaged) => {
                self.metrics.snapshots_damaged.inc();
                let file = file_name(shard, count, next);
                tracing::warn!(file, "a snapshot cannot be used: {damaged}");
                self.lock().entry((count, shard)).or_default().remove(&next);
                None
            }
        })
    }

    /// The sequence from which on a start may need the journal, with `count` shards.
    pub fn needed(&self, count: usize) -> u64 {
        let known = self.lock();
        let older = |shard| {
            let files = known.get(&(count, shard)).filter(|files| files.len() >= KEPT);
            files.and_then(|files| files.first_key_value()).map_or(0, |(next, _)| *next)
        };
        (0..count).map(older).min().unwrap_or(0)
    }

    /// Asks for snapshots before their time, since the journal is nearly full.
    pub fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// How often somebody asked.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn read(&self, shard: usize, count: usize, next: u64) -> Result<Judge, Damaged> {
        let file = self.disk.open(&file_name(shard, count, next))?;
        let mut magic = [0; MAGIC.len()];
        read_exact(&*file, 0, &mut magic)?;
        if magic != *MAGIC {
            return Err(Damaged::Foreign);
        }
        let mut blocks = Blocks { file: &*file, offset: MAGIC.len() as u64, size: file.size()? };
        let head = blocks.next().and_then(|block| postcard::from_bytes::<Head>(&block).ok());
        let head = head.filter(|head| (head.shard, head.count, head.next) == (shard, count, next));
        let head = head.ok_or(Damaged::Head)?;
        let engine = Engine::restore(blocks)?;
        let place = Shard { index: shard, count };
        if engine.shard() != place {
            return Err(Damaged::Head);
        }
        Ok(Judge::with(engine, place, head.samples_per_request, next))
    }

    /// Once all shards of a count have as many files as are kept, those of other counts are of no use.
    fn forget_other_counts(&self, known: &mut BTreeMap<(usize, usize), BTreeMap<u64, u64>>, count: usize) {
        let full = |shard| known.get(&(count, shard)).is_some_and(|files| files.len() >= KEPT);
        if !(0..count).all(full) {
            return;
        }
        known.retain(|(other, shard), files| {
            let keep = *other == count;
            if !keep {
                files.keys().for_each(|next| drop(self.disk.remove(&file_name(*shard, *other, *next))));
            }
            keep
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(usize, usize), BTreeMap<u64, u64>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SUFFIX: &str = ".snapshot";
const TEMPORARY: &str = ".new";

fn file_name(shard: usize, count: usize, next: u64) -> String {
    format!("{shard:05}-of-{count:05}-{next:020}{SUFFIX}")
}

fn parse_name(name: &str) -> Option<(usize, usize, u64)> {
    let (shard, rest) = name.strip_suffix(SUFFIX)?.split_once("-of-")?;
    let (count, next) = rest.split_once('-')?;
    Some((shard.parse().ok()?, count.parse().ok()?, next.parse().ok()?))
}

fn write_blocks(file: &dyn File, judge: &Judge) -> io::Result<()> {
    let Shard { index, count } = judge.shard();
    let (next, samples_per_request) = (judge.next(), judge.samples_per_request());
    let head = Head { shard: index, count, next, samples_per_request };
    let head = postcard::to_stdvec(&head).expect("numbers can be written");
    let mut outcome = file.append(MAGIC).and_then(|()| append_block(file, &head));
    judge.engine().save(&mut |block| {
        if outcome.is_ok() {
            outcome = append_block(file, block);
        }
    });
    outcome
}

fn append_block(file: &dyn File, block: &[u8]) -> io::Result<()> {
    let length = u32::try_from(block.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut framed = Vec::with_capacity(8 + block.len());
    framed.extend_from_slice(&length.to_le_bytes());
    framed.extend_from_slice(&crc32c::crc32c(block).to_le_bytes());
    framed.extend_from_slice(block);
    file.append(&framed)
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
mod tests {
    use super::*;
    use crate::edge::disk::MemoryDisk;
    use crate::edge::journal::Rules;
    use crate::engine::monitor::{Plan, SeriesLimits};

    fn judge(next: u64) -> Judge {
        let limits = SeriesLimits { series_max: 9, new_series_per_second: 9, idle_eviction_ms: 1000 };
        let plan = Plan { monitors: Vec::new(), limits };
        Judge::new(0, &Rules { plan, shards: 1, samples_per_request: 9 }, next)
    }

    #[test]
    fn what_is_written_counts_once_it_is_finished_and_is_gone_if_it_never_is() {
        let disk = Arc::new(MemoryDisk::default());
        let names = || disk.list().expect("memory does not fail");
        let snapshots = Snapshots::on(Arc::clone(&disk) as Arc<dyn Disk>, Arc::new(Metrics::new()));
        let snapshots = snapshots.expect("memory does not fail");
        drop(snapshots.write(&judge(5)).expect("memory does not fail"));
        assert_eq!(names(), [""; 0]);
        let unfinished = snapshots.write(&judge(7)).expect("memory does not fail");
        assert!(snapshots.load(0, 1).is_none());
        assert!(names().iter().all(|name| name.ends_with(TEMPORARY)));
        snapshots.finish(unfinished).expect("memory does not fail");
        assert_eq!(snapshots.load(0, 1).map(|judge| judge.next()), Some(7));
        assert_eq!(names(), [file_name(0, 1, 7)]);
    }
}
