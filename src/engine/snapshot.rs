//! An engine as blocks of bytes, and back.
//!
//! A block is one byte that says what it holds, and items of that kind, in [postcard](https://postcard.jamesmunns.com)
//! encoding, to its end. First stands the head: format, shard, plan, and what is not a list. Then come families, ignored series,
//! free slots, and series with their slots, each in as many blocks as they need; last the end, which counts them all.
//! There is no checksum: that is for whoever keeps the blocks. What is damaged all the same is an error, never a panic,
//! and takes memory by what was brought, not by what it declares.
//!
//! Everything that decides what an engine will say is in it, down to the bits of each float, the order of free slots
//! and the reason for which a series is passed over. Only what follows from the rest is left out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::families::Families;
use super::monitor::Plan;
use super::table::{Entry, Misplaced, Pace, Rebuild};
use super::{Engine, Scratch, Shard};
use crate::series::{MetricKind, SeriesHash};

/// The format that is written, and the only one that is read.
pub const FORMAT: u16 = 1;

/// A block ends with the first item that brings it to so many bytes.
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
struct Head<P> {
    format: u16,
    shard: Shard,
    plan: P,
    generation: u32,
    pace: Pace,
}

/// How many items there are of each kind, in the order of [`Kind::ALL`].
type Counts = [u64; Kind::ALL.len()];

impl Engine {
    /// Hands everything that the engine knows to `put`, in blocks of half a MiB; one may be longer by its last item, which is
    /// at most the labels of a series for each of its monitors and some 4 KiB of what was learned.
    ///
    /// Equal engines give equal bytes. Costs about a microsecond and 4 KiB for a series that was seen for a week and
    /// has one monitor of the methods of `fast`, and about 0.3 KiB when it was seen a few times.
    pub fn save(&self, put: &mut dyn FnMut(&[u8])) {
        let mut blocks = Blocks { put, bytes: Vec::with_capacity(BLOCK_BYTES), counts: Counts::default() };
        let pace = self.table.pace();
        let head =
            Head { format: FORMAT, shard: self.shard, plan: &*self.plan, generation: self.generation, pace };
        blocks.item(Kind::Head, &head);
        self.families.iter().for_each(|family| blocks.item(Kind::Family, &family));
        self.table.ignored().iter().for_each(|hash| blocks.item(Kind::Ignored, hash));
        self.table.free().iter().for_each(|slot| blocks.item(Kind::Free, slot));
        self.table.slots().for_each(|series| blocks.item(Kind::Series, &series));
        let counts = blocks.counts;
        blocks.item(Kind::End, &counts);
        blocks.flush();
    }

    /// Makes an engine of the blocks that another one saved. It will do, sample for sample and byte for byte, what that one
    /// would have done.
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

/// Blocks that are being written.
struct Blocks<'a> {
    put: &'a mut dyn FnMut(&[u8]),
    bytes: Vec<u8>,
    counts: Counts,
}

impl Blocks<'_> {
    fn item(&mut self, kind: Kind, item: &impl Serialize) {
        let of_kind = self.bytes.first() == Some(&(kind as u8));
        if !of_kind || self.bytes.len() >= BLOCK_BYTES {
            self.flush();
            self.bytes.push(kind as u8);
        }
        postcard::serialize_with_flavor(item, Appended(&mut self.bytes)).expect("memory takes every byte");
        self.counts[kind as usize - 1] += 1;
    }

    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            (self.put)(&self.bytes);
            self.bytes.clear();
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

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Which block is being read, for errors.
#[derive(Clone, Copy)]
struct Place {
    block: usize,
}

impl Place {
    fn damaged(self, problem: impl ToString) -> RestoreError {
        RestoreError::Damaged { block: self.block, problem: problem.to_string() }
    }

