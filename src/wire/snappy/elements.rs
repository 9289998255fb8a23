//! A snappy block written element by element: who knows what stands where need not have it searched for.
//!
//! Source of the format: <https://github.com/google/snappy/blob/main/format_description.txt>.

/// Bytes of a varint of 32 bits at most: the length in front of a block.
const LENGTH_BYTES_MAX: usize = 5;

/// A copy of two bytes of offset reaches no further back.
const OFFSET_MAX: usize = u16::MAX as usize;

/// Bytes of one copy at most.
const COPY_MAX: usize = 64;

/// Bytes of five copies and one more.
const COPIES_MAX: usize = 6 * COPY_MAX;

/// More than is written between two looks whether there is room: so much that no place in it needs a look of its own.
const ROOM: usize = 256;

/// Elements that can be written once more at once, in bytes.
pub(in crate::wire) const REPEATED_MAX: usize = 128;

// Who changes some of the repeated bytes may do so in words of eight.
const _: () = assert!(REPEATED_MAX + size_of::<u64>() <= ROOM);

/// Tags of copies with two bytes of offset, and with eleven bits of it.
const FAR_TAG: u32 = 2;
const NEAR_TAG: u32 = 1;

/// A literal of no more bytes has its length in the tag.
const SHORT_LITERAL: usize = 60;

/// Room that is kept for the next block.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// A block that is being written. It has room from the second one on.
///
/// Invariant: at most one of a literal and a copy is open, and neither is before the first element.
#[derive(Debug)]
pub(in crate::wire) struct Elements {
    /// Room for the length, elements, then room for more.
    out: Vec<u8>,
    /// Where the next element goes.
    end: usize,
    /// Bytes that are written, before compression.
    at: usize,
    /// Where the tag of the open literal goes; 0 where none is open.
    literal: usize,
    /// Offset and length of the open copy; no length where none is open.
    copy: (usize, usize),
}

impl Default for Elements {
    fn default() -> Self {
        Self { out: vec![0; LENGTH_BYTES_MAX], end: LENGTH_BYTES_MAX, at: 0, literal: 0, copy: (0, 0) }
    }
}

impl Elements {
    /// Bytes that are written, before compression: where the next one will stand. Not between [`enter`](Self::enter) and
    /// [`leave`](Self::leave), which says it anew.
    #[inline]
    pub(in crate::wire) fn at(&self) -> usize {
        self.at
    }

    /// Writes `bytes` as they are.
    #[inline]
    pub(in crate::wire) fn literal(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.begin_literal();
        let end = self.end + bytes.len();
        if end > self.out.len() {
            self.grow(bytes.len());
        }
        self.out[self.end..end].copy_from_slice(bytes);
        self.end = end;
        self.at += bytes.len();
    }

    /// Writes the first `count` of `bytes`, at least one, as they are. That costs a move or two.
    #[inline]
    pub(in crate::wire) fn short_literal<const N: usize>(&mut self, bytes: &[u8; N], count: usize) {
        self.begin_literal();
        self.put(bytes, count);
        self.at += count;
    }

    /// Begins to write what is mostly copied from so far back, until [`leave`](Self::leave). Returns how much of that is
    /// to be copied first.
    #[inline]
    pub(in crate::wire) fn enter(&mut self, back: usize) -> usize {
        self.end_literal();
        if self.goes_on(back) {
            return std::mem::take(&mut self.copy).1;
        }
        self.end_copy();
        0
    }

    /// Writes once more the `length` bytes that stand so far back, then the first `count` of `bytes`, at least one and at
    /// most 60. Only in between, where nothing is open: that is less work than to write one after the other.
    #[inline]
    pub(in crate::wire) fn patch<const N: usize>(
        &mut self,
        (back, length): (usize, usize),
        bytes: &[u8; N],
        count: usize,
    ) {
        const { assert!(N + 20 <= ROOM) };
        debug_assert!((1..=N.min(SHORT_LITERAL)).contains(&count), "{count} bytes are no short literal");
        debug_assert!((1..=OFFSET_MAX).contains(&back) || length == 0, "{back} bytes before is out of reach");
        let length = self.shorten(back, length);
        let room = self.room();
        let tag = if length > 0 { put_copies(room, back, length) } else { 0 };
        room[tag] = ((count - 1) << 2) as u8;
        room[tag + 1..tag + 1 + N].copy_from_slice(bytes);
        self.end += tag + 1 + count;
    }

