//! Looks for good records behind damage, at a cost that grows with the bytes alone, whatever is in them.
//!
//! A sender decides what stands in a body, also thousands of things that look like the begin of a long record. So the
//! checksum of a long one is not computed from its bytes, but from those of two beginnings of all bytes: where these
//! end, the first is continued with as many zeros as the record has bytes, and what remains is the record's own. As in
//! `crc32_combine` of zlib.

use std::ops::Range;

use super::frame::{self, Head, MARKER, RECORD_BYTES};
use super::opening::SEGMENT_BYTES_MAX;

/// Bytes between two checksums that are kept. Four bytes are held for each of them.
const STEP: usize = 1024;

/// All sequences that there are.
pub(super) const ANY: Range<u64> = 0..frame::SEQUENCE_MAX + 1;

/// The sequences that a good record behind damage may have, where one of `low` should stand, and every one below `used`
/// was used before the segment: from then on none is left out, and no segment has more records than these.
///
/// It does not depend on how long the segment is: what lies behind is cut when the log goes on, and all who read it
/// have to find the same records.
pub(super) fn likely(low: u64, used: u64) -> Range<u64> {
    low..low.max(used).saturating_add(SEGMENT_BYTES_MAX / RECORD_BYTES as u64)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Search<'a> {
    bytes: &'a [u8],
    /// CRC32C of the first bytes, so many times [`STEP`] as is the place here. As far as anybody asked.
    sums: Vec<u32>,
}

impl<'a> Search<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, sums: vec![0] }
    }

    /// Where the next good record from `from` on begins, of those whose sequence is `within`.
    pub(super) fn next(&mut self, from: usize, within: &Range<u64>) -> Option<usize> {
        let mut at = from;
        loop {
            let rest = self.bytes.get(at..)?;
            at += rest.windows(MARKER.len()).position(|window| window == MARKER)?;
            if self.is_record(at, within) {
                return Some(at);
            }
            at += 1;
        }
    }

    fn is_record(&mut self, at: usize, within: &Range<u64>) -> bool {
        let fixed = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<RECORD_BYTES>());
        let Some((crc, length, Head { sequence, .. })) = fixed.and_then(frame::fields) else { return false };
        let end = at + RECORD_BYTES + length;
        within.contains(&sequence) && end <= self.bytes.len() && self.sum(at + 8..end) == crc
    }

    /// CRC32C of a range that is within the bytes.
    fn sum(&mut self, range: Range<usize>) -> u32 {
        if range.len() <= 2 * STEP {
            return crc32c::crc32c(&self.bytes[range]);
        }
        self.sum_to(range.end) ^ followed_by_zeros(self.sum_to(range.start), range.len())
    }

    /// CRC32C of the first `end` bytes.
    fn sum_to(&mut self, end: usize) -> u32 {
        let kept = end / STEP;
        for step in self.sums.len()..=kept {
            let sum = crc32c::crc32c_append(self.sums[step - 1], &self.bytes[(step - 1) * STEP..step * STEP]);
            self.sums.push(sum);
        }
        crc32c::crc32c_append(self.sums[kept], &self.bytes[kept * STEP..end])
    }
}

/// The polynomial of CRC32C, the lowest bit for the highest power.
const POLYNOMIAL: u32 = 0x82F6_3B78;
/// 1 as a polynomial.
const ONE: u32 = 1 << 31;

/// x to the powers 8, 16, 32 …, modulo the polynomial: one for each bit of a number of bytes.
const POWERS: [u32; usize::BITS as usize] = {
    let mut powers = [ONE >> 8; usize::BITS as usize];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = product(powers[at - 1], powers[at - 1]);
        at += 1;
    }
    powers
};

/// The part of a checksum that bytes with the checksum `crc` have in that of all, where so many bytes follow.
fn followed_by_zeros(crc: u32, bytes: usize) -> u32 {
    let set = (0..usize::BITS).filter(|bit| bytes >> bit & 1 == 1);
    set.fold(crc, |crc, bit| product(crc, POWERS[bit as usize]))
}

/// The product of two polynomials modulo the polynomial.
const fn product(one: u32, other: u32) -> u32 {
    let (mut product, mut term, mut left) = (0, other, one);
    while left != 0 {
        if left & ONE != 0 {
            product ^= term;
        }
        left <<= 1;
        term = if term & 1 == 1 { (term >> 1) ^ POLYNOMIAL } else { term >> 1 };
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sequence: u64, payload: &[u8]) -> Vec<u8> {
        let head = Head { sequence, arrival: 0, behind: 0, stream: 0, kind: 1 };
        let mut bytes = Vec::new();
        frame::encode(&head, &[payload], &mut bytes);
        bytes
    }

    #[test]
    fn the_next_good_record_is_found_behind_damage() {
        let (first, second) = (record(1, b"one"), record(2, &[MARKER, MARKER].concat()));
        let mut bytes = [&first[..], &second].concat();
        bytes[10] ^= 1;
        assert_eq!(Search::of(&bytes).next(1, &ANY), Some(first.len()));
        bytes[first.len() + 10] ^= 1;
        assert_eq!(Search::of(&bytes).next(1, &ANY), None);
    }

    #[test]
    fn records_of_other_sequences_are_none() {
        let bytes = [record(9, b"one"), record(3, b"other")].concat();
        let found = |within| Search::of(&bytes).next(0, &within);
        assert_eq!([found(0..10), found(0..9), found(4..9)], [Some(0), Some(39), None]);
    }

    #[test]
    fn a_checksum_is_that_of_the_bytes_wherever_they_stand() {
        let bytes: Vec<u8> =
            (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut search = Search::of(&bytes);
        for range in [0..0, 5..90_000, 0..100_000, 1023..5000, 1024..4096, 99_000..100_000, 77..3000] {
            assert_eq!(search.sum(range.clone()), crc32c::crc32c(&bytes[range.clone()]), "{range:?}");
        }
    }

    /// Each begin of a record cost a checksum over all that it said to have: of 8 MiB, for many minutes.
    #[test]
    fn a_body_full_of_begins_of_long_records_is_passed_over_in_time() {
        let bytes = crowded(8 << 20);
        let begin = std::time::Instant::now();
        assert_eq!(Search::of(&bytes).next(0, &ANY), None);
        assert!(begin.elapsed() < std::time::Duration::from_secs(60), "{:?}", begin.elapsed());
    }

    /// Every 20 bytes the begin of a record of half of all bytes, with all that can be checked at little cost.
    fn crowded(size: usize) -> Vec<u8> {
        let mut begin = MARKER.to_vec();
        begin.extend(0x0101_0101_u32.to_le_bytes());
        begin.extend(((size / 2) as u32 & !0xFF).to_le_bytes());
        begin.extend(7_u64.to_le_bytes());
        begin.iter().copied().cycle().take(size).collect()
    }
}
