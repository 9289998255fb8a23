//! Remote-write 1.0 requests that are compressed as they are built.
//!
//! What stands in a request is known while it is built: series of one group differ in their names alone, and from the
//! group before in a few bytes. So copies are written where a compressor would have to search for them, and what is
//! copied is not even read: about 45 ns for two series of ten labels, a third of what building and compressing them costs,
//! in no more bytes.

use super::{EncodedTimestamp, SAMPLE_TAG, SERIES_TAG, VALUE_TAG, normalised, push_varint};
use crate::wire::snappy::Elements;

/// Builds compressed requests out of groups of series, one request after the other.
///
/// Whoever builds many keeps one builder: it has room from the second one on.
#[derive(Default, Debug)]
pub struct PackedBuilder {
    elements: Elements,
    samples: usize,
    timestamp: EncodedTimestamp,
    last: Group,
    /// Heads and labels that the last group had others of.
    room: Vec<u8>,
}

/// The last group, to copy from.
///
/// Invariant: unless `series` is empty, `run` is what stands in the first of them, but for its name.
#[derive(Default, Debug)]
struct Group {
    run: Vec<u8>,
    /// How much of `run` stands in front of the name.
    before: usize,
    series: Vec<Stood>,
}

/// Where parts of a series stand in the request.
#[derive(Clone, Copy, Debug)]
struct Stood {
    at: usize,
    /// Its length, as the head says.
    length: usize,
    labels: usize,
    name: &'static [u8],
    name_at: usize,
    /// What stands behind the labels.
    sample: usize,
    /// Zero where it does not stand there.
    value: u64,
    timestamp: usize,
    timestamp_ms: i64,
}

impl Stood {
    /// Where the labels behind the name stand.
    fn after(&self) -> usize {
        self.name_at + self.name.len()
    }
}

