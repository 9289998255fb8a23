//! Remote-write 1.0 requests that are compressed as they are built.
//!
//! What stands in a request is known while it is built: series of one group differ in their names alone, and in a few
//! bytes from a group before whose labels are divided alike. Where all series are of one kind, that is the last one; where a
//! scrape brings target after target, it is the same family of the target before. So copies are written where a
//! compressor would have to search for them, and what is copied is written nowhere before. A group that differs only where
//! the one before of its kind did is written by its pattern, without a search.

mod pattern;
mod shared;

use super::{EncodedTimestamp, SAMPLE_TAG, SERIES_TAG, VALUE_TAG, normalised, push_varint};
use crate::series::{Woven, common_prefix, common_suffix};
use crate::wire::snappy::{self, Elements};
use pattern::{Noted, Pattern, SERIES_MAX, Written};
use shared::{Kind, Shared};

/// A block of fewer bytes is not compressed again.
const LARGE: usize = 64 << 10;

/// Nor is one in which copies made so many bytes of each.
const POOR: usize = 4;

/// Places where groups are remembered: a target has some dozens of kinds, for each length of what tells it from others,
/// and of kinds that fall together each is written anew. So there are far more than groups in reach of a copy.
const GROUPS: usize = 1024;

/// Room for labels of a group that is kept for the next request.
const KEPT_BYTES_MAX: usize = 1 << 10;

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
    /// Which of them are not to be kept for the next request; some more than once.
    used: Vec<usize>,
    /// Room for a further group.
    spare: Group,
    /// Room for labels that are put together to be compared.
    whole: Vec<u8>,
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
    shared: Shared,
    /// None after the request was taken: then there is nothing to copy from.
    series: Vec<Layout>,
    timestamp: EncodedTimestamp,
    pattern: Pattern,
}

