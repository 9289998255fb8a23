//! Labels that the series of a group share, remembered to be compared with those of the next group that is like it.
//!
//! What is compared is what they were woven from, where it stands in a batch: where a byte differs there, one differs
//! in the labels, at a place that the seams tell. So labels of a known kind are put together nowhere.

use std::ops::Range;

use super::Parts;
use super::pattern::{Noted, Pattern, Words};
use crate::series::{GAINED, Woven, common_prefix, common_suffix};
use crate::wire::snappy::Elements;

/// Bytes that are compared at once.
const CHUNK: usize = 32;

/// What labels have in common that are divided alike.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Kind {
    /// Seams and the length of the source, or a hash of the lengths of parts, their length and a mark.
    numbers: [u64; 2],
    /// Lengths of what is gained beside the name of the source, the monitor's in the low half.
    lengths: u64,
    /// What the monitor's name begins and ends with.
    ends: [u64; 2],
}

/// A name is said by what it begins and ends with where it has no more bytes.
const ENDS_BYTES: u64 = 16;

/// In the second number of parts, and of no seams.
const PARTS: u64 = 1 << 63;

impl Kind {
    #[inline]
    pub(super) fn of_woven(woven: &Woven<'_>) -> Self {
        let [one, other] = woven.seams.numbers();
        let length = woven.source.as_bytes().len() as u64;
        debug_assert!(length <= u64::from(u16::MAX), "{length} bytes have no seams");
        Self {
            numbers: [one, other | length << 32],
            lengths: (woven.stat.len() as u64) << 32 | woven.monitor.len() as u64,
            ends: ends(woven.monitor),
        }
    }

    pub(super) fn of_parts((before, after): Parts<'_>) -> Self {
        let bytes = before.len() as u64;
        let (mixed, length) = after.iter().fold((bytes, bytes), |(mixed, length), part| {
            let bytes = part.len() as u64;
            (mix(mixed ^ bytes), length + bytes)
        });
        Self { numbers: [mixed, length | PARTS], ..Self::default() }
    }

    /// A hash of it, and of one more number.
    #[inline]
    pub(super) fn hash(&self, more: usize) -> u64 {
        let [one, other] = self.numbers;
        let [first, last] = self.ends;
        let gained = first ^ last.rotate_left(32) ^ self.lengths;
        mix(mix(one ^ gained ^ (more as u64) << 56) ^ other)
    }

    /// Whether what is gained may differ where kinds do not: a statistic, or the middle of a long name.
    #[inline]
    fn is_vague(&self) -> bool {
        self.lengths > ENDS_BYTES
    }
}

/// Fibonacci hashing: Knuth, The Art of Computer Programming, volume 3, section 6.4.
#[inline]
fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 32
}

/// The first and the last bytes of a text, which may overlap.
#[inline]
fn ends(text: &str) -> [u64; 2] {
    let bytes = text.as_bytes();
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        return [first, last].map(|word| u64::from_le_bytes(*word));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return [first, last].map(|word| u64::from(u32::from_le_bytes(*word)));
    }
    [bytes.iter().fold(0, |all, &byte| all << 8 | u64::from(byte)), 0]
}

/// Up to where in a source, and how far behind it, labels stand that go on together.
#[derive(Clone, Copy, Default, Debug)]
struct Segment {
    until: usize,
    /// Wraps.
    shift: usize,
}

impl Segment {
    /// All that is left.
    const REST: Self = Self { until: usize::MAX, shift: 0 };
}

/// See the module.
#[derive(Default, Debug)]
pub(super) struct Shared {
    kind: Kind,
    /// What is gained beside the name of the source.
    gained: [String; 2],
    /// What is compared, then the labels that are gained, then a chunk.
    run: Vec<u8>,
    /// Where in `run` the labels stand: in front of the name, then behind it.
    parts: Vec<Range<usize>>,
    /// Where in a source its name ends, and where its value begins.
    name: (usize, usize),
    /// How far behind that the value stands in the labels. Wraps.
    name_shift: usize,
    segments: [Segment; 1 + GAINED.len()],
}

/// How far a group is written.
#[derive(Debug)]
struct Edge<'a> {
    /// How far back the group stands that is copied from.
    back: usize,
    /// Bytes in front of the labels behind the name that are equal and not yet written, less how much of these labels is
    /// written. Wraps.
    open: usize,
    noted: &'a mut Noted,
}

