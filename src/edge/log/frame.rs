//! Records and segment heads as bytes.
//!
//! A record: marker `u32`, CRC32C `u32` of all that follows, length of the payload `u32`, sequence `u64`, arrival
//! `i64`, behind `u32`, stream `u16`, kind `u8`, one zero byte, payload. Little-endian; 36 bytes beside the
//! payload. A segment begins with a head: magic of 8 bytes that end in the version, CRC32C `u32` of all that
//! follows, length of the checkpoint `u32`, first sequence `u64`, next sequence `u64`, arrival `i64`, checkpoint; 40
//! bytes beside it.

/// Bytes of a record beside its payload.
pub(super) const RECORD_BYTES: usize = 36;
/// Bytes of a segment's head beside the checkpoint.
pub(super) const HEAD_BYTES: usize = 40;
/// Longest payload, and longest checkpoint.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// Highest sequence that is read. No log gets so far, and whoever goes on behind it has room to count.
pub(super) const SEQUENCE_MAX: u64 = u64::MAX >> 1;

pub(super) const MARKER: [u8; 4] = [0xF5, b'R', b'e', b'c'];
const MAGIC: &[u8; 8] = b"prmlog\x00\x01";

/// What stands before a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Place in the log. Rises; where a write failed, some are missing.
    pub sequence: u64,
    /// Milliseconds since the Unix epoch; never less than in the record before.
    pub arrival: i64,
    /// How many sequences before this one were not yet durable when it was written.
    pub behind: u32,
    /// Which of several streams it belongs to.
    pub stream: u16,
    /// What the payload is.
    pub kind: u8,
}

impl Head {
    /// Every sequence below this one was durable when the record was written.
    pub fn durable(&self) -> u64 {
        self.sequence.saturating_sub(u64::from(self.behind))
    }
}

/// What stands at a place.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Parsed<'a> {
    /// A record, and its bytes in all.
    Good(Head, &'a [u8], usize),
    /// Perhaps a record, of so many bytes in all.
    Longer(usize),
    /// No record.
    Bad,
}

/// Writes a record whose payload is `parts`, put together.
pub(super) fn encode(head: &Head, parts: &[&[u8]], into: &mut Vec<u8>) {
    let start = into.len();
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    into.reserve(RECORD_BYTES + length);
    into.extend_from_slice(&MARKER);
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&(length as u32).to_le_bytes());
    into.extend_from_slice(&head.sequence.to_le_bytes());
    into.extend_from_slice(&head.arrival.to_le_bytes());
    into.extend_from_slice(&head.behind.to_le_bytes());
    into.extend_from_slice(&head.stream.to_le_bytes());
    into.extend_from_slice(&[head.kind, 0]);
    parts.iter().for_each(|part| into.extend_from_slice(part));
    let crc = crc32c::crc32c(&into[start + 8..]);
    into[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Reads the record at the begin of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    if bytes.len() < RECORD_BYTES {
        let prefix = bytes.len().min(MARKER.len());
        return if bytes[..prefix] == MARKER[..prefix] { Parsed::Longer(RECORD_BYTES) } else { Parsed::Bad };
    }
    let fixed = bytes.first_chunk().expect("the length was checked");
    let Some((crc, length, head)) = fields(fixed) else { return Parsed::Bad };
    let total = RECORD_BYTES + length;
    match bytes.get(8..total) {
        None => Parsed::Longer(total),
        Some(checked) if crc32c::crc32c(checked) == crc => {
            Parsed::Good(head, &bytes[RECORD_BYTES..total], total)
        }
        Some(_) => Parsed::Bad,
    }
}

/// What stands before a payload: its checksum, how long it is, and the head; `None` where no record is so.
pub(super) fn fields(fixed: &[u8; RECORD_BYTES]) -> Option<(u32, usize, Head)> {
    let mut fields = Fields(fixed);
    let marker = fields.take::<4>();
    let crc = u32::from_le_bytes(fields.take());
    let length = u32::from_le_bytes(fields.take()) as usize;
    let head = Head {
        sequence: u64::from_le_bytes(fields.take()),
        arrival: i64::from_le_bytes(fields.take()),
        behind: u32::from_le_bytes(fields.take()),
        stream: u16::from_le_bytes(fields.take()),
        kind: fields.take::<1>()[0],
    };
    let sane = marker == MARKER && length <= PAYLOAD_BYTES_MAX && head.sequence <= SEQUENCE_MAX;
    (sane && fields.take() == [0]).then_some((crc, length, head))
}

/// What stands before the records of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentStart<'a> {
    /// First sequence that may be in it.
    pub(super) first: u64,
    /// Every sequence below was used before it.
    pub(super) next: u64,
    /// Arrival of the newest record before it.
    pub(super) arrival: i64,
    pub(super) checkpoint: &'a [u8],
}

