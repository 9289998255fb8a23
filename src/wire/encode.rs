//! Derived samples into remote-write requests: of version 1.0, which another part says in 2.0.
//!
//! Labels are spliced from runs that stand on the wire already, so that building a series is a copy of its
//! bytes. Requests that a receiver refuses are cut into smaller ones here, byte for byte.

mod packed;
mod upgrade;

use std::ops::Range;

use prost::Message;

use super::fields::{Field, Fields, Value, push_varint};
use super::prompb::v1::{MetricMetadata, WriteRequest};
use crate::series::{Batch, LabelRun, Sample, is_stale_marker};
pub use packed::PackedBuilder;
pub use upgrade::upgrade;

/// Tag of a series inside a request: field 1, length-delimited.
const SERIES_TAG: u8 = 0x0a;
/// Tag of a sample inside a series: field 2, length-delimited.
const SAMPLE_TAG: u8 = 0x12;
/// Tag of the value inside a sample: field 1, 64-bit.
const VALUE_TAG: u8 = 0x09;
/// Tag of the timestamp inside a sample: field 2, varint.
const TIMESTAMP_TAG: u8 = 0x10;
/// Number of the field of a request that holds a series.
const SERIES_FIELD: u32 = 1;
/// Number of the field of a series that holds a label.
const LABEL_FIELD: u32 = 1;

/// The NaN that says "no number" and nothing else; Prometheus calls it the normal NaN.
const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Bytes of a description at most, so that a culprit's labels do not flood a log.
const DESCRIPTION_BYTES_MAX: usize = 1024;

/// Bytes of a timestamp and its tag at most.
const TIMESTAMP_BYTES_MAX: usize = 11;
/// Bytes of a series beside its labels at most, with room to write past a timestamp that is shorter than the longest.
const OVERHEAD_BYTES_MAX: usize = 11 + 2 + 9 + TIMESTAMP_BYTES_MAX;

/// Builds remote-write 1.0 requests out of spliced label runs, one after the other.
///
/// About 25 ns for a series. Who wants them compressed, and has several series of the same labels, takes a
/// [`PackedBuilder`].
#[derive(Default, Debug)]
pub struct RequestBuilder {
    raw: Vec<u8>,
    samples: usize,
    /// The last timestamp: samples that are pushed one after the other mostly share it.
    timestamp: EncodedTimestamp,
}

/// A timestamp as it stands on the wire behind its tag; nothing for 0.
#[derive(Clone, Copy, Default, Debug)]
struct EncodedTimestamp {
    timestamp: i64,
    bytes: [u8; TIMESTAMP_BYTES_MAX],
    length: usize,
}

