//! How a group was written, so that the next one that differs in the same places is written without looking anew.
//!
//! Its elements are then those of the pattern but for the bytes of literals, and no byte is another than one that was
//! looked for would be: a pattern is an abbreviation, not a choice.

use super::VALUE_BYTES;
use crate::wire::snappy::{Elements, REPEATED_MAX};

/// Places among the labels at which a pattern may differ.
const CHANGES_MAX: usize = 4;

/// Series of a group that has a pattern.
pub(super) const SERIES_MAX: usize = 4;

/// Bytes that are compared and written at once at one of these places.
const WORD: usize = size_of::<u64>();

// Places among elements are kept as bytes.
const _: () = assert!(REPEATED_MAX <= u8::MAX as usize);

/// What is written at these places.
pub(super) type Words = [u64; CHANGES_MAX];

/// What differed while a group was looked at.
#[derive(Default, Debug)]
pub(super) struct Noted {
    /// Begin and length in the source, and where among the elements the bytes stand.
    changes: [(usize, usize, usize); CHANGES_MAX],
    /// More than there is room for where there is no pattern.
    count: usize,
    /// Where values stand among the elements; 0 for one that is equal.
    values: [usize; SERIES_MAX],
}

impl Noted {
    /// Nothing yet of so many series.
    #[inline]
    pub(super) fn of(series: usize) -> Self {
        Self { count: if series > SERIES_MAX { CHANGES_MAX + 1 } else { 0 }, ..Self::default() }
    }

    /// Notes that so many bytes of the source differ, which are the last that `elements` have.
    #[inline]
    pub(super) fn change(&mut self, (start, bytes): (usize, usize), elements: &Elements) {
        if let Some(change) = self.changes.get_mut(self.count) {
            *change = (start, bytes, elements.place() - bytes);
        }
        self.count += 1;
    }

    /// Notes that the value of a series differs, and is the last that `elements` have.
    #[inline]
    pub(super) fn value(&mut self, index: usize, elements: &Elements) {
        if let Some(value) = self.values.get_mut(index) {
            *value = elements.place() - VALUE_BYTES;
        }
    }

    /// Notes what has no pattern.
    #[inline]
    pub(super) fn spoil(&mut self) {
        self.count = CHANGES_MAX + 1;
    }
}

/// A place at which groups differ.
#[derive(Clone, Copy, Default, Debug)]
struct Change {
    /// The bits of a word that are other ones.
    mask: u64,
    /// The other bits among the elements.
    rest: u64,
    /// Where the word stands in the source.
    source: u16,
    /// Where it stands among the elements.
    at: u8,
    /// The lowest bit of the first and of the last byte of those that are other ones.
    ends: [u8; 2],
}

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Pattern {
    /// How far back it copies from; 0 where there is no pattern.
    back: usize,
    /// Bytes of the group before that it copies first, and what it leaves to be copied next.
    open: usize,
    gap: usize,
    /// Where its elements stand, and how long they are.
    place: usize,
    length: usize,
    changes: [Change; CHANGES_MAX],
    count: usize,
    values: [u8; SERIES_MAX],
    /// Whether the group before did not fit.
    missed: bool,
}

/// Where and from what a group was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    pub(super) run: &'a [u8],
    pub(super) back: usize,
    /// Bytes that were to be copied first, and are to be copied next.
    pub(super) open: usize,
    pub(super) gap: usize,
    /// Where its elements begin.
    pub(super) place: usize,
}

impl Pattern {
    /// Takes it for none.
    pub(super) fn forget(&mut self) {
        self.back = 0;
    }

    /// Whether there is one, and the last group fitted.
    #[cfg(test)]
    pub(super) fn was_taken(&self) -> bool {
        self.back > 0 && !self.missed
    }

    /// Whether a group may be written by it that copies from so far back.
    #[inline]
    pub(super) fn fits(&self, back: usize, elements: &Elements) -> bool {
        self.back == back && back > 0 && elements.is_open((back, self.open))
    }

    /// Which values differ, one after the other.
    #[inline(always)]
    pub(super) fn differ(&self) -> impl Iterator<Item = bool> {
        self.values.iter().map(|at| *at > 0)
    }

