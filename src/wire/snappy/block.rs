//! What stands behind the length of a snappy block, read element by element.
//!
//! Nearly all elements are copies from at least 64 bytes back and literals of a few bytes. Those are moved in whole
//! strides whatever their length, since that is no call and no loop; what a stride moves too much, the next element
//! overwrites. All others, and those near an end, are moved with care.
//!
//! Source of the format: <https://github.com/google/snappy/blob/main/format_description.txt>.

use snap::Error;

/// Bytes of a copy at most.
const COPY_MAX: usize = 64;

/// Bytes that are moved at once.
const STRIDE: usize = 16;

/// A literal of no more bytes has its length in the tag.
const LENGTH_IN_TAG: usize = 60;

/// What the tag of a copy says.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Tag {
    /// Bits of the offset that are in the tag itself.
    high: u16,
    /// Which bits of the two bytes behind it are those of the offset; none where it has four.
    mask: u16,
    /// Bytes behind it that belong to its offset.
    extra: u8,
    length: u8,
}

const TAGS: [Tag; 256] = {
    let mut tags = [Tag { high: 0, mask: 0, extra: 0, length: 0 }; 256];
    let mut tag = 0;
    while tag < 256 {
        let long = (tag >> 2) as u8 + 1;
        tags[tag] = match tag & 3 {
            0 => tags[tag],
            1 => Tag { high: (tag as u16 >> 5) << 8, mask: 0xff, extra: 1, length: (tag >> 2 & 7) as u8 + 4 },
            2 => Tag { high: 0, mask: 0xffff, extra: 2, length: long },
            _ => Tag { high: 0, mask: 0, extra: 4, length: long },
        };
        tag += 1;
    }
    tags
};

/// Decompresses `elements` into the whole of `room`.
pub(super) fn decompress(elements: &[u8], room: &mut [u8]) -> Result<(), Error> {
    let mut at = (0, 0);
    while at.0 < elements.len() {
        at = strides(elements, room, at);
        if let Some(tag) = elements.get(at.0) {
            at = if tag & 3 == 0 { literal(elements, room, at)? } else { copy(elements, room, at)? };
        }
    }
    if at.1 < room.len() {
        return Err(Error::HeaderMismatch { expected_len: room.len() as u64, got_len: at.1 as u64 });
    }
    Ok(())
}

/// Takes elements as long as strides do. Returns which element is next, and where it goes.
///
/// The next tag is found by sums alone, since all the rest waits for it: looked up, it would come a third later.
fn strides(elements: &[u8], room: &mut [u8], (from, mut to): (usize, usize)) -> (usize, usize) {
    let Some(last) = room.len().checked_sub(COPY_MAX) else { return (from, to) };
    let mut rest = &elements[from..];
    while to <= last
        && let Some(head) = rest.first_chunk::<{ 1 + STRIDE }>()
    {
        let (done, ahead) = room.split_at_mut(to);
        let Some(target) = ahead.first_chunk_mut::<COPY_MAX>() else { break };
        let [tag, low, high, ..] = *head;
        if tag & 3 == 0 {
            let length = usize::from(tag >> 2) + 1;
            if length > STRIDE {
                break;
            }
            target[..STRIDE].copy_from_slice(&head[1..]);
            rest = &rest[1 + length..];
            to += length;
        } else {
            let tag_says = TAGS[usize::from(tag)];
            let offset = tag_says.high | u16::from_le_bytes([low, high]) & tag_says.mask;
            // Neither from before the begin nor from what is written here.
            let source = done.get(to.wrapping_sub(usize::from(offset))..).and_then(|back| back.first_chunk());
            let Some(source) = source else { break };
            move_copy(target, source, tag_says.length);
            rest = &rest[1 + usize::from(tag & 3)..];
            to += usize::from(tag_says.length);
        }
    }
    (elements.len() - rest.len(), to)
}

/// Moves as many strides as `length` bytes take. Not all four: a stride too many waits for what was just written there.
#[inline]
fn move_copy(target: &mut [u8; COPY_MAX], source: &[u8; COPY_MAX], length: u8) {
    target[..STRIDE].copy_from_slice(&source[..STRIDE]);
    if length > 16 {
        target[16..32].copy_from_slice(&source[16..32]);
        if length > 32 {
            target[32..48].copy_from_slice(&source[32..48]);
            if length > 48 {
                target[48..].copy_from_slice(&source[48..]);
            }
        }
    }
}