impl EncodedTimestamp {
    fn new(timestamp: i64) -> Self {
        let mut encoded = Self { timestamp, ..Self::default() };
        if timestamp != 0 {
            let mut bytes = vec![TIMESTAMP_TAG];
            push_varint(&mut bytes, timestamp as u64);
            encoded.length = bytes.len();
            encoded.bytes[..bytes.len()].copy_from_slice(&bytes);
        }
        encoded
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl RequestBuilder {
    /// Makes a builder that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a series with one sample. The parts of `labels`, put together, are one canonical run.
    ///
    /// NaNs other than the stale marker become the one NaN that Prometheus uses, since receivers read
    /// meaning into the bits. Costs a copy of the labels.
    pub fn push(&mut self, labels: &[&[u8]], sample: Sample) {
        if self.timestamp.timestamp != sample.timestamp {
            self.timestamp = EncodedTimestamp::new(sample.timestamp);
        }
        let value = normalised(sample.value).to_bits();
        // Zero is what a field has that is not there.
        let value_len = if value == 0 { 0 } else { 9 };
        // 20 at most: the length is one byte.
        let sample_len = value_len + self.timestamp.length;
        let labels_len: usize = labels.iter().map(|part| part.len()).sum();
        self.raw.reserve(labels_len + OVERHEAD_BYTES_MAX);
        self.raw.push(SERIES_TAG);
        push_varint(&mut self.raw, (labels_len + 2 + sample_len) as u64);
        for part in labels {
            self.raw.extend_from_slice(part);
        }
        self.raw.extend_from_slice(&[SAMPLE_TAG, sample_len as u8]);
        if value != 0 {
            self.raw.push(VALUE_TAG);
            self.raw.extend_from_slice(&value.to_le_bytes());
        }
        let end = self.raw.len() + self.timestamp.length;
        // A length known to the compiler makes this two moves and no call.
        self.raw.extend_from_slice(&self.timestamp.bytes);
        self.raw.truncate(end);
        self.samples += 1;
    }

    /// How many samples, and as many series, the request has.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Bytes of the request before compression.
    pub fn bytes(&self) -> usize {
        self.raw.len()
    }

    /// Whether nothing was pushed since the last [`finish`](Self::finish).
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Takes the request, as protobuf, and starts the next one with room for as much.
    pub fn finish(&mut self) -> Vec<u8> {
        let room = Vec::with_capacity(self.raw.len());
        self.samples = 0;
        std::mem::replace(&mut self.raw, room)
    }
}

/// All of `batch` as one remote-write 1.0 request: a series for each sample, then what was said of families.
pub fn request(batch: &Batch) -> Vec<u8> {
    let mut builder = RequestBuilder::new();
    for series in batch.iter() {
        series.samples.iter().for_each(|&sample| builder.push(&[series.labels.as_bytes()], sample));
    }
    let mut raw = builder.finish();
    let metadata = batch.metadata().iter().map(|said| MetricMetadata {
        r#type: i32::from(said.kind.to_wire()),
        metric_family_name: said.family.as_bytes().to_vec(),
        ..MetricMetadata::default()
    });
    let metadata = WriteRequest { metadata: metadata.collect(), ..WriteRequest::default() };
    // Protobuf messages put one after the other are one message.
    raw.extend(metadata.encode_to_vec());
    raw
}

/// How many series the request `raw` has; `None` where it is no protobuf.
pub fn series_count(raw: &[u8]) -> Option<usize> {
    let mut count = 0;
    each_series(raw, |_, _| count += 1)?;
    Some(count)
}

/// The request with those series of `raw` only that stand at `range`, their bytes unchanged.
///
/// `None` where `raw` is no protobuf or `range` reaches beyond its series. Anything in `raw` that is not a
/// series is left out.
pub fn slice(raw: &[u8], range: Range<usize>) -> Option<Vec<u8>> {
    let mut part = Vec::new();
    let mut index = 0;
    each_series(raw, |entry, _| {
        if range.contains(&index) {
            part.extend_from_slice(&raw[entry]);
        }
        index += 1;
    })?;
    (range.start <= range.end && range.end <= index).then_some(part)
}

/// Labels of the first series of `raw`, for the log of a culprit: one line, cut at 1 KiB.
///
/// `None` where `raw` is no protobuf or has no series.
pub fn describe_first(raw: &[u8]) -> Option<String> {
    let mut first = None;
    each_series(raw, |_, series| {
        first.get_or_insert(series);
    })?;
    let series = &raw[first?];
    let text = LabelRun::from_canonical(leading_labels(series)).to_string();
    // Values are escaped; names are whatever the sender wrote.
    let mut text = text.replace(char::is_control, "\u{fffd}");
    text.truncate(text.floor_char_boundary(DESCRIPTION_BYTES_MAX));
    Some(text)
}

/// Hands for each series of `raw` the range of its field and that of its message to `each`.
fn each_series(raw: &[u8], mut each: impl FnMut(Range<usize>, Range<usize>)) -> Option<()> {
    let mut fields = Fields::over(raw).ok()?;
    while let Some(field) = fields.next_field().ok()? {
        if let Field { number: SERIES_FIELD, at, value: Value::Bytes(span) } = field {
            each(at..fields.at(), span.start as usize..span.end as usize);
        }
    }
    Some(())
}

fn leading_labels(series: &[u8]) -> &[u8] {
    let Ok(mut fields) = Fields::over(series) else { return &[] };
    let mut end = 0;
    while let Ok(Some(Field { number: LABEL_FIELD, .. })) = fields.next_field() {
        end = fields.at();
    }
    &series[..end]
}

fn normalised(value: f64) -> f64 {
    if value.is_nan() && !is_stale_marker(value) { f64::from_bits(NORMAL_NAN_BITS) } else { value }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::series::{LabelRunBuf, STALE_NAN_BITS};
    use crate::wire::prompb::v1;

    fn request(names: &[&str]) -> Vec<u8> {
        let mut builder = RequestBuilder::new();
        for name in names {
            let run = [("__name__", *name), ("job", "api")].into_iter().collect::<LabelRunBuf>().encode();
            builder.push(&[&run], Sample { timestamp: 1, value: 2.0 });
        }
        builder.finish()
    }

    #[test]
    fn a_spliced_series_is_what_prost_encodes() {
        let run =
            [("__name__", "up"), ("long", &*"x".repeat(300))].into_iter().collect::<LabelRunBuf>().encode();
        for (value, timestamp) in [(1.5, 1_700_000_000_000), (0.0, 0), (f64::INFINITY, -1), (1.0, i64::MAX)] {
            let mut builder = RequestBuilder::new();
            builder.push(&[&run[..7], &[], &run[7..]], Sample { timestamp, value });
            let label = |name: &str, value: &str| v1::Label { name: name.into(), value: value.into() };
            let series = v1::TimeSeries {
                labels: vec![label("__name__", "up"), label("long", &"x".repeat(300))],
                samples: vec![v1::Sample { value, timestamp }],
                ..Default::default()
            };
            let expected = v1::WriteRequest { timeseries: vec![series], metadata: vec![] }.encode_to_vec();
            assert_eq!(builder.finish(), expected, "{value} {timestamp}");
        }
    }

    #[test]
    fn only_the_stale_marker_keeps_its_nan() {
        let check = |bits: u64, expected: u64| {
            let mut builder = RequestBuilder::new();
            builder.push(&[], Sample { timestamp: 1, value: f64::from_bits(bits) });
            let request = v1::WriteRequest::decode(&builder.finish()[..]).unwrap();
            assert_eq!(request.timeseries[0].samples[0].value.to_bits(), expected);
        };
        check(STALE_NAN_BITS, STALE_NAN_BITS);
        check(STALE_NAN_BITS + 1, NORMAL_NAN_BITS);
        check(u64::MAX, NORMAL_NAN_BITS);
        check(NORMAL_NAN_BITS, NORMAL_NAN_BITS);
        check(f64::INFINITY.to_bits(), f64::INFINITY.to_bits());
        check((-0.0_f64).to_bits(), (-0.0_f64).to_bits());
    }

    #[test]
    fn a_finished_builder_starts_anew() {
        let mut builder = RequestBuilder::new();
        assert!(builder.is_empty());
        builder.push(&[], Sample { timestamp: 1, value: 1.0 });
        assert_eq!((builder.samples(), builder.is_empty()), (1, false));
        assert_eq!(builder.bytes(), builder.finish().len());
        assert_eq!((builder.samples(), builder.bytes(), builder.is_empty()), (0, 0, true));
    }

    #[test]
    fn halves_put_together_are_the_whole() {
        let names = ["a", "b", "c", "d", "e"];
        let whole = request(&names);
        assert_eq!(series_count(&whole), Some(5));
        for middle in 0..=5 {
            let (left, right) = (slice(&whole, 0..middle).unwrap(), slice(&whole, middle..5).unwrap());
            assert_eq!(series_count(&left), Some(middle));
            assert_eq!([left, right].concat(), whole);
        }
        assert_eq!(slice(&whole, 2..3), Some(request(&["c"])));
    }

    #[test]
    fn slices_beyond_the_series_and_of_no_protobuf_are_none() {
        let whole = request(&["a", "b"]);
        assert_eq!(slice(&whole, 1..3), None);
        assert_eq!(slice(&whole, Range { start: 2, end: 1 }), None);
        assert_eq!(slice(&whole[1..], 0..1), None);
        assert_eq!(series_count(&whole[..whole.len() - 1]), None);
    }

    #[test]
    fn the_first_series_is_described_by_its_labels() {
        assert_eq!(describe_first(&request(&["up", "down"])).as_deref(), Some(r#"up{job="api"}"#));
        assert_eq!(describe_first(&request(&[&"é".repeat(3000)])).map(|text| text.len()), Some(1024));
        assert_eq!(
            describe_first(&request(&["a\nb\u{1b}"])).as_deref(),
            Some("a\u{fffd}b\u{fffd}{job=\"api\"}")
        );
        assert_eq!(describe_first(&[]), None);
        assert_eq!(describe_first(b"garbage"), None);
        assert_eq!(describe_first(b"\x0a\x02\x0a\xff"), Some(String::new())); // A series that is no series.
    }
}
