//! An engine that is being put together from blocks, checked item by item.

use std::sync::Arc;

use serde::Deserialize;

use super::{Counts, FORMAT, Head, Kind, RestoreError, common};
use crate::engine::families::Families;
use crate::engine::monitor::Plan;
use crate::engine::replicas::Replicas;
use crate::engine::table::{Known, Misplaced, Reader, Rebuild};
use crate::engine::{Engine, Scratch, Shard};
use crate::series::{LabelRun, MetricKind, SeriesHash};

/// Which block is being read, for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) block: usize,
}

impl Place {
    fn damaged(self, problem: impl ToString) -> RestoreError {
        RestoreError::Damaged { block: self.block, problem: problem.to_string() }
    }

    /// The kind of a block, which does not come before `last`, and its items.
    pub(super) fn kind(self, bytes: &[u8], last: Kind) -> Result<(Kind, &[u8]), RestoreError> {
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

    pub(super) fn head(self, bytes: &[u8]) -> Result<Head<Plan, Replicas>, RestoreError> {
        let (kind, items) = self.kind(bytes, Kind::Head)?;
        if kind != Kind::Head {
            return Err(self.damaged(format!("{} stand first", kind.items())));
        }
        let (format, _) = self.one::<u16>(items)?;
        if format != FORMAT {
            return Err(RestoreError::Format { found: format });
        }
        let (head, rest) = self.one::<Head<Plan, Replicas>>(items)?;
        let Shard { index, count } = head.shard;
        if !rest.is_empty() || index >= count {
            return Err(self.damaged(format!("shard {index} of {count}, {} bytes too many", rest.len())));
        }
        Ok(head)
    }
}

/// An engine that is being put together.
#[derive(Debug)]
pub(super) struct Restored {
    shard: Shard,
    plan: Arc<Plan>,
    generation: u32,
    replicas: Replicas,
    families: Families,
    table: Rebuild,
    flagged: i64,
    /// Labels of the series before in the same block.
    labels: Vec<u8>,
    counts: Counts,
}

impl Restored {
    pub(super) fn of(head: Head<Plan, Replicas>) -> Self {
        let Head { shard, plan, generation, pace, replicas, .. } = head;
        let mut counts = Counts::default();
        counts[Kind::Head as usize - 1] = 1;
        Self {
            shard,
            table: Rebuild::new(&plan.limits, shard.count, pace),
            plan: Arc::new(plan),
            generation,
            replicas,
            families: Families::default(),
            flagged: 0,
            labels: Vec::new(),
            counts,
        }
    }

    /// Takes all items of a block.
    pub(super) fn take(&mut self, place: Place, kind: Kind, mut items: &[u8]) -> Result<(), RestoreError> {
        self.labels.clear();
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
                let ((slot, begin, end, between, known), rest) =
                    place.one::<(u32, u32, u32, &[u8], Known)>(items)?;
                self.follow((begin, end), between)
                    .ok_or_else(|| place.damaged("labels have more in common than the ones before have"))?;
                let labels = LabelRun::checked(&self.labels);
                let labels = labels.ok_or_else(|| place.damaged("labels are not canonical"))?;
                if !self.is_own(labels, &known) {
                    return Err(place.damaged("a series belongs to another shard or plan"));
                }
                self.flagged += known.signals.iter().filter(|signal| signal.is_flagged()).count() as i64;
                self.table.put(slot, labels, known).map_err(misplaced)?;
                Ok(rest)
            }
        }
    }

    /// Makes of the labels before those that begin and end with so many bytes of them; `None` where they have fewer.
    fn follow(&mut self, (begin, end): (u32, u32), between: &[u8]) -> Option<()> {
        self.labels.truncate(common(&self.labels));
        let end = self.labels.len().checked_sub(end as usize)?;
        let changed = begin as usize..end;
        (changed.start <= changed.end).then(|| drop(self.labels.splice(changed, between.iter().copied())))
    }

    /// Whether a series falls to this shard and keeps what its monitors ask for.
    fn is_own(&self, labels: LabelRun<'_>, known: &Known) -> bool {
        let monitors = &self.plan.monitors;
        SeriesHash::of(labels).shard(self.shard.count) == self.shard.index
            && known.signals.len() <= monitors.len()
            && known.signals.iter().all(|signal| signal.is_of(monitors))
    }

    pub(super) fn finish(self, place: Place, end: &[u8]) -> Result<Engine, RestoreError> {
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
            named: crate::engine::named(&self.plan),
            plan: self.plan,
            table: self.table.finish().map_err(|problem| place.damaged(problem))?,
            families: self.families,
            replicas: self.replicas,
            generation: self.generation,
            flagged: self.flagged,
            scratch: Scratch::default(),
            reader: Reader::default(),
            saving: None,
        })
    }
}