impl Edge<'_> {
    /// What to copy up to a place among the labels; what comes next there, so many bytes, is not to be copied.
    #[inline]
    fn skip(&mut self, start: usize, bytes: usize) -> (usize, usize) {
        let equal = start.wrapping_add(self.open);
        self.open = 0_usize.wrapping_sub(start + bytes);
        (self.back, equal)
    }
}

impl Shared {
    /// Whether such labels would be divided as these are. Those in front of a name are as rare as names of upper case:
    /// they are not looked at.
    #[inline(always)]
    pub(super) fn is_like(&self, kind: &Kind, [monitor, stat]: [&str; 2]) -> bool {
        self.kind == *kind && self.before().is_empty() && (!kind.is_vague() || self.gains([monitor, stat]))
    }

    #[inline(never)]
    fn gains(&self, [monitor, stat]: [&str; 2]) -> bool {
        *monitor == *self.gained[0] && *stat == *self.gained[1]
    }

    /// Remembers labels of the same kind if they differ where the pattern says: then what it says of them.
    #[inline(always)]
    pub(super) fn take_by(&mut self, pattern: &Pattern, new: &[u8]) -> Option<Words> {
        pattern.take_changes(new, &mut self.run[..new.len()])
    }

    /// What stands in front of the name.
    #[inline]
    pub(super) fn before(&self) -> Range<usize> {
        self.parts.first().cloned().unwrap_or_default()
    }

