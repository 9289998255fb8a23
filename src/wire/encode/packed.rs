//! Remote-write 1.0 requests that are compressed as they are built.
//!
//! What stands in a request is known while it is built: series of one group differ in their names alone, and in a few
//! bytes from a group before whose labels are as long. Where all series are of one kind, that is the last one; where a
//! scrape brings target after target, it is the same family of the target before. So copies are written where a
//! compressor would have to search for them, and what is copied is written nowhere before.

use super::{EncodedTimestamp, SAMPLE_TAG, SERIES_TAG, VALUE_TAG, normalised, push_varint};
use crate::wire::snappy::{self, Elements};

/// A block of fewer bytes is not compressed again.
const LARGE: usize = 64 << 10;

/// Nor is one in which copies made so many bytes of each.
const POOR: usize = 4;

/// How many groups are remembered, by the lengths of their labels: a target has some dozens of kinds.
const GROUPS: usize = 128;

/// Room for labels of a group that is kept for the next request.
const KEPT_BYTES_MAX: usize = 4 << 10;

/// Fewer bytes are not worth a copy, unless it goes on with the one before.
const COPY_MIN: usize = 4;

/// Bytes of a value.
const VALUE_BYTES: usize = 8;

/// Bytes between labels and value: tag and length of the sample, tag of the value, which stands even where it is 0, so
/// that series of one group are all alike.
const SAMPLE_HEAD_BYTES: usize = 3;

/// Builds compressed requests out of groups of series, one request after the other.
///
/// Whoever builds many keeps one builder: it has room from the second one on.
#[derive(Default, Debug)]
pub struct PackedBuilder {
    elements: Elements,
    samples: usize,
    timestamp: EncodedTimestamp,
    /// [`GROUPS`] of them, as soon as there is one.
    groups: Vec<Group>,
    /// Which of them is the last one.
    last: usize,
    /// Room for a further group.
    spare: Group,
    /// Where each name was written last by a group of which none was known that is like it.
    names: Vec<(&'static [u8], usize)>,
    /// Tag and length of a series.
    head: Vec<u8>,
}

/// A group, to copy from.
#[derive(Default, Debug)]
struct Group {
    /// Where it begins.
    at: usize,
    /// Labels that all its series share, and zeroes up to a whole number of chunks.
    run: Vec<u8>,
    /// How the labels are divided: what stands in front of the name, then each part behind it.
    lengths: Vec<usize>,
    /// None after the request was taken: then there is nothing to copy from.
    series: Vec<Layout>,
    timestamp: EncodedTimestamp,
}

/// Where the parts of a series stand, counted from the begin of its group.
#[derive(Clone, Copy, Debug)]
struct Layout {
    head: usize,
    labels: usize,
    name: &'static [u8],
    /// What stands behind the labels.
    sample: usize,
    /// Bits of the sample's value.
    value: u64,
    timestamp: usize,
}

/// Labels in front of a name and behind it, in parts.
type Parts<'a> = (&'a [u8], &'a [&'a [u8]]);

impl Group {
    /// Takes it for nothing to copy from.
    fn forget(&mut self) {
        if self.run.len() > KEPT_BYTES_MAX {
            self.run = Vec::new();
        }
        self.series.clear();
        self.lengths.clear();
    }

    /// How much of the labels stands in front of the name.
    fn before(&self) -> usize {
        self.lengths.first().copied().unwrap_or(0)
    }