    /// The same with all of `bytes`.
    pub(in crate::wire) fn patch_long(&mut self, (back, length): (usize, usize), bytes: &[u8]) {
        self.copy_back(back, length);
        self.literal(bytes);
        self.end_literal();
        self.end_copy();
    }

    /// Writes once more so many bytes, at least one, that stand so far back. Only in between, where no copy follows that
    /// goes on.
    #[inline]
    pub(in crate::wire) fn copy_at_once(&mut self, back: usize, length: usize) {
        debug_assert!((1..=OFFSET_MAX).contains(&back), "{back} bytes before is out of reach");
        debug_assert!(length > 0, "there is nothing to copy");
        let length = self.shorten(back, length);
        self.end += put_copies(self.room(), back, length);
    }

    /// Ends with a copy of so many bytes, up to `at`.
    #[inline]
    pub(in crate::wire) fn leave(&mut self, (back, length): (usize, usize), at: usize) {
        self.copy = (back, length);
        self.at = at;
    }

    /// Where the next element goes.
    #[inline]
    pub(in crate::wire) fn place(&self) -> usize {
        self.end
    }

    /// Whether a copy from so far back, of so many bytes, is not yet written.
    #[inline]
    pub(in crate::wire) fn is_open(&self, copy: (usize, usize)) -> bool {
        self.copy == copy && copy.1 > 0
    }

