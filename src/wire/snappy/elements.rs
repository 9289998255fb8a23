//! A snappy block written element by element: who knows what stands where need not have it searched for.
//!
//! Source of the format: <https://github.com/google/snappy/blob/main/format_description.txt>.

/// Bytes of a varint of 32 bits at most: the length in front of a block.
const LENGTH_BYTES_MAX: usize = 5;

/// A copy of two bytes of offset reaches no further back.
const OFFSET_MAX: usize = u16::MAX as usize;

/// Bytes of one copy at most.
const COPY_MAX: usize = 64;

/// Tags of copies with two bytes of offset, and with eleven bits of it.
const FAR_TAG: u8 = 2;
const NEAR_TAG: u8 = 1;

/// A literal of no more bytes has its length in the tag.
const SHORT_LITERAL: usize = 60;

/// A block that is being written. It has room from the second one on.
///
/// Invariant: at most one of a literal and a copy is open, and neither is before the first element.
#[derive(Debug)]
pub(in crate::wire) struct Elements {
    /// Room for the length, then elements.
    out: Vec<u8>,
    /// Bytes that are written, before compression.
    at: usize,
    /// Where the tag of the open literal goes.
    literal: Option<usize>,
    /// Offset and length of the open copy; no length where none is open.
    copy: (usize, usize),
}

impl Default for Elements {
    fn default() -> Self {
        Self { out: vec![0; LENGTH_BYTES_MAX], at: 0, literal: None, copy: (0, 0) }
    }
}

impl Elements {
    /// Bytes that are written, before compression: where the next one will stand.
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
        if self.literal.is_none() {
            self.end_copy();
            self.literal = Some(self.out.len());
            self.out.push(0);
        }
        self.out.extend_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Whether what stands at `from` can be copied.
    #[inline]
    pub(in crate::wire) fn reaches(&self, from: usize) -> bool {
        self.at - from <= OFFSET_MAX
    }

    /// Whether a copy from there costs nothing, because it goes on with the one before.
    #[inline]
    pub(in crate::wire) fn goes_on(&self, from: usize) -> bool {
        self.copy.1 > 0 && self.copy.0 == self.at - from
    }

    /// Writes once more the `length` bytes that stand at `from`, which is [in reach](Self::reaches) and before
    /// [`Self::at`].
    #[inline]
    pub(in crate::wire) fn copy(&mut self, from: usize, length: usize) {
        debug_assert!(from < self.at || length == 0, "nothing stands at {from} yet");
        if self.goes_on(from) {
            self.copy.1 += length;
        } else if length > 0 {
            self.end_literal();
            self.end_copy();
            self.copy = (self.at - from, length);
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
        let block = self.out[start..].to_vec();
        self.out.truncate(LENGTH_BYTES_MAX);
        self.at = 0;
        block
    }

    #[inline]
    fn end_copy(&mut self) {
        if self.copy.1 > 0 {
            self.write_copy();
        }
    }

    fn write_copy(&mut self) {
        let (offset, mut length) = std::mem::take(&mut self.copy);
        let [low, high] = (offset as u16).to_le_bytes();
        let whole = u128::from_le_bytes([
            ((COPY_MAX - 1) << 2) as u8 | FAR_TAG,
            low,
            high,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        // Five at once, of which some may be too many, are fewer steps than one by one.
        let five = (whole | whole << 24 | whole << 48 | whole << 72 | whole << 96).to_le_bytes();
        while length > COPY_MAX {
            let count = ((length - 1) / COPY_MAX).min(5);
            let end = self.out.len() + 3 * count;
            self.out.extend_from_slice(&five);
            self.out.truncate(end);
            length -= count * COPY_MAX;
        }
        if high < 8 && (4..12).contains(&length) {
            self.out.extend_from_slice(&[high << 5 | ((length - 4) << 2) as u8 | NEAR_TAG, low]);
        } else {
            self.out.extend_from_slice(&[((length - 1) << 2) as u8 | FAR_TAG, low, high]);
        }
    }

    fn end_literal(&mut self) {
        let Some(tag) = self.literal.take() else { return };
        let last = self.out.len() - tag - 2;
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
        self.out.splice(tag + 1..tag + 1, bytes[..count].iter().copied());
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
                elements.copy(from, length);
                (from..from + length).for_each(|at| expected.push(expected[at]));
                continue;
            }
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + index) as u8).collect();
            elements.literal(&bytes);
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
    fn copies_that_go_on_are_one() {
        let mut elements = Elements::default();
        elements.literal(&[7; 100]);
        for (from, length) in [(0, 30), (30, 1), (31, 0), (31, 33)] {
            assert_eq!(elements.goes_on(from), from > 0);
            elements.copy(from, length);
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