    /// Compares `run` with the one that was `known`, which becomes equal. Where they differ elsewhere, that stays as it is,
    /// and there is no pattern.
    #[inline(always)]
    pub(super) fn take_changes(&self, run: &[u8], known: &mut [u8]) -> Option<Words> {
        let (mut words, mut olds) = ([0; CHANGES_MAX], [0; CHANGES_MAX]);
        let mut taken = 0;
        let changes = &self.changes[..self.count.min(CHANGES_MAX)];
        for (index, change) in changes.iter().enumerate() {
            let at = usize::from(change.source);
            let new = u64::from_le_bytes(*run[at..].first_chunk().expect("the run is as long"));
            let place = known[at..].first_chunk_mut().expect("what is known is as long");
            let old = u64::from_le_bytes(*place);
            let differ = (new ^ old) & change.mask;
            // Fewer bytes would be written for fewer that differ.
            if (differ >> change.ends[0]) as u8 == 0 || differ >> change.ends[1] == 0 {
                break;
            }
            *place = (old ^ differ).to_le_bytes();
            (words[index], olds[index]) = (new & change.mask | change.rest, old);
            taken += 1;
        }
        if taken == changes.len() && run == known {
            return Some(words);
        }
        for (change, old) in changes[..taken].iter().zip(olds).rev() {
            known[usize::from(change.source)..][..WORD].copy_from_slice(&old.to_le_bytes());
        }
        None
    }

    /// Writes a group by it: what differs, and the bits of all values. It has so many bytes up to `at`.
    #[inline(always)]
    pub(super) fn write(
        &mut self,
        elements: &mut Elements,
        words: &Words,
        values: &[u64; SERIES_MAX],
        at: usize,
    ) {
        let place = elements.place();
        let room = elements.repeat(self.place, self.length);
        for (change, word) in self.changes[..self.count.min(CHANGES_MAX)].iter().zip(words) {
            room[usize::from(change.at)..][..WORD].copy_from_slice(&word.to_le_bytes());
        }
        for (&at, value) in self.values.iter().zip(values) {
            if at > 0 {
                room[usize::from(at)..][..VALUE_BYTES].copy_from_slice(&value.to_le_bytes());
            }
        }
        elements.leave((self.back, self.gap), at);
        (self.place, self.missed) = (place, false);
    }

    /// Takes what was noted of a group for the pattern, unless it has one that fitted the last time: of counted up
    /// numbers every tenth differs in one more place.
    pub(super) fn learn(&mut self, noted: &Noted, written: &Written<'_>, elements: &Elements) {
        if self.back > 0 && !std::mem::replace(&mut self.missed, true) {
            return;
        }
        self.back = 0;
        let length = elements.place() - written.place;
        if noted.count > CHANGES_MAX || written.open == 0 || length > REPEATED_MAX {
            return;
        }
        for (index, &change) in noted.changes[..noted.count].iter().enumerate() {
            let Some(change) = change_of(change, written, elements) else { return };
            let before = index.checked_sub(1).map(|before| noted.changes[before]);
            if before.is_some_and(|(_, bytes, at)| at + bytes > written.place + usize::from(change.at)) {
                return;
            }
            self.changes[index] = change;
        }
        self.values = noted.values.map(|at| at.saturating_sub(written.place) as u8);
        let Written { back, open, gap, place, .. } = *written;
        (self.place, self.length, self.count, self.missed) = (place, length, noted.count, false);
        (self.back, self.open, self.gap) = (back, open, gap);
    }
}

/// None where it has more bytes than a word, or where no word is at hand.
fn change_of(
    (start, bytes, place): (usize, usize, usize),
    written: &Written<'_>,
    elements: &Elements,
) -> Option<Change> {
    let source = start.min(written.run.len().checked_sub(WORD)?);
    let shift = start - source;
    let at = place.checked_sub(written.place + shift)?;
    let last = shift + bytes - 1;
    let mask = u64::MAX.checked_shr(8 * WORD.checked_sub(bytes)? as u32)? << (8 * shift);
    let rest = elements.word(written.place + at)? & !mask;
    let ends = [8 * shift as u8, u8::try_from(8 * last).ok().filter(|_| last < WORD)?];
    Some(Change { mask, rest, source: source.try_into().ok()?, at: at.try_into().ok()?, ends })
}