/// Where the parts of a series stand, counted from the begin of its group.
#[derive(Clone, Copy, Debug)]
struct Layout {
    head: usize,
    labels: usize,
    /// Labels behind the name.
    after: usize,
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
        self.shared.shrink(KEPT_BYTES_MAX);
        self.pattern.forget();
        self.series.clear();
    }

    /// The parts of the labels, and where they stand: the first in front of the name, the others behind it.
    fn parts(&self) -> impl Iterator<Item = (&[u8], usize)> {
        self.series.first().into_iter().flat_map(|first| {
            let parts = self.shared.parts().enumerate();
            let labels = self.at + first.labels;
            parts.map(move |(index, (part, at))| {
                (part, labels + at + if index > 0 { first.name.len() } else { 0 })
            })
        })
    }

    /// Where a series of this name has it.
    fn name(&self, name: &[u8]) -> Option<usize> {
        let series = self.series.iter().find(|series| series.name == name);
        series.map(|series| self.at + series.after - name.len())
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
    /// NaNs other than the stale marker become the one NaN that Prometheus uses. Labels that [are woven](Self::weave)
    /// cost less.
    pub fn push(&mut self, labels: Parts<'_>, outputs: &[(&'static [u8], f64)], timestamp: i64) {
        if outputs.is_empty() {
            return;
        }
        let kind = Kind::of_parts(labels);
        let place = self.begin(&kind, outputs, timestamp);
        // Kinds of parts are hashes: those that fall together must be as long, and begin with nothing.
        if labels.0.is_empty() && self.is_like(place, (&kind, [""; 2]), outputs) {
            let mut run = std::mem::take(&mut self.whole);
            run.clear();
            labels.1.iter().for_each(|part| run.extend_from_slice(part));
            self.push_like(place, &run, outputs);
            self.whole = run;
        } else {
            self.spare.shared.set_parts(kind, labels);
            self.push_anew(place, outputs);
        }
    }

    /// The same for labels that are woven. Both ways may be taken for one request.
    ///
    /// A group of the same kind as one before costs about 100 ns for two series of ten labels, any other two to three
    /// times as much.
    pub fn weave(&mut self, labels: &Woven<'_>, outputs: &[(&'static [u8], f64)], timestamp: i64) {
        if outputs.is_empty() {
            return;
        }
        let kind = Kind::of_woven(labels);
        let place = self.begin(&kind, outputs, timestamp);
        if !self.repeat((place, &kind), labels, outputs) {
            self.weave_by_search((place, kind), labels, outputs);
        }
    }

    /// Adds a group that has no pattern. Not in line, so that what nearly every group takes is short.
    #[inline(never)]
    fn weave_by_search(
        &mut self,
        (place, kind): (usize, Kind),
        labels: &Woven<'_>,
        outputs: &[(&'static [u8], f64)],
    ) {
        if self.is_like(place, (&kind, [labels.monitor, labels.stat]), outputs) {
            self.push_like(place, labels.source.as_bytes(), outputs);
        } else {
            self.spare.shared.set_woven(kind, labels);
            self.push_anew(place, outputs);
        }
    }

    /// Counts what is to come at `timestamp`, and tells where such a group is remembered.
    #[inline]
    fn begin(&mut self, kind: &Kind, outputs: &[(&'static [u8], f64)], timestamp: i64) -> usize {
        if self.timestamp.timestamp != timestamp {
            self.timestamp = EncodedTimestamp::new(timestamp);
        }
        self.samples += outputs.len();
        kind.hash(outputs.len()) as usize % GROUPS
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
        self.used.drain(..).for_each(|place| self.groups[place].forget());
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

    /// Whether the group that is remembered can be copied from for one of such labels and outputs.
    #[inline(always)]
    fn is_like(
        &self,
        place: usize,
        (kind, gained): (&Kind, [&str; 2]),
        outputs: &[(&'static [u8], f64)],
    ) -> bool {
        let Some(last) = self.groups.get(place) else { return false };
        last.series.len() == outputs.len()
            && last.timestamp.length == self.timestamp.length
            && self.elements.reaches(last.at)
            && last.shared.is_like(kind, gained)
            && have_names(&last.series, outputs)
    }

    /// Adds a group by the pattern of the one that is remembered, where all that differs does so in its places.
    #[inline(always)]
    fn repeat(
        &mut self,
        (place, kind): (usize, &Kind),
        labels: &Woven<'_>,
        outputs: &[(&'static [u8], f64)],
    ) -> bool {
        let Self { elements, groups, timestamp: time, .. } = self;
        let Some(Group { at, shared, series, timestamp, pattern }) = groups.get_mut(place) else {
            return false;
        };
        let begin = elements.at();
        // A group of no series is of a request before, and stands nowhere.
        if series.len() != outputs.len()
            || !pattern.fits(begin - *at, elements)
            || timestamp.timestamp != time.timestamp
            || !shared.is_like(kind, [labels.monitor, labels.stat])
        {
            return false;
        }
        let mut values = [0; SERIES_MAX];
        for ((layout, &(name, value)), (bits, differs)) in
            series.iter().zip(outputs).zip(values.iter_mut().zip(pattern.differ()))
        {
            *bits = normalised(value).to_bits();
            if !std::ptr::eq(layout.name, name) || (*bits != layout.value) != differs {
                return false;
            }
        }
        let Some(words) = shared.take_by(pattern, labels.source.as_bytes()) else { return false };
        let mut end = begin;
        for (layout, bits) in series.iter_mut().zip(values) {
            layout.value = bits;
            end = begin + layout.timestamp + time.length;
        }
        pattern.write(elements, &words, &values, end);
        *at = begin;
        self.last = place;
        true
    }

    /// Adds a group whose labels are made of `run` as those of the one that is remembered are of its own.
    #[inline]
    fn push_like(&mut self, place: usize, run: &[u8], outputs: &[(&'static [u8], f64)]) {
        let Self { elements, groups, timestamp: time, .. } = self;
        let Group { at, shared, series, timestamp, pattern } = &mut groups[place];
        let (begin, back) = (elements.at(), elements.at() - *at);
        let same_time = timestamp.timestamp == time.timestamp;
        let (first, others) = series.split_first_mut().expect("a group that is remembered has a series");
        let labels = first.sample - first.after;
        // What is equal to the group before, and not yet written.
        let open = elements.enter(back);
        let (first_element, mut noted) = (elements.place(), Noted::of(outputs.len()));
        let gap = shared.write_changes(elements, (run, labels), (back, open + first.after), &mut noted);
        let mut gap = write_value(elements, (first, outputs[0].1), (back, gap));
        if gap == 0 {
            noted.value(0, elements);
        }
        let mut end = first.timestamp + time.length;
        if same_time {
            gap += time.length;
        } else {
            elements.patch((back, gap), &time.bytes, time.length);
            gap = 0;
        }
        for (index, layout) in others.iter_mut().enumerate() {
            elements.copy_at_once(back, gap + layout.after - layout.head);
            if labels > 0 {
                elements.copy_at_once(layout.after - first.after, labels);
            }
            gap = write_value(elements, (layout, outputs[1 + index].1), (back, 0));
            if gap == 0 {
                noted.value(1 + index, elements);
            }
            end = layout.timestamp + time.length;
            if same_time {
                gap += time.length;
            } else {
                if gap > 0 {
                    elements.copy_at_once(back, gap);
                }
                elements.copy_at_once(layout.timestamp - first.timestamp, time.length);
                gap = 0;
            }
        }
        elements.leave((back, gap), begin + end);
        *at = begin;
        if same_time {
            pattern.learn(&noted, &Written { run, back, open, gap, place: first_element }, elements);
        } else {
            *timestamp = *time;
        }
        self.last = place;
    }

    /// Adds a group of which none is known that is like it, with the spare labels: copies of what its parts begin and
    /// end with as those of the last one, and of names.
    #[inline(never)]
    fn push_anew(&mut self, place: usize, outputs: &[(&'static [u8], f64)]) {
        self.spare.at = self.elements.at();
        self.spare.series.clear();
        self.spare.timestamp = self.timestamp;
        for &(name, value) in outputs {
            let layout = self.series_anew(name, normalised(value).to_bits());
            self.spare.series.push(layout);
        }
        if self.groups.is_empty() {
            self.groups.resize_with(GROUPS, Group::default);
        }
        std::mem::swap(&mut self.groups[place], &mut self.spare);
        self.spare.forget();
        self.used.push(place);
        self.last = place;
    }

    fn series_anew(&mut self, name: &'static [u8], value: u64) -> Layout {
        let Self { elements, groups, last, spare: new, names, timestamp: time, head: tag, .. } = self;
        let unknown = Group::default();
        let old = groups.get(*last).unwrap_or(&unknown);
        let sample_bytes = 1 + VALUE_BYTES + time.length;
        let begin = new.at;
        let here = |elements: &Elements| elements.at() - begin;
        let head = here(elements);
        tag.clear();
        tag.push(SERIES_TAG);
        push_varint(tag, (new.shared.bytes() + name.len() + 2 + sample_bytes) as u64);
        elements.literal(tag);
        let at = here(elements);
        // The series just before is within reach where the first of its group is not.
        let near = new.series.last();
        let (mut parts, mut olds) = (new.shared.parts(), old.parts());
        let (before, _) = parts.next().unwrap_or_default();
        let known = olds.next();
        match near {
            Some(near) => again(elements, before, begin + near.labels),
            None => differ(elements, before, known),
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
        let after = here(elements);
        for (part, at) in parts {
            let known = olds.next();
            match near {
                Some(near) => again(elements, part, begin + near.after + at - before.len()),
                None => differ(elements, part, known),
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
        Layout { head, labels: at, after, name, sample, value, timestamp }
    }
}

/// Whether series have the names of `outputs`, of which there are as many.
#[inline]
fn have_names(series: &[Layout], outputs: &[(&'static [u8], f64)]) -> bool {
    let mut names = series.iter().zip(outputs);
    names.all(|(layout, output)| std::ptr::eq(layout.name, output.0)) || have_equal_names(series, outputs)
}

/// The same. A constant may have several addresses, and no byte may depend on which.
#[cold]
fn have_equal_names(series: &[Layout], outputs: &[(&'static [u8], f64)]) -> bool {
    series.iter().zip(outputs).all(|(layout, output)| layout.name == output.0)
}

/// Writes a value, and what stands between it and the labels. Takes and returns how much of what is equal in the group so
/// far back is not yet written.
#[inline]
fn write_value(
    elements: &mut Elements,
    (layout, value): (&mut Layout, f64),
    (back, gap): (usize, usize),
) -> usize {
    let value = normalised(value).to_bits();
    if value == layout.value {
        return gap + SAMPLE_HEAD_BYTES + VALUE_BYTES;
    }
    layout.value = value;
    elements.patch((back, gap + SAMPLE_HEAD_BYTES), &value.to_le_bytes(), VALUE_BYTES);
    0
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
    use crate::series::{LabelRun, LabelRunBuf, STALE_NAN_BITS, Sample, Seams};
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
        /// One that has no pattern for any group.
        searching: PackedBuilder,
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
            let builders = [&mut self.packed, &mut self.fresh, &mut self.searching];
            for builder in builders {
                builder.push((&before, &[parts.0, &[], parts.1]), outputs, timestamp);
            }
            for &(name, value) in outputs {
                self.plain.push(&[&before, name, &after], Sample { timestamp, value });
            }
        }

        /// Weaves from labels with a name.
        fn weave(
            &mut self,
            labels: &[(&str, &str)],
            [monitor, stat]: [&str; 2],
            outputs: &[(&'static [u8], f64)],
            timestamp: i64,
        ) {
            let source = labels.iter().copied().collect::<LabelRunBuf>().encode();
            let source = LabelRun::from_canonical(&source);
            let seams = Seams::of(source).unwrap();
            let woven = Woven { source, seams, monitor, stat };
            for builder in [&mut self.packed, &mut self.fresh, &mut self.searching] {
                builder.weave(&woven, outputs, timestamp);
            }
            let last = self.searching.last;
            self.searching.groups.iter_mut().skip(last).take(1).for_each(|group| group.pattern.forget());
            let mut run = Vec::new();
            let (before, after) = (woven.write(&mut run), run);
            let (before, after) = after.split_at(before);
            for &(name, value) in outputs {
                self.plain.push(&[before, name, after], Sample { timestamp, value });
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
            assert!(
                self.searching.finish() == packed,
                "what is written by a pattern is not what is looked for"
            );
            packed.len()
        }
    }

    #[test]
    fn a_request_says_what_that_of_the_other_builder_says_whatever_it_is_made_of() {
        let mut both = Both::default();
        let mut state = 1;
        let mut dice = |sides| dice(&mut state, sides);
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

    /// Numbers below what is asked for.
    fn dice(state: &mut u64, sides: u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % sides
    }

    #[test]
    fn what_is_woven_says_what_the_other_builder_says_wherever_it_differs() {
        let mut both = Both::default();
        let mut state = 7;
        let mut dice = |sides| dice(&mut state, sides);
        let pads = ["", &"p".repeat(20), &"p".repeat(64)];
        for _ in 0..600 {
            let pad = pads[dice(3) as usize];
            for _ in 0..dice(30) {
                let name = ["up", "is", "requests"][dice(3) as usize];
                let mut letter = || ["x", "y"][dice(8) as usize / 7];
                // Next to each seam, on either side: values that differ in the first and the last byte, and across it.
                let all = [
                    ("b", pad),
                    ("m", letter()),
                    ("mf", letter()),
                    ("mo", letter()),
                    ("mp", letter()),
                    ("st", letter()),
                    ("su", letter()),
                    ("z", letter()),
                ];
                let first = Some(("A", "upper")).filter(|_| dice(12) == 0);
                let missing = 1 + [50, 2][dice(5) as usize / 4];
                let others = all.into_iter().filter(|_| dice(missing) > 0);
                let labels: Vec<_> = first.into_iter().chain([("__name__", name)]).chain(others).collect();
                let outputs = [0, 1, 2].map(|index| (NAMES[index], dice(2) as f64));
                let outputs = &outputs[..[2, 2, 2, 1, 3][dice(5) as usize]];
                let timestamp = [1_700_000_000_000, 1_700_000_000_001, 0, -1][dice(4) as usize];
                let names = [
                    "m",
                    "n",
                    "twelve-bytes",
                    "twelve_bytes",
                    "more-than-sixteen-x-bytes",
                    "more-than-sixteen-y-bytes",
                ];
                let monitor = names[dice(6) as usize];
                match dice(9) {
                    0 => both.push(&all, outputs, timestamp),
                    _ => both.weave(&labels, [monitor, ["", "rate"][dice(2) as usize]], outputs, timestamp),
                }
            }
            both.check();
        }
    }

    /// A few sources in turn, of which some places change nearly every time.
    #[test]
    fn patterns_of_several_kinds_in_turn_say_what_the_other_builder_says() {
        let (mut both, mut state, mut hits) = (Both::default(), 11, 0);
        let mut dice = |sides| dice(&mut state, sides);
        for _ in 0..250 {
            let kinds = 1 + dice(3) as usize;
            let spans: Vec<_> = (0..1 + dice(5)).map(|_| 1 + dice(9) as usize).collect();
            let (pads, outputs) = ([dice(40), dice(3)], [1, 2, 2, 3, 4, 5][dice(6) as usize]);
            let mut values: Vec<String> = spans.iter().map(|&length| "a".repeat(length)).collect();
            for group in 0..20 + dice(40) as usize {
                for value in &mut values {
                    // Mostly another first and last byte, which a pattern asks for.
                    let letters =
                        [b'a' + dice(26) as u8, b'a' + (group % [26, 1][dice(9) as usize / 8]) as u8];
                    let ends = [0..1, value.len() - 1..value.len()];
                    for (end, letter) in ends.into_iter().zip(letters).filter(|_| dice(12) > 0) {
                        value.replace_range(end, char::from(letter).encode_utf8(&mut [0; 4]));
                    }
                }
                let name = ["up", "is", "requests"][group % kinds];
                let pads = pads.map(|pad| "-".repeat(pad as usize));
                let places = ["a", "c", "m1", "metric_name_", "z"].into_iter();
                let mut labels = vec![("__name__", name), ("b", &pads[0])];
                labels.extend(places.zip(&values).map(|(place, value)| (place, &**value)));
                labels.push(("zz", &pads[1]));
                labels.retain(|(_, value)| !value.is_empty());
                let mut value =
                    |index: usize| [group as f64, 0.0, -0.0, 1.0][(index + dice(12) as usize / 11) % 4];
                let names = NAMES.into_iter().cycle();
                let outputs: Vec<_> =
                    (0..outputs).zip(names).map(|(index, name)| (name, value(index))).collect();
                let timestamp = if dice(20) == 0 { 0 } else { 1_700_000_000_000 };
                both.weave(&labels, ["m", ["", "rate"][group % kinds % 2]], &outputs, timestamp);
                hits += usize::from(both.packed.groups[both.packed.last].pattern.was_taken());
            }
            both.check();
        }
        assert!(hits > 1000, "{hits}");
    }

    #[test]
    fn numbers_that_are_counted_up_are_written_by_a_pattern_wherever_they_stand() {
        for pad in 0..40 {
            let mut both = Both::default();
            let mut hits = 0;
            for number in 0..300 {
                let (instance, pod) =
                    (format!("10.0.0.{:03}:9100", number), format!("pod-{:05}", number / 2));
                let pad = "p".repeat(pad);
                let labels =
                    [("__name__", "up"), ("a", &pad), ("instance", &instance), ("pod", &pod), ("zone", "z")];
                let labels = &labels[..4 + pad.len() % 2];
                // Now and then the first value is the one before, and the second is not.
                let score = f64::from(number / (1 + number / 200)).sqrt();
                let outputs = [(NAMES[0], score), (NAMES[1], f64::from(u8::from(number % 50 > 45)))];
                let timestamp = 1_700_000_000_000 + i64::from(number / 100);
                both.weave(labels, ["m", ""], &outputs, timestamp);
                hits += usize::from(both.packed.groups[both.packed.last].pattern.was_taken());
            }
            assert!(hits > 30, "{hits} of 300 with a label of {pad} bytes");
            both.check();
        }
    }

    #[test]
    fn one_byte_that_differs_is_found_wherever_it_stands() {
        let labels = [
            ("__name__", "requests_total"),
            ("a", "0123456789"),
            ("metric_nbme", "0123456789"),
            ("monitos", "0123456789012345678901234567890123456789"),
            ("z", "0123456789"),
        ];
        for (index, (_, value)) in labels.iter().enumerate() {
            for at in 0..value.len() {
                for monitor in ["m", "n"] {
                    let mut both = Both::default();
                    let mut changed = value.as_bytes().to_vec();
                    changed[at] = b'x';
                    let changed = String::from_utf8(changed).unwrap();
                    let mut others = labels;
                    others[index].1 = &changed;
                    let outputs = [(NAMES[0], 1.0), (NAMES[1], 0.0)];
                    both.weave(&labels, ["m", "rate"], &outputs, 5);
                    both.weave(&others, [monitor, "rate"], &outputs, 5);
                    both.weave(&labels, ["m", "rate"], &outputs, 5);
                    both.check();
                }
            }
        }
    }

    #[test]
    fn what_is_woven_takes_little_where_monitors_and_families_alternate() {
        let mut both = Both::default();
        for number in 0..500 {
            let instance = format!("10.0.0.{}:9100", number % 50 + 10);
            let labels = [
                ("__name__", ["requests_failed", "requests_served"][number / 50 % 2]),
                ("instance", &instance),
                ("job", "kubernetes-pods-checkout"),
                ("namespace", "payments-and-billing"),
            ];
            for monitor in ["first", "other"] {
                let outputs = [(NAMES[0], (number as f64).sqrt()), (NAMES[1], 0.0)];
                both.weave(&labels, [monitor, ""], &outputs, 1_700_000_000_000);
            }
        }
        assert!(both.check() < 40 * 1000);
    }

    #[test]
    fn series_without_a_label_but_the_name_are_written_as_any() {
        let mut both = Both::default();
        for _ in 0..3 {
            both.push(&[], &[(NAMES[0], 1.0), (NAMES[1], 0.0)], 5);
        }
        both.check();
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