impl PackedBuilder {
    /// Makes a builder that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a series with one sample for each of `outputs`, its name and value. `before`, the name and `after`, put
    /// together, are a canonical label run; the name is a whole label.
    ///
    /// NaNs other than the stale marker become the one NaN that Prometheus uses.
    pub fn push(
        &mut self,
        (before, after): (&[u8], &[&[u8]]),
        outputs: &[(&'static [u8], f64)],
        timestamp: i64,
    ) {
        if self.timestamp.timestamp != timestamp {
            self.timestamp = EncodedTimestamp::new(timestamp);
        }
        let labels = before.len() + after.iter().map(|part| part.len()).sum::<usize>();
        for (index, &(name, value)) in outputs.iter().enumerate() {
            let value = normalised(value).to_bits();
            let last = self.last.series.get(index).copied();
            let mut stood = self.head(labels, (name, value), last);
            stood.name_at = stood.labels + before.len();
            if index == 0 {
                self.first_labels((before, after), &stood, labels);
            } else {
                self.same_labels((before, after), &stood, last);
            }
            self.sample(&mut stood, last);
            match self.last.series.get_mut(index) {
                Some(place) => *place = stood,
                None => self.last.series.push(stood),
            }
        }
        self.samples += outputs.len();
        self.last.series.truncate(outputs.len());
    }

    /// How many samples, and as many series, the request has.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Whether nothing was pushed since the last [`finish`](Self::finish).
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Takes the request, a snappy block, and starts the next one.
    pub fn finish(&mut self) -> Vec<u8> {
        self.samples = 0;
        self.last.series.clear();
        self.elements.finish()
    }

    /// Writes tag and length of a series.
    fn head(&mut self, labels: usize, (name, value): (&'static [u8], u64), last: Option<Stood>) -> Stood {
        let sample = value_len(value) + self.timestamp.length;
        let length = labels + name.len() + 2 + sample;
        let at = self.elements.at();
        let same = last.filter(|last| last.length == length);
        if !same.is_some_and(|last| self.elements.copy(last.at, last.labels - last.at)) {
            self.room.clear();
            self.room.push(SERIES_TAG);
            push_varint(&mut self.room, length as u64);
            self.elements.literal(&self.room);
        }
        let labels = self.elements.at();
        Stood { at, length, labels, name, name_at: labels, sample: 0, value, timestamp: 0, timestamp_ms: 0 }
    }

    /// Writes the labels of the first series of a group, by what differs from the group before.
    fn first_labels(&mut self, (before, after): (&[u8], &[&[u8]]), stood: &Stood, labels: usize) {
        let last = self.last.series.first().copied();
        let Some(last) = last.filter(|_| self.last.before == before.len() && self.last.run.len() == labels)
        else {
            return self.other_labels((before, after), stood, last);
        };
        let (known, mut rest) = self.last.run.split_at_mut(before.len());
        patch(&mut self.elements, before, known, last.labels);
        name(&mut self.elements, stood.name, Some(last));
        let mut from = last.after();
        for part in after {
            let (known, further) = std::mem::take(&mut rest).split_at_mut(part.len());
            patch(&mut self.elements, part, known, from);
            from += part.len();
            rest = further;
        }
    }

    /// The same where lengths differ: what both begin and end with is copied.
    #[cold]
    fn other_labels(&mut self, (before, after): (&[u8], &[&[u8]]), stood: &Stood, last: Option<Stood>) {
        self.room.clear();
        self.room.extend_from_slice(before);
        after.iter().for_each(|part| self.room.extend_from_slice(part));
        let (known_before, known_after) = self.last.run.split_at(self.last.before);
        let (before, after) = self.room.split_at(before.len());
        match last {
            None => {
                [before, stood.name, after].iter().for_each(|part| self.elements.literal(part));
            }
            Some(last) => {
                differ(&mut self.elements, before, known_before, last.labels);
                name(&mut self.elements, stood.name, Some(last));
                differ(&mut self.elements, after, known_after, last.after());
            }
        }
        self.last.before = before.len();
        std::mem::swap(&mut self.last.run, &mut self.room);
    }

    /// Writes the labels of another series of the group.
    fn same_labels(&mut self, (before, after): (&[u8], &[&[u8]]), stood: &Stood, last: Option<Stood>) {
        let first = self.last.series[0];
        if !self.elements.copy(first.labels, before.len()) {
            self.elements.literal(before);
        }
        name(&mut self.elements, stood.name, last);
        let length = after.iter().map(|part| part.len()).sum();
        if !self.elements.copy(first.after(), length) {
            after.iter().for_each(|part| self.elements.literal(part));
        }
    }

    /// Writes the sample of a series.
    fn sample(&mut self, stood: &mut Stood, last: Option<Stood>) {
        let elements = &mut self.elements;
        let valued = stood.value != 0;
        stood.sample = elements.at();
        let timestamp = self.timestamp.timestamp;
        let like = last.filter(|last| (last.value != 0) == valued && last.timestamp_ms == timestamp);
        let head = 2 + usize::from(valued);
        if !like.is_some_and(|last| elements.copy(last.sample, head)) {
            let length = (value_len(stood.value) + self.timestamp.length) as u8;
            elements.literal(&[SAMPLE_TAG, length, VALUE_TAG][..head]);
        }
        if valued {
            elements.literal(&stood.value.to_le_bytes());
        }
        (stood.timestamp, stood.timestamp_ms) = (elements.at(), timestamp);
        let first = self.last.series.first().filter(|_| like.is_none());
        let known = like.as_ref().or(first.filter(|first| first.timestamp_ms == timestamp));
        let length = self.timestamp.length;
        if !known.is_some_and(|known| elements.copy(known.timestamp, length)) {
            elements.literal(&self.timestamp.bytes[..length]);
        }
    }
}

/// Writes a name.
fn name(elements: &mut Elements, name: &[u8], last: Option<Stood>) {
    let same = last.filter(|last| last.name == name);
    if !same.is_some_and(|last| elements.copy(last.name_at, name.len())) {
        elements.literal(name);
    }
}

/// Bytes of a value and its tag: zero is what a field has that is not there.
fn value_len(value: u64) -> usize {
    if value == 0 { 0 } else { 9 }
}

/// Writes `part`, of which as many bytes are `known` and stand at `from`: copies what is equal, and makes the rest known.
#[inline]
fn patch(elements: &mut Elements, part: &[u8], known: &mut [u8], from: usize) {
    debug_assert_eq!(part.len(), known.len(), "as many are known");
    let mut written = 0;
    let mut differs = |at: usize, difference: u64, known: &mut [u8]| {
        let first = at + difference.trailing_zeros() as usize / 8;
        let end = at + 8 - difference.leading_zeros() as usize / 8;
        again(elements, &part[written..first], from + written);
        elements.literal(&part[first..end]);
        known[first..end].copy_from_slice(&part[first..end]);
        written = end;
    };
    let mut at = 0;
    while let (Some(new), Some(old)) = (part[at..].first_chunk::<8>(), known[at..].first_chunk::<8>()) {
        let difference = u64::from_le_bytes(*new) ^ u64::from_le_bytes(*old);
        if difference != 0 {
            differs(at, difference, known);
        }
        at += 8;
    }
    let rest = part[at..].iter().zip(&known[at..]).rev();
    let difference = rest.fold(0, |difference, (new, old)| difference << 8 | u64::from(new ^ old));
    if difference != 0 {
        differs(at, difference, known);
    }
    again(elements, &part[written..], from + written);
}

/// Writes `part`, copying what it begins and ends with as `known` does, which stands at `from`.
fn differ(elements: &mut Elements, part: &[u8], known: &[u8], from: usize) {
    let prefix = part.iter().zip(known).take_while(|(new, old)| new == old).count();
    let (start, part) = part.split_at(prefix);
    let known = &known[prefix..];
    let suffix = part.iter().rev().zip(known.iter().rev()).take_while(|(new, old)| new == old).count();
    let (middle, end) = part.split_at(part.len() - suffix);
    again(elements, start, from);
    elements.literal(middle);
    again(elements, end, from + prefix + known.len() - suffix);
}

/// Writes `part`, which stands at `from`, by a copy where that costs less.
#[inline]
fn again(elements: &mut Elements, part: &[u8], from: usize) {
    if !elements.copy(from, part.len()) {
        elements.literal(part);
    }
}

#[cfg(test)]
mod tests {
    use super::super::RequestBuilder;
    use super::*;
    use crate::series::{LabelRunBuf, STALE_NAN_BITS, Sample};
    use crate::wire::snappy;

    const NAMES: [&[u8]; 3] =
        [b"\x0a\x0d\x0a\x08__name__\x12\x01a", b"\x0a\x0e\x0a\x08__name__\x12\x02bb", b"\x0a\x0d\x0a\x08__name__\x12\x01c"];

    /// Both builders, given the same.
    #[derive(Default)]
    struct Both {
        packed: PackedBuilder,
        plain: RequestBuilder,
    }

    impl Both {
        fn push(&mut self, labels: &[(&str, &str)], outputs: &[(&'static [u8], f64)], timestamp: i64) {
            let run = |labels: &[(&str, &str)]| labels.iter().copied().collect::<LabelRunBuf>().encode();
            let (before, after): (Vec<_>, Vec<_>) = labels.iter().partition(|(name, _)| *name < "__name__");
            let (before, after) = (run(&before), run(&after));
            let parts = after.split_at(after.len() / 3);
            self.packed.push((&before, &[parts.0, &[], parts.1]), outputs, timestamp);
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
            assert!(snappy::decompress(&packed, 1 << 24).unwrap() == plain);
            packed.len()
        }
    }

    #[test]
    fn a_request_is_what_the_other_builder_makes_whatever_it_is_made_of() {
        let mut both = Both::default();
        let mut state = 1_u64;
        let mut dice = |sides: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        for _ in 0..300 {
            for _ in 0..dice(40) {
                let (pod, path) = (format!("pod-{}", dice(12)), "/x".repeat(dice(60) as usize));
                let all = [("A", "upper"), ("instance", "10.0.0.1:9100"), ("path", &path), ("pod", &pod), ("z", "1")];
                let labels: Vec<_> = all.into_iter().filter(|_| dice(9) > 0).collect();
                let values = [0.0, -0.0, 1.5, f64::NAN, f64::from_bits(STALE_NAN_BITS), f64::INFINITY];
                let first = dice(3) as usize;
                let outputs = (0..dice(4) as usize).map(|index| {
                    (NAMES[(first + index) % 3], values[dice(6) as usize])
                });
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
    fn series_that_differ_in_little_take_little() {
        let mut both = Both::default();
        for number in 0..1000 {
            let (instance, pod) = (format!("10.0.0.{}:9100", number % 50), format!("checkout-7d9f8b6c5d-{number:04}"));
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