    /// Puts the parts of the labels, so many bytes, together.
    #[inline]
    fn fill<'a>(&mut self, parts: impl IntoIterator<Item = &'a &'a [u8]>, bytes: usize) {
        let room = bytes.next_multiple_of(CHUNK);
        if self.run.len() != room {
            self.run.clear();
            self.run.resize(room, 0);
        }
        let mut at = 0;
        for part in parts {
            self.run[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.run[at..].fill(0);
    }

    /// A part of the labels, 0 for what stands in front of the name, and where it stands.
    fn part(&self, index: usize) -> Option<(&[u8], usize)> {
        let first = self.series.first()?;
        let start: usize = self.lengths.get(..index)?.iter().sum();
        let at = self.at + first.labels + start + if index > 0 { first.name.len() } else { 0 };
        Some((&self.run[start..start + self.lengths.get(index)?], at))
    }

    /// Where a series of this name has it.
    fn name(&self, name: &[u8]) -> Option<usize> {
        let series = self.series.iter().find(|series| series.name == name);
        series.map(|series| self.at + series.labels + self.before())
    }
}

impl PackedBuilder {
    /// Makes a builder that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a series with one sample for each of `outputs`, its name and value. What stands in front of the name, the
    /// name and what stands behind it, put together, are a canonical label run; the name is a whole label.
    ///
    /// NaNs other than the stale marker become the one NaN that Prometheus uses. A group whose labels are as long as
    /// those of one before costs about 150 ns for two series of ten labels, any other two to three times as much.
    pub fn push(&mut self, labels: Parts<'_>, outputs: &[(&'static [u8], f64)], timestamp: i64) {
        if outputs.is_empty() {
            return;
        }
        if self.timestamp.timestamp != timestamp {
            self.timestamp = EncodedTimestamp::new(timestamp);
        }
        let place = place(labels, outputs.len());
        if self.is_like(place, labels, outputs) {
            self.push_like(place, labels.1, outputs);
        } else {
            self.push_anew(place, labels, outputs);
        }
        self.samples += outputs.len();
        self.last = place;
        self.groups[place].timestamp = self.timestamp;
    }

    /// How many samples, and as many series, the request has.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Bytes of the request before compression.
    pub fn bytes(&self) -> usize {
        self.elements.at()
    }

    /// Whether nothing was pushed since the last [`finish`](Self::finish).
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Takes the request, a snappy block, and starts the next one.
    ///
    /// Costs a compression where series had so little in common that copying did not pay.
    pub fn finish(&mut self) -> Vec<u8> {
        self.samples = 0;
        self.groups.iter_mut().for_each(Group::forget);
        self.names.clear();
        let bytes = self.elements.at();
        let block = self.elements.finish();
        if block.len() < LARGE || block.len() < bytes / POOR {
            return block;
        }
        let raw = snappy::decompress(&block, bytes).expect("a block that was written here is whole");
        let compressed = snappy::compress(&raw);
        if compressed.len() < block.len() { compressed } else { block }
    }

    /// Whether a group has parts as long as those of the one that is remembered, which can be copied from. Labels in
    /// front of the name are as rare as names of upper case: they are not looked at.
    #[inline]
    fn is_like(&self, place: usize, (before, after): Parts<'_>, outputs: &[(&'static [u8], f64)]) -> bool {
        let Some(last) = self.groups.get(place) else { return false };
        let Some((0, rest)) = last.lengths.split_first() else { return false };
        let same_lengths = || after.iter().zip(rest).all(|(part, length)| part.len() == *length);
        // A constant may have several addresses, and no byte may depend on which.
        let same_name = |name: &[u8], other: &[u8]| std::ptr::eq(name, other) || name == other;
        last.series.len() == outputs.len()
            && last.timestamp.length == self.timestamp.length
            && self.elements.reaches(last.at)
            && before.is_empty()
            && rest.len() == after.len()
            && same_lengths()
            && last.series.iter().zip(outputs).all(|(layout, output)| same_name(layout.name, output.0))
    }

    fn push_like(&mut self, place: usize, after: &[&[u8]], outputs: &[(&'static [u8], f64)]) {
        let Self { elements, groups, spare, timestamp: time, .. } = self;
        let last = &mut groups[place];
        let (at, back) = (elements.at(), elements.at() - last.at);
        let same_time = last.timestamp.timestamp == time.timestamp;
        let first = *last.series.first().expect("a group that is remembered has a series");
        let after_at = first.labels + first.name.len();
        let labels = first.sample - after_at;
        spare.fill(after, labels);
        // What is equal to the group before, and not yet written.
        let mut gap = 0;
        for (index, (layout, &(_, value))) in last.series.iter_mut().zip(outputs).enumerate() {
            gap += layout.labels + layout.name.len() - layout.head;
            if index == 0 {
                gap = write_changes(elements, (&spare.run, &last.run), labels, (back, gap));
            } else {
                elements.copy_back(back, gap);
                elements.copy_back(layout.labels + layout.name.len() - after_at, labels);
                gap = 0;
            }
            gap += SAMPLE_HEAD_BYTES;
            let value = normalised(value).to_bits();
            if value == layout.value {
                gap += VALUE_BYTES;
            } else {
                layout.value = value;
                elements.copy_back(back, gap);
                elements.short_literal(&value.to_le_bytes(), VALUE_BYTES);
                gap = 0;
            }
            if same_time {
                gap += time.length;
                continue;
            }
            elements.copy_back(back, gap);
            gap = 0;
            match index {
                0 => elements.literal(time.bytes()),
                _ => elements.copy_back(layout.timestamp - first.timestamp, time.length),
            }
        }
        elements.copy_back(back, gap);
        last.at = at;
        std::mem::swap(&mut last.run, &mut spare.run);
    }

    /// Adds a group of which none is known that is like it: copies of what its parts begin and end with as those of the
    /// last one, and of names.
    #[inline(never)]
    fn push_anew(&mut self, place: usize, (before, after): Parts<'_>, outputs: &[(&'static [u8], f64)]) {
        let Self { elements, spare: new, .. } = self;
        new.at = elements.at();
        new.series.clear();
        new.lengths.clear();
        new.lengths.extend([before].iter().chain(after).map(|part| part.len()));
        let labels = new.lengths.iter().sum();
        new.fill([before].iter().chain(after), labels);
        for &(name, value) in outputs {
            let layout = self.series_anew((before, after, labels), name, normalised(value).to_bits());
            self.spare.series.push(layout);
        }
        if self.groups.is_empty() {
            self.groups.resize_with(GROUPS, Group::default);
        }
        std::mem::swap(&mut self.groups[place], &mut self.spare);
        self.spare.forget();
    }

    fn series_anew(
        &mut self,
        (before, after, bytes): (&[u8], &[&[u8]], usize),
        name: &'static [u8],
        value: u64,
    ) -> Layout {
        let Self { elements, groups, last, spare: new, names, timestamp: time, head: tag, .. } = self;
        let unknown = Group::default();
        let old = groups.get(*last).unwrap_or(&unknown);
        let sample_bytes = 1 + VALUE_BYTES + time.length;
        let begin = new.at;
        let here = |elements: &Elements| elements.at() - begin;
        let head = here(elements);
        tag.clear();
        tag.push(SERIES_TAG);
        push_varint(tag, (bytes + name.len() + 2 + sample_bytes) as u64);
        elements.literal(tag);
        let at = here(elements);
        // The series just before is within reach where the first of its group is not.
        let near = new.series.last().map(|near| (near.labels, near.labels + before.len() + near.name.len()));
        match near {
            Some((labels_at, _)) => again(elements, before, begin + labels_at),
            None => differ(elements, before, old.part(0)),
        }
        let name_at = elements.at();
        let known = names.iter_mut().find(|(known, _)| *known == name);
        match old.name(name).or(known.as_ref().map(|(_, at)| *at)) {
            Some(from) => again(elements, name, from),
            None => elements.literal(name),
        }
        match known {
            Some((_, at)) => *at = name_at,
            None => names.push((name, name_at)),
        }
        match near {
            Some((_, after_at)) => again(elements, &new.run[before.len()..bytes], begin + after_at),
            None => {
                let parts = after.iter().enumerate();
                parts.for_each(|(index, part)| differ(elements, part, old.part(1 + index)));
            }
        }
        let sample = here(elements);
        elements.short_literal(&[SAMPLE_TAG, sample_bytes as u8, VALUE_TAG], SAMPLE_HEAD_BYTES);
        elements.short_literal(&value.to_le_bytes(), VALUE_BYTES);
        let timestamp = here(elements);
        let known = new.series.first().map(|first| begin + first.timestamp);
        let same_time = old.timestamp.timestamp == time.timestamp;
        let known = known.or(old.series.first().filter(|_| same_time).map(|first| old.at + first.timestamp));
        match known {
            Some(from) => again(elements, time.bytes(), from),
            None => elements.literal(time.bytes()),
        }
        Layout { head, labels: at, name, sample, value, timestamp }
    }
}

