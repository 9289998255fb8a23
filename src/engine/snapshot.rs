//! An engine as blocks of bytes, and back.
//!
//! A block is one byte that says what it holds, and items of that kind to its end, in the encoding of postcard
//! (<https://postcard.jamesmunns.com>). First stands the head: format, shard, plan, and what is not a list. Then come
//! families, ignored series, free slots, and series with their slots in any order, each in as many blocks as they need;
//! last the end, which counts them all. Labels of a series are what differs from those before it in its block: how many
//! bytes they begin with, how many they end with, and what stands between; behind labels of more than 4 KiB they are whole.
//! There is no checksum: that is for whoever keeps the blocks. What is damaged all the same is an error, never a panic, and
//! takes memory by what was brought, not by what it declares.
//!
//! Everything that decides what an engine will say is in it, down to the bits of each float, the order of free slots
//! and the reason for which a series is passed over. Only what follows from the rest is left out.

mod restored;
mod saving;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::table::{Known, Pace};
use super::{Engine, Shard};
use crate::series::{LabelRun, common_prefix, common_suffix};
use restored::{Place, Restored};
pub(super) use saving::Saving;

/// The format that is written, and the only one that is read.
pub const FORMAT: u16 = 5;

/// More than most items have: a block ends with the one that fills it.
const ITEM_BYTES: usize = 4 * 1024;

/// Labels that have more bytes are not said to come again: else a few bytes would ask for much memory.
const COMMON_MAX: usize = 4 * 1024;

/// Bytes of a block, where nobody asks for others.
const BLOCK_BYTES: usize = 512 * 1024;

/// Why blocks make no engine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is of another time.
    #[error("snapshot has format {found}, this version reads only {FORMAT}")]
    Format {
        /// What the head says.
        found: u16,
    },
    /// Its bytes are not what their kind should be, or not where it should stand.
    #[error("snapshot is damaged in block {block}: {problem}")]
    Damaged {
        /// Counted from 1.
        block: usize,
        /// What is wrong there.
        problem: String,
    },
    /// There are no more, and the last was not the end.
    #[error("snapshot ends after {blocks} blocks, which is too early")]
    NoEnd {
        /// How many there were.
        blocks: usize,
    },
    /// A block is missing, or there is one too many.
    #[error("snapshot has {found} {items}, its end says {said}")]
    Count {
        /// Of what.
        items: &'static str,
        /// How many there are.
        found: u64,
        /// How many there should be.
        said: u64,
    },
}

/// What a block holds, in the order of blocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Head = 1,
    Family,
    Ignored,
    Free,
    Series,
    End,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Head, Self::Family, Self::Ignored, Self::Free, Self::Series, Self::End];

    const fn items(self) -> &'static str {
        match self {
            Self::Head => "heads",
            Self::Family => "families",
            Self::Ignored => "ignored series",
            Self::Free => "free slots",
            Self::Series => "series",
            Self::End => "ends",
        }
    }
}

/// What is not a list.
#[derive(Serialize, Deserialize)]
struct Head<P, R> {
    format: u16,
    shard: Shard,
    plan: P,
    generation: u32,
    pace: Pace,
    replicas: R,
}

/// How many items there are of each kind, in the order of [`Kind::ALL`].
type Counts = [u64; Kind::ALL.len()];

impl Engine {
    /// Hands everything that the engine knows to `put`, in blocks of half a MiB. One may be longer by its last item:
    /// the labels of a series and some 4 KiB of what was learned, once for each of its monitors; or the plan.
    ///
    /// Equal engines give equal bytes. For a series with one monitor with the methods of `fast`, whose labels differ in
    /// few bytes from those before, 0.3 KiB in half a microsecond after a few samples, 0.7 KiB in one after a week with
    /// the baseline.
    pub fn save(&self, put: &mut dyn FnMut(&[u8])) {
        let mut saving = Saving::of(self, BLOCK_BYTES);
        while let Some(block) = saving.next(&self.table) {
            put(&block);
        }
    }

    /// Begins to save what the engine knows now, while it goes on: [`Self::next_saved`] hands out what [`Self::save`]
    /// would, in blocks of `block_bytes`, though series that change meanwhile may stand before their turn. What was
    /// begun before is given up. Takes the time of what is no series, and a bit for each slot; then, until all is
    /// fetched, the time to save a series when it changes first, and memory for blocks that wait.
    pub fn begin_save(&mut self, block_bytes: usize) {
        self.saving = Some(Box::new(Saving::of(self, block_bytes)));
    }