    /// The kind of a block, which does not come before `last`, and its items.
    fn kind(self, bytes: &[u8], last: Kind) -> Result<(Kind, &[u8]), RestoreError> {
        let (tag, items) = bytes.split_first().ok_or_else(|| self.damaged("it is empty"))?;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == *tag);
        let kind = kind.ok_or_else(|| self.damaged(format!("its kind {tag} is not known")))?;
        if kind < last {
            return Err(self.damaged(format!("{} stand behind {}", kind.items(), last.items())));
        }
        Ok((kind, items))
    }

    /// Reads one item and what is left after it.
    fn one<'a, T: Deserialize<'a>>(self, bytes: &'a [u8]) -> Result<(T, &'a [u8]), RestoreError> {
        postcard::take_from_bytes(bytes).map_err(|error| self.damaged(error))
    }

    fn head(self, bytes: &[u8]) -> Result<Head<Plan>, RestoreError> {
        let (kind, items) = self.kind(bytes, Kind::Head)?;
        if kind != Kind::Head {
            return Err(self.damaged(format!("{} stand first", kind.items())));
        }
        let (format, _) = self.one::<u16>(items)?;
        if format != FORMAT {
            return Err(RestoreError::Format { found: format });
        }
        let (head, rest) = self.one::<Head<Plan>>(items)?;
        let Shard { index, count } = head.shard;
        if !rest.is_empty() || index >= count {
            return Err(self.damaged(format!("shard {index} of {count}, {} bytes too many", rest.len())));
        }
        Ok(head)
    }
}

/// An engine that is being put together.
struct Restored {
    shard: Shard,
    plan: Arc<Plan>,
    generation: u32,
    families: Families,
    table: Rebuild,
    flagged: i64,
    counts: Counts,
}

impl Restored {
    fn of(head: Head<Plan>) -> Self {
        let Head { shard, plan, generation, pace, .. } = head;
        let mut counts = Counts::default();
        counts[Kind::Head as usize - 1] = 1;
        Self {
            shard,
            table: Rebuild::new(&plan.limits, shard.count, pace),
            plan: Arc::new(plan),
            generation,
            families: Families::default(),
            flagged: 0,
            counts,
        }
    }

    /// Takes all items of a block.
    fn take(&mut self, place: Place, kind: Kind, mut items: &[u8]) -> Result<(), RestoreError> {
        while !items.is_empty() {
            items = self.item(place, kind, items)?;
            self.counts[kind as usize - 1] += 1;
        }
        Ok(())
    }

    /// Takes the first of `items` and returns the others.
    fn item<'a>(&mut self, place: Place, kind: Kind, items: &'a [u8]) -> Result<&'a [u8], RestoreError> {
        let misplaced = |problem: Misplaced| place.damaged(problem);
        match kind {
            Kind::Head | Kind::End => Err(place.damaged("it is the second head")),
            Kind::Family => {
                let ((family, metric), rest) = place.one::<(Box<str>, MetricKind)>(items)?;
                let fits = self.families.take(family, metric);
                fits.then_some(rest).ok_or_else(|| place.damaged("families are too many or too long"))
            }
            Kind::Ignored => {
                let (hash, rest) = place.one::<SeriesHash>(items)?;
                self.table.ignore(hash).map_err(misplaced)?;
                Ok(rest)
            }
            Kind::Free => {
                let (slot, rest) = place.one::<u32>(items)?;
                self.table.free(slot);
                Ok(rest)
            }
            Kind::Series => {
                let ((slot, entry), rest) = place.one::<(u32, Entry)>(items)?;
                if !self.is_own(&entry) {
                    return Err(place.damaged("a series belongs to another shard or plan"));
                }
                self.flagged += entry.signals.iter().filter(|signal| signal.is_flagged()).count() as i64;
                self.table.put(slot, entry).map_err(misplaced)?;
                Ok(rest)
            }
        }
    }

    /// Whether a series falls to this shard and keeps what its monitors ask for.
    fn is_own(&self, entry: &Entry) -> bool {
        let monitors = &self.plan.monitors;
        entry.hash.shard(self.shard.count) == self.shard.index
            && entry.signals.len() <= monitors.len()
            && entry.signals.iter().all(|signal| signal.is_of(monitors))
    }

    fn finish(self, place: Place, end: &[u8]) -> Result<Engine, RestoreError> {
        let (said, rest) = place.one::<Counts>(end)?;
        if !rest.is_empty() {
            return Err(place.damaged(format!("{} bytes too many", rest.len())));
        }
        for (kind, (found, said)) in Kind::ALL.into_iter().zip(self.counts.into_iter().zip(said)) {
            if found != said {
                return Err(RestoreError::Count { items: kind.items(), found, said });
            }
        }
        Ok(Engine {
            shard: self.shard,
            plan: self.plan,
            table: self.table.finish().map_err(|problem| place.damaged(problem))?,
            families: self.families,
            generation: self.generation,
            flagged: self.flagged,
            scratch: Scratch::default(),
        })
    }
}