/// Where a group is remembered: by how long its parts are.
#[inline]
fn place((before, after): Parts<'_>, outputs: usize) -> usize {
    let mixed = after.iter().fold((before.len() + 31 * outputs) as u64, |mixed, part| {
        // Fibonacci hashing: Knuth, The Art of Computer Programming, volume 3, section 6.4.
        (mixed ^ part.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    (mixed >> 32) as usize % GROUPS
}

/// Bytes that are compared at once.
const CHUNK: usize = 32;

/// Writes the first `bytes` of `new`, labels of which a group so far back has `old`: what differs, and copies of what
/// does not. Takes and returns how much of what is equal there is not yet written.
#[inline]
fn write_changes(
    elements: &mut Elements,
    (new, old): (&[u8], &[u8]),
    bytes: usize,
    (back, mut gap): (usize, usize),
) -> usize {
    let (mut written, mut at) = (0, 0);
    let (chunks, old) = (new.as_chunks::<CHUNK>().0, old.as_chunks::<CHUNK>().0);
    for (chunk, old) in chunks.iter().zip(old) {
        if chunk != old {
            let (first, last) = differences(chunk, old);
            let (first, end) = (at + first, at + last + 1);
            elements.copy_back(back, gap + first - written);
            elements.literal(&new[first..end]);
            (written, gap) = (end, 0);
        }
        at += CHUNK;
    }
    gap + bytes - written
}

/// Where the first and the last byte are that differ, of chunks that do.
#[inline]
fn differences(new: &[u8; CHUNK], old: &[u8; CHUNK]) -> (usize, usize) {
    let words = |bytes: &[u8; CHUNK]| {
        let (words, _) = bytes.as_chunks::<16>();
        [u128::from_le_bytes(words[0]), u128::from_le_bytes(words[1])]
    };
    let (new, old) = (words(new), words(old));
    let [low, high] = [new[0] ^ old[0], new[1] ^ old[1]];
    let first = if low != 0 { low.trailing_zeros() } else { 128 + high.trailing_zeros() };
    let last = if high != 0 { 255 - high.leading_zeros() } else { 127 - low.leading_zeros() };
    (first as usize / 8, last as usize / 8)
}

/// Writes `part`, copying what it begins and ends with as what is `known` does.
fn differ(elements: &mut Elements, part: &[u8], known: Option<(&[u8], usize)>) {
    let Some((known, from)) = known else { return elements.literal(part) };
    if part == known {
        return again(elements, part, from);
    }
    let prefix = common_prefix(part, known);
    let (start, part) = part.split_at(prefix);
    let known = &known[prefix..];
    let suffix = common_suffix(part, known);
    let (middle, end) = part.split_at(part.len() - suffix);
    again(elements, start, from);
    elements.literal(middle);
    again(elements, end, from + prefix + known.len() - suffix);
}

/// How many bytes both begin with.
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let whole = 8 * words.take_while(|(one, other)| one == other).count();
    let rest = one[whole..].iter().zip(&other[whole..]);
    whole + rest.take_while(|(one, other)| one == other).count()
}

/// How many bytes both end with.
fn common_suffix(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_rchunks::<8>().1.iter().rev().zip(other.as_rchunks::<8>().1.iter().rev());
    let whole = 8 * words.take_while(|(one, other)| one == other).count();
    let rest = one[..one.len() - whole].iter().rev().zip(other[..other.len() - whole].iter().rev());
    whole + rest.take_while(|(one, other)| one == other).count()
}

/// Writes `part`, which stands at `from`, by a copy where that is in reach and costs less.
#[inline]
fn again(elements: &mut Elements, part: &[u8], from: usize) {
    let back = elements.at() - from;
    if elements.reaches(from) && (part.len() >= COPY_MIN || elements.goes_on(back)) {
        elements.copy_back(back, part.len());
    } else {
        elements.literal(part);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::RequestBuilder;
    use super::*;
    use crate::series::{LabelRunBuf, STALE_NAN_BITS, Sample};
    use crate::wire::prompb::v1;

    const NAMES: [&[u8]; 3] = [
        b"\x0a\x0d\x0a\x08__name__\x12\x01a",
        b"\x0a\x0e\x0a\x08__name__\x12\x02bb",
        b"\x0a\x0d\x0a\x08__name__\x12\x01c",
    ];

    /// Builders that are given the same.
    #[derive(Default)]
    struct Both {
        packed: PackedBuilder,
        /// One that has built no request before.
        fresh: PackedBuilder,
        plain: RequestBuilder,
    }

    /// What a request says, with the bits of values.
    fn read(raw: &[u8]) -> Vec<(Vec<v1::Label>, i64, u64)> {
        let request = v1::WriteRequest::decode(raw).unwrap();
        let series = request.timeseries.into_iter();
        let read = |series: v1::TimeSeries| {
            let [sample] = &series.samples[..] else { panic!("not one sample: {series:?}") };
            (series.labels.clone(), sample.timestamp, sample.value.to_bits())
        };
        series.map(read).collect()
    }

    impl Both {
        fn push(&mut self, labels: &[(&str, &str)], outputs: &[(&'static [u8], f64)], timestamp: i64) {
            let run = |labels: &[(&str, &str)]| labels.iter().copied().collect::<LabelRunBuf>().encode();
            let (before, after): (Vec<_>, Vec<_>) = labels.iter().partition(|(name, _)| *name < "__name__");
            let (before, after) = (run(&before), run(&after));
            let parts = after.split_at(after.len() / 3);
            let builders = [&mut self.packed, &mut self.fresh];
            for builder in builders {
                builder.push((&before, &[parts.0, &[], parts.1]), outputs, timestamp);
            }
            for &(name, value) in outputs {
                self.plain.push(&[&before, name, &after], Sample { timestamp, value });
            }
        }

        /// Finishes both, and compares.
        #[track_caller]
        fn check(&mut self) -> usize {
            assert_eq!(self.packed.samples(), self.plain.samples());
            let plain = self.plain.finish();
            let packed = self.packed.finish();
            assert!(self.packed.is_empty());
            assert_eq!(read(&snappy::decompress(&packed, 1 << 24).unwrap()), read(&plain));
            assert!(
                std::mem::take(&mut self.fresh).finish() == packed,
                "what was sent before is seen in the bytes"
            );
            packed.len()
        }
    }

    #[test]
    fn a_request_says_what_that_of_the_other_builder_says_whatever_it_is_made_of() {
        let mut both = Both::default();
        let mut state = 1_u64;
        let mut dice = |sides: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        for _ in 0..300 {
            for _ in 0..dice(40) {
                let (pod, path) = (format!("pod-{}", dice(12)), "/x".repeat(dice(60) as usize));
                let all = [
                    ("A", "upper"),
                    ("instance", "10.0.0.1:9100"),
                    ("path", &path),
                    ("pod", &pod),
                    ("z", "1"),
                ];
                let labels: Vec<_> = all.into_iter().filter(|_| dice(9) > 0).collect();
                let values = [0.0, -0.0, 1.5, f64::NAN, f64::from_bits(STALE_NAN_BITS), f64::INFINITY];
                let first = dice(3) as usize;
                let outputs =
                    (0..dice(4) as usize).map(|index| (NAMES[(first + index) % 3], values[dice(6) as usize]));
                let outputs: Vec<_> = outputs.collect();
                both.push(&labels, &outputs, [0, 1_700_000_000_000, 1_700_000_000_001, -1][dice(4) as usize]);
            }
            both.check();
        }
    }

    #[test]
    fn labels_that_are_too_long_to_be_copied_from_are_written_again() {
        let mut both = Both::default();
        let long = "x".repeat(40_000);
        for pod in ["1", "2", "2"] {
            let outputs = [(NAMES[0], 1.0), (NAMES[1], 0.0)];
            both.push(&[("a", &long), ("pod", pod), ("y", &long)], &outputs, 5);
        }
        both.check();
    }

    #[test]
    fn series_that_have_little_in_common_are_compressed_all_the_same() {
        let mut both = Both::default();
        let mut raw = 0;
        for number in 0..200 {
            let letter = char::from(b'a' + number % 26).to_string().repeat(4000);
            both.push(&[("a", &letter)], &[(NAMES[0], 1.0), (NAMES[1], 0.0)], 5);
            raw = both.packed.bytes();
        }
        assert!(both.check() < raw / 15);
    }

    #[test]
    fn series_that_differ_in_little_take_little() {
        let mut both = Both::default();
        for number in 0..1000 {
            let (instance, pod) =
                (format!("10.0.0.{}:9100", number % 50), format!("checkout-7d9f8b6c5d-{number:04}"));
            let labels = [
                ("container", "checkout-service"),
                ("instance", &instance),
                ("job", "kubernetes-pods-checkout"),
                ("namespace", "payments-and-billing"),
                ("pod", &pod),
                ("status", "200"),
            ];
            both.push(&labels, &[(NAMES[0], f64::from(number).sqrt()), (NAMES[1], 0.0)], 1_700_000_000_000);
        }
        assert!(both.check() < 60 * 1000);
    }
}
