//! Derived samples into remote-write 1.0 requests.
//!
//! Labels are spliced from runs that stand on the wire already, so that building a series is a copy of its
//! bytes. Requests that a receiver refuses are cut into smaller ones here, byte for byte.

use std::ops::Range;

use super::fields::{Field, Fields, Value, push_varint, varint_len};
use crate::series::{LabelRun, Sample, is_stale_marker};

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

/// Builds one remote-write 1.0 request out of spliced label runs.
#[derive(Default, Debug)]
pub struct RequestBuilder {
    raw: Vec<u8>,
    samples: usize,
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
        let value = normalised(sample.value).to_bits();
        let timestamp = sample.timestamp as u64;
        let sample_len = match value {
            0 => 0,
            _ => 9,
        } + match timestamp {
            0 => 0,
            _ => 1 + varint_len(timestamp),
        };
        let labels_len: usize = labels.iter().map(|part| part.len()).sum();
        self.raw.push(SERIES_TAG);
        // A sample is 20 bytes at most: its length is one byte.
        push_varint(&mut self.raw, (labels_len + 2 + sample_len) as u64);
        for part in labels {
            self.raw.extend_from_slice(part);
        }
        self.raw.extend_from_slice(&[SAMPLE_TAG, sample_len as u8]);
        if value != 0 {
            self.raw.push(VALUE_TAG);
            self.raw.extend_from_slice(&value.to_le_bytes());
        }
        if timestamp != 0 {
            self.raw.push(TIMESTAMP_TAG);
            push_varint(&mut self.raw, timestamp);
        }
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

/// Labels of the first series of `raw`, for the log of a culprit, cut at 1 KiB.
///
/// `None` where `raw` is no protobuf or has no series.
pub fn describe_first(raw: &[u8]) -> Option<String> {
    let mut first = None;
    each_series(raw, |_, series| {
        first.get_or_insert(series);
    })?;
    let series = &raw[first?];
    let mut text = LabelRun::from_canonical(leading_labels(series)).to_string();
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