/// Writes the head of a segment.
pub(super) fn encode_segment(start: &SegmentStart<'_>) -> Vec<u8> {
    let SegmentStart { first, next, arrival, checkpoint } = *start;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + checkpoint.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(checkpoint.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&next.to_le_bytes());
    bytes.extend_from_slice(&arrival.to_le_bytes());
    bytes.extend_from_slice(checkpoint);
    let crc = crc32c::crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What a segment says of itself.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum SegmentHead<'a> {
    /// All of it.
    Good(SegmentStart<'a>),
    /// It is so long in all.
    Longer(usize),
    /// Written by a program that this one does not know.
    UnknownVersion(u8),
    /// None.
    Bad,
}

/// Reads the head of a segment.
pub(super) fn parse_segment(bytes: &[u8]) -> SegmentHead<'_> {
    if bytes.len() < HEAD_BYTES {
        return if bytes.is_empty() { SegmentHead::Bad } else { SegmentHead::Longer(HEAD_BYTES) };
    }
    let mut fields = Fields(bytes);
    let magic = fields.take::<8>();
    let crc = u32::from_le_bytes(fields.take());
    let length = u32::from_le_bytes(fields.take()) as usize;
    if magic[..7] != MAGIC[..7] || length > PAYLOAD_BYTES_MAX {
        return SegmentHead::Bad;
    }
    let Some(checked) = bytes.get(12..HEAD_BYTES + length) else {
        return SegmentHead::Longer(HEAD_BYTES + length);
    };
    match crc32c::crc32c(checked) == crc {
        true if magic[7] != MAGIC[7] => SegmentHead::UnknownVersion(magic[7]),
        true => {
            let (first, next) = (u64::from_le_bytes(fields.take()), u64::from_le_bytes(fields.take()));
            let arrival = i64::from_le_bytes(fields.take());
            let checkpoint = &bytes[HEAD_BYTES..HEAD_BYTES + length];
            match first.max(next) > SEQUENCE_MAX {
                true => SegmentHead::Bad,
                false => SegmentHead::Good(SegmentStart { first, next, arrival, checkpoint }),
            }
        }
        false => SegmentHead::Bad,
    }
}

/// Fixed-size fields, read one after the other; their sum was checked before.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the length was checked");
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(sequence: u64) -> Head {
        Head { sequence, arrival: -7, behind: 2, stream: 513, kind: 4 }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut bytes = Vec::new();
        encode(&head(9), &[b"ab", b"", b"c"], &mut bytes);
        assert_eq!(bytes.len(), RECORD_BYTES + 3);
        assert_eq!(parse(&bytes), Parsed::Good(head(9), b"abc", bytes.len()));
        assert_eq!(head(9).durable(), 7);
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let mut bytes = Vec::new();
        encode(&head(9), &[b"payload"], &mut bytes);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(!matches!(parse(&flipped), Parsed::Good(..)), "byte {at}, bit {bit}");
            }
            assert!(!matches!(parse(&bytes[..at]), Parsed::Good(..)), "cut at {at}");
        }
    }

    /// A start counted on from the highest number there is, and overflowed; found by fuzzing.
    #[test]
    fn a_sequence_that_cannot_be_counted_on_from_is_no_record_and_begins_no_segment() {
        let is_record = |sequence| {
            let mut bytes = Vec::new();
            encode(&head(sequence), &[b"payload"], &mut bytes);
            matches!(parse(&bytes), Parsed::Good(..))
        };
        let is_segment = |first, next| {
            let start = SegmentStart { first, next, arrival: 0, checkpoint: b"" };
            parse_segment(&encode_segment(&start)) != SegmentHead::Bad
        };
        for (sequence, expected) in [(SEQUENCE_MAX, true), (SEQUENCE_MAX + 1, false), (u64::MAX, false)] {
            let good = [is_record(sequence), is_segment(sequence, 0), is_segment(0, sequence)];
            assert_eq!(good, [expected; 3], "{sequence}");
        }
    }

    #[test]
    fn a_segment_says_what_it_is() {
        let start = SegmentStart { first: 5, next: 7, arrival: 6, checkpoint: b"checkpoint" };
        let bytes = encode_segment(&start);
        assert_eq!(parse_segment(&bytes), SegmentHead::Good(start));
        assert_eq!(parse_segment(&bytes[..44]), SegmentHead::Longer(bytes.len()));
        let mut newer = bytes.clone();
        newer[7] = 9;
        assert_eq!(parse_segment(&newer), SegmentHead::UnknownVersion(9));
        let mut damaged = bytes;
        damaged[20] ^= 1;
        assert_eq!(parse_segment(&damaged), SegmentHead::Bad);
    }
}