/// Takes the literal that stands at `from` and goes to `to`.
fn literal(elements: &[u8], room: &mut [u8], (from, to): (usize, usize)) -> Result<(usize, usize), Error> {
    let (tag, rest) = (elements[from], &elements[from + 1..]);
    let space = room.len() - to;
    let cut = |rest: &[u8], length| Error::Literal {
        len: length,
        src_len: rest.len() as u64,
        dst_len: space as u64,
    };
    let count = usize::from(tag >> 2).saturating_sub(LENGTH_IN_TAG - 1);
    let Some((bytes, rest)) = rest.split_at_checked(count) else { return Err(cut(rest, count as u64)) };
    let length = match count {
        0 => u64::from(tag >> 2) + 1,
        _ => number(bytes) + 1,
    };
    if length > rest.len().min(space) as u64 {
        return Err(cut(rest, length));
    }
    let (bytes, rest) = rest.split_at(length as usize);
    let end = to + bytes.len();
    room[to..end].copy_from_slice(bytes);
    Ok((elements.len() - rest.len(), end))
}

/// Takes the copy that stands at `from` and goes to `to`, and those behind it that are the same: together they are one.
fn copy(elements: &[u8], room: &mut [u8], (from, to): (usize, usize)) -> Result<(usize, usize), Error> {
    let (tag, rest) = (TAGS[usize::from(elements[from])], &elements[from + 1..]);
    let Some((bytes, mut rest)) = rest.split_at_checked(usize::from(tag.extra)) else {
        return Err(Error::CopyRead { len: u64::from(tag.extra), src_len: rest.len() as u64 });
    };
    let offset = u64::from(tag.high) | number(bytes);
    if offset == 0 || offset > to as u64 {
        return Err(Error::Offset { offset, dst_pos: to as u64 });
    }
    let length = usize::from(tag.length);
    let mut end = to + length;
    if end > room.len() {
        return Err(Error::CopyWrite { len: length as u64, dst_len: (room.len() - to) as u64 });
    }
    let element = &elements[from..elements.len() - rest.len()];
    while end + length <= room.len()
        && let Some(behind) = rest.strip_prefix(element)
    {
        (rest, end) = (behind, end + length);
    }
    // What overlaps repeats what is there: twice as much each time.
    let (start, mut done) = (to - offset as usize, to);
    while done < end {
        let more = (end - done).min(done - start);
        room.copy_within(start..start + more, done);
        done += more;
    }
    Ok((elements.len() - rest.len(), end))
}