    /// The next block of what is being saved; `None` once there is none. Then, nothing is.
    pub fn next_saved(&mut self) -> Option<Vec<u8>> {
        let block = self.saving.as_mut()?.next(&self.table);
        if block.is_none() {
            self.saving = None;
        }
        block
    }

    /// Bytes of blocks that wait to be fetched; `None` where nothing is being saved: to take another plan gives up what
    /// was begun.
    pub fn saved_bytes(&self) -> Option<usize> {
        self.saving.as_ref().map(|saving| saving.bytes())
    }

    /// Saves no more of what was begun.
    pub fn give_up_save(&mut self) {
        self.saving = None;
    }

    /// Makes an engine of the blocks that another one saved. It will say, sample for sample and byte for byte, what
    /// that one would have said.
    ///
    /// Reads no further than the end block.
    ///
    /// # Errors
    /// Whatever is not as [`save`](Self::save) leaves it.
    pub fn restore<B: AsRef<[u8]>>(blocks: impl IntoIterator<Item = B>) -> Result<Self, RestoreError> {
        let mut place = Place { block: 1 };
        let mut blocks = blocks.into_iter();
        let head = blocks.next().ok_or(RestoreError::NoEnd { blocks: 0 })?;
        let mut restored = Restored::of(place.head(head.as_ref())?);
        let mut last = Kind::Head;
        for bytes in blocks {
            place.block += 1;
            let (kind, items) = place.kind(bytes.as_ref(), last)?;
            if kind == Kind::End {
                return restored.finish(place, items);
            }
            restored.take(place, kind, items)?;
            last = kind;
        }
        Err(RestoreError::NoEnd { blocks: place.block })
    }
}

/// How many bytes of these labels those of the next series may have in common with them.
fn common(labels: &[u8]) -> usize {
    if labels.len() > COMMON_MAX { 0 } else { labels.len() }
}

/// Bytes that are written as such, not as a list.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

/// Blocks that are being written.
#[derive(Debug)]
struct Blocks {
    full: VecDeque<Vec<u8>>,
    /// The one that is not full yet.
    bytes: Vec<u8>,
    /// Labels of the series before in this block; none before the first.
    labels: Vec<u8>,
    /// A block ends with the first item that brings it to so many bytes.
    most: usize,
    counts: Counts,
}

impl Blocks {
    fn of(most: usize) -> Self {
        Self { full: VecDeque::new(), bytes: Vec::new(), labels: Vec::new(), most, counts: Counts::default() }
    }

    fn item(&mut self, kind: Kind, item: &impl Serialize) {
        self.make_room(kind);
        postcard::serialize_with_flavor(item, Appended(&mut self.bytes)).expect("memory takes every byte");
        self.counts[kind as usize - 1] += 1;
    }

    /// Begins a block, unless the last one is of this kind and has room.
    fn make_room(&mut self, kind: Kind) {
        let of_kind = self.bytes.first() == Some(&(kind as u8));
        if !of_kind || self.bytes.len() >= self.most {
            self.flush();
            self.bytes.reserve_exact(self.most + ITEM_BYTES);
            self.bytes.push(kind as u8);
            self.labels.clear();
        }
    }

    fn series(&mut self, slot: u32, labels: LabelRun<'_>, known: &Known) {
        self.make_room(Kind::Series);
        let (run, mut before) = (labels.as_bytes(), std::mem::take(&mut self.labels));
        before.truncate(common(&before));
        let begin = common_prefix(run, &before);
        let end = common_suffix(&run[begin..], &before[begin..]);
        let between = &run[begin..run.len() - end];
        self.item(Kind::Series, &(slot, begin as u32, end as u32, Text(between), known));
        before.clear();
        before.extend_from_slice(run);
        self.labels = before;
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            self.full.push_back(std::mem::take(&mut self.bytes));
        }
    }
}

/// Lets postcard write where other bytes stand already.
struct Appended<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appended<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        // Most are a number of one to three bytes, for which a call of `memcpy` takes longer than all else.
        match bytes {
            &[one] => self.0.push(one),
            &[one, two] => self.0.extend_from_slice(&[one, two]),
            &[one, two, three] => self.0.extend_from_slice(&[one, two, three]),
            longer => self.0.extend_from_slice(longer),
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