    /// Eight bytes of elements, or of what stands behind them.
    pub(in crate::wire) fn word(&self, place: usize) -> Option<u64> {
        self.out.get(place..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// Writes the `length` bytes of elements that stand at `place`, at most [`REPEATED_MAX`], once more, instead of what is
    /// open. Returns them to be changed. Needs a [`leave`](Self::leave).
    #[inline]
    pub(in crate::wire) fn repeat(&mut self, place: usize, length: usize) -> &mut [u8; ROOM] {
        debug_assert!(self.literal == 0 && length <= REPEATED_MAX);
        let end = self.end;
        self.room();
        let elements: [u8; REPEATED_MAX] =
            *self.out[place..].first_chunk().expect("elements have room behind them");
        self.end += length;
        let room = self.out[end..].first_chunk_mut::<ROOM>().expect("there is room");
        room[..REPEATED_MAX].copy_from_slice(&elements);
        room
    }

    /// Whether what stands at `from` can be copied.
    #[inline]
    pub(in crate::wire) fn reaches(&self, from: usize) -> bool {
        self.at - from <= OFFSET_MAX
    }

    /// Whether a copy from so far back costs nothing, because it goes on with the one before.
    #[inline]
    pub(in crate::wire) fn goes_on(&self, back: usize) -> bool {
        self.copy.1 > 0 && self.copy.0 == back
    }

    /// Writes once more the `length` bytes that stand so far back, which is [in reach](Self::reaches).
    #[inline]
    pub(in crate::wire) fn copy_back(&mut self, back: usize, length: usize) {
        debug_assert!((1..=self.at).contains(&back) || length == 0, "nothing stands {back} bytes before");
        debug_assert!(back <= OFFSET_MAX || length == 0, "{back} bytes before is out of reach");
        if self.goes_on(back) {
            self.copy.1 += length;
        } else if length > 0 {
            self.end_literal();
            self.end_copy();
            self.copy = (back, length);
        }
        self.at += length;
    }

    /// Takes the block, and begins the next one in the same room.
    pub(in crate::wire) fn finish(&mut self) -> Vec<u8> {
        self.end_literal();
        self.end_copy();
        let mut length = Vec::with_capacity(LENGTH_BYTES_MAX);
        crate::wire::fields::push_varint(&mut length, self.at as u64);
        let start = LENGTH_BYTES_MAX - length.len();
        self.out[start..LENGTH_BYTES_MAX].copy_from_slice(&length);
        let block = self.out[start..self.end].to_vec();
        (self.end, self.at) = (LENGTH_BYTES_MAX, 0);
        if self.out.len() > KEPT_BYTES_MAX {
            self.out = vec![0; LENGTH_BYTES_MAX];
        }
        block
    }

    /// Puts `bytes` behind the elements, of which the first `count` are one.
    #[inline]
    fn put<const N: usize>(&mut self, bytes: &[u8; N], count: usize) {
        if self.end + N > self.out.len() {
            self.grow(N);
        }
        self.out[self.end..self.end + N].copy_from_slice(bytes);
        self.end += count;
    }

    /// Makes room for so many bytes, and for as much as there was.
    #[cold]
    fn grow(&mut self, bytes: usize) {
        self.out.resize(2 * self.out.len() + bytes, 0);
    }

    #[inline]
    fn begin_literal(&mut self) {
        if self.literal == 0 {
            self.end_copy();
            self.literal = self.end;
            self.put(&[0], 1);
        }
    }

    #[inline]
    fn end_copy(&mut self) {
        if self.copy.1 > 0 {
            self.write_copy();
        }
    }

    fn write_copy(&mut self) {
        let (offset, length) = std::mem::take(&mut self.copy);
        let length = self.shorten(offset, length);
        self.end += put_copies(self.room(), offset, length);
    }

    /// Writes copies until no more than [`COPIES_MAX`] bytes are left.
    #[inline]
    fn shorten(&mut self, offset: usize, mut length: usize) -> usize {
        while length > COPIES_MAX {
            let bytes = 5 * COPY_MAX;
            // What it writes behind five copies is written over.
            put_copies(self.room(), offset, bytes + 1);
            self.end += 5 * 3;
            length -= bytes;
        }
        length
    }

    /// Room for what comes next.
    #[inline]
    fn room(&mut self) -> &mut [u8; ROOM] {
        if self.out.len() < self.end + ROOM {
            self.grow(ROOM);
        }
        self.out[self.end..].first_chunk_mut().expect("there is room")
    }

    #[inline]
    fn end_literal(&mut self) {
        let tag = std::mem::take(&mut self.literal);
        if tag == 0 {
            return;
        }
        let last = self.end - tag - 2;
        if last < SHORT_LITERAL {
            self.out[tag] = (last << 2) as u8;
        } else {
            self.lengthen(tag, last);
        }
    }

    /// Puts the length of a literal, less one, behind its tag.
    #[cold]
    fn lengthen(&mut self, tag: usize, last: usize) {
        let bytes = (last as u32).to_le_bytes();
        let count = bytes.iter().rposition(|&byte| byte > 0).map_or(1, |index| index + 1);
        self.out[tag] = ((SHORT_LITERAL + count - 1) << 2) as u8;
        self.put(&[0; 4], count);
        self.out.copy_within(tag + 1..self.end - count, tag + 1 + count);
        self.out[tag + 1..tag + 1 + count].copy_from_slice(&bytes[..count]);
    }
}

/// Writes copies of so many bytes, up to [`COPIES_MAX`]. Returns how long they are.
#[inline]
fn put_copies(room: &mut [u8; ROOM], offset: usize, length: usize) -> usize {
    let far = |length: usize| (length as u32 - 1) << 2 | FAR_TAG | (offset as u32) << 8;
    let count = ((length - 1) / COPY_MAX).min(5);
    if count > 0 {
        // Five at once, of which some may be too many, are fewer steps than one by one.
        let one = u64::from(far(COPY_MAX));
        room[..8].copy_from_slice(&one.wrapping_mul(1 | 1 << 24 | 1 << 48).to_le_bytes());
        room[8..16].copy_from_slice(&(one >> 16 | one << 8 | one << 32).to_le_bytes());
    }
    let (at, rest) = (3 * count, length - count * COPY_MAX);
    if offset < 1 << 11 && (4..12).contains(&rest) {
        let near = (offset as u32 >> 8) << 5 | (rest as u32 - 4) << 2 | NEAR_TAG;
        room[at..at + 4].copy_from_slice(&(near | (offset as u32 & 0xff) << 8).to_le_bytes());
        at + 2
    } else {
        room[at..at + 4].copy_from_slice(&far(rest).to_le_bytes());
        at + 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::snappy;

    /// Writes literals of so many bytes and copies of so many from so far back, and compares what is read.
    #[track_caller]
    fn check(elements: &mut Elements, script: &[(usize, usize)]) {
        let mut expected = Vec::new();
        for (index, &(back, length)) in script.iter().enumerate() {
            let from = expected.len() - back;
            if back > 0 && elements.reaches(from) {
                elements.copy_back(back, length);
                (from..from + length).for_each(|at| expected.push(expected[at]));
                continue;
            }
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + index) as u8).collect();
            match bytes.first_chunk::<16>() {
                Some(chunk) if index % 2 == 0 => {
                    elements.short_literal(chunk, 5);
                    elements.literal(&bytes[5..]);
                }
                _ => elements.literal(&bytes),
            }
            expected.extend(bytes);
        }
        assert_eq!(elements.at(), expected.len());
        let block = elements.finish();
        assert_eq!(snappy::decompress(&block, 1 << 20).unwrap(), expected, "{script:?}");
    }

    #[test]
    fn what_is_written_is_read_whatever_its_length() {
        let mut elements = Elements::default();
        check(&mut elements, &[]);
        for length in [1, 2, 59, 60, 61, 62, 255, 256, 257, 258, 65_535, 65_536, 65_537, 70_000] {
            check(&mut elements, &[(0, length)]);
            check(&mut elements, &[(0, 5), (5, 5), (0, length), (1, length)]);
            check(&mut elements, &[(0, 70_000), (65_535, length), (0, 1), (65_536, length)]);
            check(&mut elements, &[(0, 3000), (2047, length), (0, 1), (2048, length)]);
        }
        for length in 0..140 {
            check(&mut elements, &[(0, 300), (250, length), (250, length), (9, length), (0, length)]);
        }
    }

    #[test]
    fn patches_are_read_as_if_they_were_written_one_by_one() {
        let mut elements = Elements::default();
        let mut expected: Vec<u8> = (0..3000).map(|at| (at % 251) as u8).collect();
        elements.literal(&expected);
        let copy = |expected: &mut Vec<u8>, back, length| {
            let from = expected.len() - back;
            (from..from + length).for_each(|at| expected.push(expected[at]));
        };
        for (index, length) in (0..500).chain([1000, 1920, 1921]).enumerate() {
            let back = [3000, 2000, 2000][index % 3];
            let open = elements.enter(back);
            elements.patch((back, open + length), &[7; 32], 1 + length % 32);
            copy(&mut expected, back, length);
            expected.extend(vec![7; 1 + length % 32]);
            elements.copy_at_once(back, length + 1);
            elements.copy_at_once(9, 3 * length + 1);
            copy(&mut expected, back, length + 1);
            copy(&mut expected, 9, 3 * length + 1);
            elements.patch_long((back, length), &[8; 70][..length % 70]);
            copy(&mut expected, back, length);
            expected.extend(vec![8; length % 70]);
            copy(&mut expected, back, length % 9);
            elements.leave((back, length % 9), expected.len());
        }
        let block = elements.finish();
        assert_eq!(snappy::decompress(&block, 1 << 24).unwrap(), expected);
    }

    #[test]
    fn copies_that_go_on_are_one() {
        let mut elements = Elements::default();
        elements.literal(&[7; 100]);
        for (from, length) in [(0, 30), (30, 1), (31, 0), (31, 33)] {
            let back = elements.at() - from;
            assert_eq!(elements.goes_on(back), from > 0);
            elements.copy_back(back, length);
        }
        let block = elements.finish();
        assert_eq!(block.len(), 2 + 2 + 100 + 3);
    }

    #[test]
    fn what_is_too_far_back_is_not_in_reach() {
        let mut elements = Elements::default();
        elements.literal(&[7; 70_000]);
        assert!(!elements.reaches(4464));
        assert!(elements.reaches(4465));
    }
}