/// The number that up to four bytes are, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::fields::push_varint;

    /// Reads a block of `elements` that declares `declared` bytes, and compares what `snap` reads.
    #[track_caller]
    fn check(elements: &[u8], declared: usize) {
        let mut block = Vec::new();
        push_varint(&mut block, declared as u64);
        block.extend_from_slice(elements);
        let mut expected = vec![0; declared];
        let outcome = snap::raw::Decoder::new().decompress(&block, &mut expected);
        let mut room = vec![0xee; declared];
        assert_eq!(decompress(elements, &mut room), outcome.as_ref().map(drop).map_err(Error::clone));
        if outcome.is_ok() {
            assert!(room == expected, "{elements:?}");
        }
    }

    fn push_literal(elements: &mut Vec<u8>, length: usize, count: usize) {
        let last = (length - 1) as u32;
        let tag = if count == 0 { last as u8 } else { (LENGTH_IN_TAG + count - 1) as u8 };
        elements.push(tag << 2);
        elements.extend_from_slice(&last.to_le_bytes()[..count]);
        elements.extend((0..length).map(|at| (at * 31 + length) as u8));
    }

    fn push_copy(elements: &mut Vec<u8>, (kind, length): (u8, u8), offset: u32) {
        let [low, high, ..] = offset.to_le_bytes();
        let tag = if kind == 1 { high << 5 | (length - 4) << 2 } else { (length - 1) << 2 };
        elements.push(tag | kind);
        elements.push(low);
        match kind {
            1 => {}
            2 => elements.push(high),
            _ => elements.extend_from_slice(&offset.to_le_bytes()[1..]),
        }
    }

    /// One element as bytes, and how many it becomes. Offsets may reach too far.
    fn an_element() -> impl Strategy<Value = (Vec<u8>, usize)> {
        let made = |push: &dyn Fn(&mut Vec<u8>), length| {
            let mut elements = Vec::new();
            push(&mut elements);
            (elements, length)
        };
        let offsets = prop_oneof![1_u32..20, 50_u32..140, 0_u32..2048];
        let literal = |lengths: std::ops::Range<usize>, counts: std::ops::Range<usize>| {
            (lengths, counts).prop_map(move |(length, count)| {
                made(&|elements| push_literal(elements, length, count), length)
            })
        };
        prop_oneof![
            4 => literal(1..20, 0..1),
            1 => literal(1..61, 0..1),
            1 => literal(1..250, 1..5),
            4 => (4_u8..12, offsets.clone()).prop_map(move |(length, offset)| {
                made(&|elements| push_copy(elements, (1, length), offset), usize::from(length))
            }),
            8 => (2_u8..4, 1_u8..65, offsets).prop_map(move |(kind, length, offset)| {
                made(&|elements| push_copy(elements, (kind, length), offset), usize::from(length))
            }),
        ]
    }

    #[test]
    fn each_copy_is_what_snap_makes_of_it_whatever_stands_around_it() {
        for offset in [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 99, 100, 101, 2047] {
            for (kind, length) in [(1, 4), (1, 11), (2, 1), (2, 16), (2, 17), (2, 33), (2, 49), (3, 64)] {
                for behind in [0, 1, 15, 63, 64, 80] {
                    let mut elements = Vec::new();
                    push_literal(&mut elements, 100, 1);
                    push_copy(&mut elements, (kind, length), offset);
                    (0..behind).for_each(|_| push_literal(&mut elements, 1, 0));
                    let declared = 100 + usize::from(length) + behind;
                    for declared in [declared - 1, declared, declared + 1] {
                        check(&elements, declared);
                    }
                }
            }
        }
    }

    #[test]
    fn what_repeats_goes_on_until_something_stands_between() {
        for (one, other) in [(1, 2), (2, 4), (3, 7), (7, 1), (20, 63), (63, 20), (64, 32)] {
            let mut elements = Vec::new();
            push_literal(&mut elements, 100, 1);
            let mut declared = 100;
            for (offset, lengths) in [
                (one, &[5, 64, 64, 1, 33][..]),
                (other, &[64, 3]),
                (one, &[64, 64]),
                (0, &[2]),
                (one, &[9, 64]),
            ] {
                for &length in lengths {
                    match offset {
                        0 => push_literal(&mut elements, usize::from(length), 0),
                        _ => push_copy(&mut elements, (2, length), offset),
                    }
                    declared += usize::from(length);
                }
            }
            (0..40).for_each(|_| push_copy(&mut elements, (2, 64), other));
            declared += 40 * 64;
            [declared - 70, declared - 1, declared, declared + 1]
                .into_iter()
                .for_each(|it| check(&elements, it));
        }
    }

    #[test]
    fn a_block_that_is_cut_anywhere_is_the_error_that_snap_finds() {
        let mut elements = Vec::new();
        push_literal(&mut elements, 70, 4);
        push_copy(&mut elements, (2, 64), 64);
        push_copy(&mut elements, (3, 5), 130);
        push_literal(&mut elements, 300, 2);
        push_copy(&mut elements, (1, 7), 300);
        let whole = 70 + 64 + 5 + 300 + 7;
        for end in 0..=elements.len() {
            check(&elements[..end], whole);
        }
        check(&[], 0);
        check(&[0xfc, 0xff, 0xff, 0xff, 0xff], 64);
    }

    proptest! {
        #[test]
        fn any_block_is_what_snap_makes_of_it(
            elements in prop::collection::vec(an_element(), 0..60),
            first in 0_usize..2100,
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            surplus in prop_oneof![8 => Just(0), 1 => -70_i32..70],
        ) {
            let mut block = Vec::new();
            if first > 0 {
                push_literal(&mut block, first, 2);
            }
            let length = first + elements.iter().map(|(_, length)| length).sum::<usize>();
            elements.iter().for_each(|(bytes, _)| block.extend_from_slice(bytes));
            if let Some((at, byte)) = damage.filter(|_| !block.is_empty()) {
                let at = at.index(block.len());
                block[at] = byte;
            }
            check(&block, length.saturating_add_signed(surplus as isize));
        }

        #[test]
        fn what_snap_compresses_comes_back(
            words in prop::collection::vec("[a-c]{1,40}", 1..20),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..300),
        ) {
            let raw: String = order.iter().map(|index| words[index.index(words.len())].as_str()).collect();
            let block = crate::wire::snappy::compress(raw.as_bytes());
            prop_assert_eq!(crate::wire::snappy::decompress(&block, 1 << 20).unwrap(), raw.into_bytes());
        }
    }
}