    /// Each part of the labels, first what stands in front of the name, and where it stands among them.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let mut at = 0;
        self.parts.iter().map(move |part| {
            let start = at;
            at += part.len();
            (&self.run[part.clone()], start)
        })
    }

    /// Bytes of the labels.
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Lets go of more room than that.
    pub(super) fn shrink(&mut self, bytes_max: usize) {
        if self.run.capacity() > bytes_max {
            self.run = Vec::new();
        }
    }

    /// Remembers parts as they are.
    pub(super) fn set_parts(&mut self, kind: Kind, (before, after): Parts<'_>) {
        self.kind = kind;
        self.run.clear();
        self.parts.clear();
        for part in [before].iter().chain(after) {
            let start = self.run.len();
            self.run.extend_from_slice(part);
            self.parts.push(start..self.run.len());
        }
        self.run.extend_from_slice(&[0; CHUNK]);
        (self.name, self.name_shift, self.segments) = ((0, 0), 0, [Segment::REST; 1 + GAINED.len()]);
        self.gained.iter_mut().for_each(String::clear);
    }

    /// Remembers what is woven.
    pub(super) fn set_woven(&mut self, kind: Kind, woven: &Woven<'_>) {
        let source = woven.source.as_bytes();
        self.kind = kind;
        for (known, text) in self.gained.iter_mut().zip([woven.monitor, woven.stat]) {
            known.clear();
            known.push_str(text);
        }
        self.run.clear();
        self.run.extend_from_slice(source);
        let lengths = woven.push_gained(&mut self.run);
        self.run.extend_from_slice(&[0; CHUNK]);
        let [before, end, value_at] = woven.seams.name();
        self.name = (end, value_at);
        self.parts.clear();
        self.parts.push(0..before);
        // From where in the source on, where that stands among the labels, and where the next label stands that is gained.
        let (mut from, mut to, mut label) = (end, 0_usize, source.len());
        for (index, (at, length)) in woven.seams.gained().into_iter().zip(lengths).enumerate() {
            self.segments[index] = Segment { until: at, shift: to.wrapping_sub(from) };
            self.parts.extend([from..at, label..label + length]);
            to += at - from + length;
            if index == 0 {
                self.name_shift = to.wrapping_sub(end);
            }
            (from, label) = (at, label + length);
        }
        self.segments[GAINED.len()] = Segment { until: usize::MAX, shift: to.wrapping_sub(from) };
        self.parts.push(from..source.len());
    }

    /// Writes labels of the same kind, so many bytes made of `new`: what differs, and copies of what does not. Remembers
    /// them.
    /// Takes and returns how much of what is equal in the group so far back is not yet written, and notes what is not.
    #[inline]
    pub(super) fn write_changes(
        &mut self,
        elements: &mut Elements,
        (new, bytes): (&[u8], usize),
        (back, gap): (usize, usize),
        noted: &mut Noted,
    ) -> usize {
        let edge = &mut Edge { back, open: gap, noted };
        let mut at = self.name.0;
        if new.len() < CHUNK || new[..at] != self.run[..at] {
            self.write_name(elements, new, edge);
        }
        let differ = |(chunk, old): (&[u8; CHUNK], &[u8; CHUNK])| chunk != old;
        loop {
            let old = self.run[at..new.len()].as_chunks().0;
            let Some(same) = new[at..].as_chunks().0.iter().zip(old).position(differ) else { break };
            at += same * CHUNK;
            self.write_difference(elements, (new, at), edge);
            at += CHUNK;
        }
        // What is left is compared with some of what is equal by now.
        if let (Some(chunk), Some(old)) = (new.last_chunk(), self.run[..new.len()].last_chunk())
            && differ((chunk, old))
        {
            self.write_difference(elements, (new, new.len() - CHUNK), edge);
        }
        bytes.wrapping_add(edge.open)
    }

    /// Writes what differs in a chunk of `new`.
    #[inline(never)]
    fn write_difference(&mut self, elements: &mut Elements, (new, at): (&[u8], usize), edge: &mut Edge<'_>) {
        let chunk = new[at..].first_chunk().expect("there is a chunk");
        let old = self.run[at..].first_chunk_mut().expect("what is remembered is as long");
        let part = differences(at, chunk, old);
        *old = *chunk;
        let segment = self.segments.iter().find(|segment| part.start < segment.until);
        let Segment { until, shift } = *segment.expect("the last segment has no end");
        if part.end > until {
            return self.write_across(elements, (new, part), edge);
        }
        let literal: &[u8; CHUNK] = self.run[part.start..].first_chunk().expect("a chunk follows");
        let equal = edge.skip(part.start.wrapping_add(shift), part.len());
        elements.patch(equal, literal, part.len());
        edge.noted.change((part.start, part.len()), elements);
    }

    /// Writes part of `new`, a segment after the other.
    #[cold]
    fn write_across(
        &self,
        elements: &mut Elements,
        (new, Range { mut start, end }): (&[u8], Range<usize>),
        edge: &mut Edge<'_>,
    ) {
        edge.noted.spoil();
        for segment in &self.segments {
            let until = end.min(segment.until);
            if start < until {
                let equal = edge.skip(start.wrapping_add(segment.shift), until - start);
                elements.patch_long(equal, &new[start..until]);
                start = until;
            }
        }
    }

    /// Writes what differs up to the source's name, which stands behind what follows it there; all, where it is short.
    #[cold]
    fn write_name(&mut self, elements: &mut Elements, new: &[u8], edge: &mut Edge<'_>) {
        edge.noted.spoil();
        let (end, value_at) = self.name;
        let [first, rest @ ..] = self.segments;
        let mut from = first.until.min(new.len());
        self.write_part(elements, (new, end..from), first.shift, edge);
        self.write_part(elements, (new, value_at..end), self.name_shift, edge);
        self.run[..end].copy_from_slice(&new[..end]);
        if let Some(label) = self.parts.get(2) {
            let label_end = label.end;
            self.run[label_end + value_at - end..label_end].copy_from_slice(&new[value_at..end]);
        }
        if new.len() < CHUNK {
            for segment in rest {
                let until = segment.until.min(new.len());
                self.write_part(elements, (new, from..until), segment.shift, edge);
                from = until;
            }
        }
    }

    fn write_part(
        &mut self,
        elements: &mut Elements,
        (new, part): (&[u8], Range<usize>),
        shift: usize,
        edge: &mut Edge<'_>,
    ) {
        let known = &mut self.run[part.clone()];
        let bytes = &new[part.clone()];
        if bytes != known {
            let start = part.start + common_prefix(bytes, known);
            let end = part.end - common_suffix(bytes, known);
            known.copy_from_slice(bytes);
            elements.patch_long(edge.skip(start.wrapping_add(shift), end - start), &new[start..end]);
        }
    }
}

/// From the first to the last byte that differ, of chunks at `at` that do.
#[inline]
fn differences(at: usize, new: &[u8; CHUNK], old: &[u8; CHUNK]) -> Range<usize> {
    let words = |bytes: &[u8; CHUNK]| {
        let (words, _) = bytes.as_chunks::<16>();
        [u128::from_le_bytes(words[0]), u128::from_le_bytes(words[1])]
    };
    let (new, old) = (words(new), words(old));
    let [low, high] = [new[0] ^ old[0], new[1] ^ old[1]];
    let first = if low != 0 { low.trailing_zeros() } else { 128 + high.trailing_zeros() };
    let last = if high != 0 { 255 - high.leading_zeros() } else { 127 - low.leading_zeros() };
    at + first as usize / 8..at + last as usize / 8 + 1
}
