//! Block snappy, bounded before anything is allocated.
//!
//! The block format states the decompressed length first. A sender can state anything, so the statement is
//! held against the caller's limit and against what the format can expand to at most.

mod block;
mod elements;

pub(super) use elements::{Elements, REPEATED_MAX};

use super::fields::push_varint;

/// Most bytes that one compressed byte can become, rounded up: a copy of 3 bytes yields 64.
///
/// Source: snappy's `format_description.txt`, section 2.2.
const EXPANSION_MAX: u64 = 22;

/// Slack for bodies so short that the ratio says nothing.
const EXPANSION_SLACK: u64 = 64;

/// Why a body was not decompressed.
#[derive(thiserror::Error, Debug)]
pub enum SnappyError {
    /// The body states a length over the limit.
    #[error("body declares {declared} bytes decompressed, more than the limit of {max}")]
    TooLarge {
        /// Bytes, as stated.
        declared: u64,
        /// Bytes, as allowed.
        max: usize,
    },
    /// The body states a length that its size cannot expand to.
    #[error("body of {size} bytes declares {declared} bytes decompressed, more than snappy can expand to")]
    Ratio {
        /// Bytes, as stated.
        declared: u64,
        /// Bytes of the body.
        size: usize,
    },
    /// Not a snappy block: empty, framed or damaged.
    #[error("body is not a snappy block: {0}")]
    Corrupt(#[source] snap::Error),
}

/// The decompressed length that `body`, a snappy block, states: at most `max` and no more than it can expand to.
///
/// # Errors
/// [`SnappyError`]; an empty body is corrupt, since even nothing is compressed to one byte.
pub fn declared_len(body: &[u8], max: usize) -> Result<usize, SnappyError> {
    let declared = declared_length(body)?;
    // The format has no room for more than 32 bits.
    let length = u32::try_from(declared).ok().map(|length| length as usize).filter(|length| *length <= max);
    let length = length.ok_or(SnappyError::TooLarge { declared, max })?;
    if declared > EXPANSION_MAX * body.len() as u64 + EXPANSION_SLACK {
        return Err(SnappyError::Ratio { declared, size: body.len() });
    }
    Ok(length)
}

/// Decompresses `body`, a snappy block, into at most `max` bytes.
///
/// Allocates the declared length once, after checking it. Costs about 33 ns per series of 10 labels.
///
/// # Errors
/// As [`declared_len`], and when the block is damaged.
pub fn decompress(body: &[u8], max: usize) -> Result<Vec<u8>, SnappyError> {
    let mut room = Vec::new();
    decompress_into(body, max, &mut room)?;
    Ok(room)
}

/// Decompresses `body`, a snappy block, of at most `max` bytes, in place of what `room` holds, which spares zeroing
/// that much.
///
/// # Errors
/// As [`decompress`]; what is in `room` then means nothing.
pub fn decompress_into(body: &[u8], max: usize, room: &mut Vec<u8>) -> Result<(), SnappyError> {
    let declared = declared_len(body, max)?;
    if room.capacity() < declared {
        // What is used again and again is soon large enough for the largest, if it grows by more than a little.
        let spare = if room.capacity() > 0 { declared / 16 } else { 0 };
        *room = vec![0; declared + spare];
    }
    room.resize(declared, 0);
    block::decompress(elements_of(body), room).map_err(SnappyError::Corrupt)
}

/// One block of what `blocks` hold, one after the other. What is copied in one of them stands in it, so that the same
/// copies do in a longer one. Costs a copy of the bytes.
///
/// # Errors
/// As [`declared_len`], for each and for all together.
pub fn join(blocks: &[&[u8]], max: usize) -> Result<Vec<u8>, SnappyError> {
    let mut declared = 0;
    for block in blocks {
        declared += declared_len(block, max - declared)?;
    }
    let mut joined = Vec::with_capacity(5 + blocks.iter().map(|block| block.len()).sum::<usize>());
    push_varint(&mut joined, declared as u64);
    blocks.iter().for_each(|block| joined.extend_from_slice(elements_of(block)));
    Ok(joined)
}

/// What stands behind the length: that goes up to the first byte that says it is the last.
fn elements_of(block: &[u8]) -> &[u8] {
    let length = block.iter().take_while(|byte| **byte >= 0x80).count() + 1;
    block.get(length..).unwrap_or_default()
}

/// Compresses `raw` into a snappy block.
///
/// `raw` is of our own making and far below the 4 GiB that a block can hold.
pub fn compress(raw: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(raw).expect("request shorter than 4 GiB")
}

fn declared_length(body: &[u8]) -> Result<u64, SnappyError> {
    if body.is_empty() {
        return Err(SnappyError::Corrupt(snap::Error::Empty));
    }
    match snap::raw::decompress_len(body) {
        Ok(length) => Ok(length as u64),
        Err(snap::Error::TooBig { given, .. }) => Ok(given),
        Err(error) => Err(SnappyError::Corrupt(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn check(body: &[u8], max: usize, expected: &str) {
        let outcome = match decompress(body, max) {
            Ok(raw) => format!("{} bytes", raw.len()),
            Err(error) => error.to_string(),
        };
        assert!(outcome.starts_with(expected), "{outcome}");
    }

    fn framed() -> Vec<u8> {
        use std::io::Write;
        let mut writer = snap::write::FrameEncoder::new(Vec::new());
        writer.write_all(&[7; 1000]).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn what_was_compressed_comes_back() {
        for raw in [&b""[..], b"x", &[7; 100_000]] {
            assert_eq!(decompress(&compress(raw), MIB).unwrap(), raw);
        }
    }

    #[test]
    fn blocks_that_are_joined_hold_what_they_held() {
        let texts: [&[u8]; 5] = [b"abcabcabcabcabc", b"", &[7; 100_000], b"abcabcabcabcabc", b"x"];
        let blocks = texts.map(compress);
        for count in 0..=blocks.len() {
            let parts: Vec<&[u8]> = blocks[..count].iter().map(Vec::as_slice).collect();
            let bytes = texts[..count].iter().map(|text| text.len()).sum();
            assert_eq!(decompress(&join(&parts, bytes).unwrap(), MIB).unwrap(), texts[..count].concat());
            assert_eq!(join(&parts, bytes.saturating_sub(1)).is_err(), bytes > 0);
        }
        assert!(join(&[&blocks[0], b""], MIB).is_err(), "that is no block");
    }

    #[test]
    fn room_that_was_used_before_holds_what_is_decompressed_and_nothing_else() {
        let mut room = Vec::new();
        for raw in [&[7; 1000][..], b"shorter", &[8; 500], &[9; 100_000], b""] {
            decompress_into(&compress(raw), MIB, &mut room).unwrap();
            assert_eq!(room, raw);
        }
    }

    #[test]
    fn a_declared_length_over_the_limit_is_refused_and_said() {
        let body = compress(&[0; 1000]);
        check(&body, 1000, "1000 bytes");
        check(&body, 999, "body declares 1000 bytes decompressed, more than the limit of 999");
    }

    #[test]
    fn a_declared_length_beyond_the_format_is_refused_whatever_the_limit() {
        check(
            &[0x80, 0x80, 0x80, 0x80, 0x10, 0, 0],
            usize::MAX,
            "body declares 4294967296 bytes decompressed",
        );
    }

    #[test]
    fn a_declared_length_that_no_block_expands_to_is_refused() {
        // 10 MB declared by 6 bytes.
        check(&[0x80, 0xad, 0xe2, 0x04, 0, 0], 32 * MIB, "body of 6 bytes declares 10000000 bytes");
    }

    #[test]
    fn the_strongest_true_compression_passes_the_ratio() {
        check(&compress(&vec![0; 16 * MIB]), 32 * MIB, "16777216 bytes");
    }

    #[test]
    fn what_is_no_block_is_corrupt() {
        check(b"", MIB, "body is not a snappy block");
        check(&[0xff; 40], MIB, "body is not a snappy block");
        check(b"garbage garbage", MIB, "body is not a snappy block");
        // A stream identifier, which begins the framed format, reads as 895 bytes declared.
        check(&framed(), MIB, "body is not a snappy block");
        check(&framed()[..10], MIB, "body of 10 bytes declares 895 bytes");
        let bytes: Vec<u8> = (0..=255).collect();
        check(&compress(&bytes)[..100], MIB, "body is not a snappy block");
    }
}
