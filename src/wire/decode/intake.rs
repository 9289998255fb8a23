//! What is kept while a request is walked: counts, limits and the series at hand.

use std::ops::Range;

use super::histogram::Histogram;
use super::labels::{LabelText, Origin, describe};
use super::{Decoded, LABELS_ABSURD, Limits, Malformed, Protocol, Refusal, Refused, Tally, Written};
use crate::series::{Batch, LabelRun, MetricKind, Sample, Sources};
use crate::wire::fields::{Fields, Span, SyntaxError};

/// Accumulates one request, series by series.
///
/// Invariant: [`begin`](Self::begin) forgets the series before, so that nothing of it reaches the next.
#[derive(Debug)]
pub(super) struct Intake<'l> {
    pub(super) limits: &'l Limits,
    written: Written,
    refused: Refused,
    /// Labels of the series at hand, where they are not taken in place.
    pub(super) labels: Vec<LabelText>,
    latest: i64,
    series_seen: usize,
    samples_seen: usize,
    exemplars_seen: usize,
    metadata_seen: usize,
    canonical_bytes: usize,
    canonical_bytes_max: usize,
    sources: Sources,
    /// Place among them of the series at hand.
    source: Option<u32>,
    /// Samples of the series at hand that are not too far ahead.
    samples: Vec<Sample>,
    content: Content,
}

/// Counts of the series at hand.
#[derive(Clone, Copy, Default, Debug)]
struct Content {
    samples: u64,
    histograms: u64,
    exemplars: u64,
    samples_ahead: u64,
    histograms_ahead: u64,
    histograms_too_long: u64,
    histograms_invalid: u64,
    exemplars_bad: u64,
}

impl<'l> Intake<'l> {
    /// An intake that builds label runs of `room` bytes at most, whatever the limits allow.
    pub(super) fn new(limits: &'l Limits, latest: i64, room: usize) -> Self {
        Self {
            limits,
            latest,
            written: Written::default(),
            refused: Refused::default(),
            labels: Vec::new(),
            series_seen: 0,
            samples_seen: 0,
            exemplars_seen: 0,
            metadata_seen: 0,
            canonical_bytes: 0,
            canonical_bytes_max: limits.canonical_bytes_max.min(room),
            sources: Sources::default(),
            source: None,
            samples: Vec::new(),
            content: Content::default(),
        }
    }

    /// Starts the next series.
    pub(super) fn begin(&mut self) -> Result<(), Malformed> {
        bump(&mut self.series_seen, "series", self.limits.series_max)?;
        self.content = Content::default();
        self.source = None;
        self.samples.clear();
        self.labels.clear();
        Ok(())
    }

    /// Takes the sample at `span`.
    pub(super) fn sample(&mut self, request: &[u8], span: Span, protocol: Protocol) -> Result<(), Malformed> {
        bump(&mut self.samples_seen, "samples", self.limits.samples_max)?;
        let sample = match plain_sample(span.of(request)) {
            Some(sample) => sample,
            None => any_sample(request, span, protocol)?,
        };
        self.content.samples += 1;
        if self.is_in_time(sample) {
            self.samples.push(sample);
        } else {
            self.content.samples_ahead += 1;
        }
        Ok(())
    }

    /// Whether `sample` is not too far ahead.
    pub(super) fn is_in_time(&self, sample: Sample) -> bool {
        sample.timestamp <= self.latest
    }

    /// How many more series of one sample each are within the limits.
    pub(super) fn plain_room(&self) -> usize {
        let series = self.limits.series_max.saturating_sub(self.series_seen);
        series.min(self.limits.samples_max.saturating_sub(self.samples_seen))
    }

    /// Counts `count` accepted series of one sample each, for which there is room.
    pub(super) fn plain_taken(&mut self, count: usize) {
        self.series_seen += count;
        self.samples_seen += count;
        self.written.samples += count as u64;
    }

    /// Takes the histogram at `span`.
    pub(super) fn histogram(
        &mut self,
        request: &[u8],
        span: Span,
        protocol: Protocol,
    ) -> Result<(), Malformed> {
        bump(&mut self.samples_seen, "samples", self.limits.samples_max)?;
        let histogram = Histogram::read(request, span, protocol)?;
        self.content.histograms += 1;
        if !histogram.fits(self.limits) {
            self.content.histograms_too_long += 1;
        } else if histogram.timestamp > self.latest {
            self.content.histograms_ahead += 1;
        } else if !histogram.is_valid() {
            self.content.histograms_invalid += 1;
        }
        Ok(())
    }

    /// Takes an exemplar whose syntax was found good, and its labels too or not.
    pub(super) fn exemplar(&mut self, labels: Result<(), Refusal>) -> Result<(), Malformed> {
        bump(&mut self.exemplars_seen, "exemplars", self.limits.exemplars_max)?;
        self.content.exemplars += 1;
        self.content.exemplars_bad += u64::from(labels.is_err());
        Ok(())
    }

    /// Ends the request where the series at hand has absurdly many labels: `count` so far.
    pub(super) fn labels_counted(&self, count: usize) -> Result<(), Malformed> {
        let max = self.limits.labels_max.saturating_mul(LABELS_ABSURD);
        if count > max { Err(Malformed::AbsurdSeries { max }) } else { Ok(()) }
    }

    /// Counts a metadata entry.
    pub(super) fn metadata(&mut self) -> Result<(), Malformed> {
        bump(&mut self.metadata_seen, "metadata", self.limits.metadata_max)
    }

    /// Counts `length` bytes of a label run that is about to be built.
    pub(super) fn build(&mut self, length: usize) -> Result<(), Malformed> {
        self.canonical_bytes += length;
        match self.canonical_bytes > self.canonical_bytes_max {
            true => Err(Malformed::TooManyLabelBytes { max: self.canonical_bytes_max }),
            false => Ok(()),
        }
    }

    /// Whether the series at hand has neither samples nor histograms.
    pub(super) fn is_empty(&self) -> bool {
        self.content.samples == 0 && self.content.histograms == 0
    }

    /// Remembers which replica the series at hand is from. Its texts were checked to be UTF-8.
    pub(super) fn attribute(&mut self, origin: Option<Origin>, request: &[u8]) -> Result<(), Refusal> {
        let Some(Origin { cluster, replica }) = origin else { return Ok(()) };
        let text = |span: Span| std::str::from_utf8(span.of(request)).map_err(|_| Refusal::InvalidUtf8);
        let place = self.sources.place(text(cluster)?, text(replica)?, self.limits.replicas_max);
        self.source = Some(place.ok_or(Refusal::TooManyReplicas)?);
        Ok(())
    }

    /// Refuses the series at hand with all that it holds.
    pub(super) fn refuse(&mut self, refusal: Refusal, request: &[u8]) {
        let Content { samples, histograms, exemplars, .. } = self.content;
        let tally = Tally { series: 1, samples, histograms, exemplars };
        let (number, labels) = (self.series_seen, &self.labels);
        self.refused.add(refusal, tally, (self.limits, self.latest), || {
            format!("series {number} {}", describe(labels, request))
        });
    }

    /// Accepts the series at hand, whose canonical labels stand at `run` of the batch's bytes.
    pub(super) fn accept(&mut self, batch: &mut Batch, run: Range<usize>, kind: MetricKind) {
        let content = self.content;
        let histograms = |histograms| Tally { histograms, ..Tally::default() };
        let parts = [
            (
                Refusal::TooFarAhead,
                Tally { samples: content.samples_ahead, ..histograms(content.histograms_ahead) },
            ),
            (Refusal::TooManyBuckets, histograms(content.histograms_too_long)),
            (Refusal::HistogramInvalid, histograms(content.histograms_invalid)),
            (Refusal::BadExemplar, Tally { exemplars: content.exemplars_bad, ..Tally::default() }),
        ];
        self.written.samples += content.samples;
        self.written.histograms += content.histograms;
        self.written.exemplars += content.exemplars;
        for (_, tally) in &parts {
            self.written.samples -= tally.samples;
            self.written.histograms -= tally.histograms;
            self.written.exemplars -= tally.exemplars;
        }
        for (refusal, tally) in parts.into_iter().filter(|(_, tally)| *tally != Tally::default()) {
            let labels = &batch.bytes()[run.clone()];
            self.refused.add(refusal, tally, (self.limits, self.latest), || clipped(labels));
        }
        if self.samples.is_empty() {
            return;
        }
        let first = batch.samples().len();
        self.samples.iter().for_each(|sample| batch.push_sample(*sample));
        batch.push_series(run, first, kind, self.source);
    }

    /// Ends the request, whose series are in `batch`.
    pub(super) fn finish(self, mut batch: Batch) -> Decoded {
        batch.set_sources(self.sources);
        Decoded { batch, written: self.written, refused: self.refused }
    }
}

/// Counts one more of `what`.
fn bump(count: &mut usize, what: &'static str, max: usize) -> Result<(), Malformed> {
    *count += 1;
    if *count > max { Err(Malformed::TooMany { what, max }) } else { Ok(()) }
}

/// The sample as nearly every sender writes it: a value unless it is 0, then a timestamp of six bytes (1971 to 2109).
#[inline]
pub(super) fn plain_sample(bytes: &[u8]) -> Option<Sample> {
    let (value, &[0x10, a, b, c, d, e, f]) = bytes.split_last_chunk()? else { return None };
    let value = match *value {
        [0x09, ref value @ ..] => f64::from_le_bytes(value.try_into().ok()?),
        [] => 0.0,
        _ => return None,
    };
    let bytes = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    // All but the last byte go on.
    let is_one = bytes & 0x8080_8080_8080 == 0x0080_8080_8080;
    is_one.then(|| Sample { timestamp: six_sevens(bytes), value })
}

/// The timestamp of the sample read last, with its tag, and what it says: nearly all of a request say the same.
#[derive(Debug)]
pub(super) struct Moment {
    bytes: u64,
    timestamp: i64,
}

impl Default for Moment {
    /// None: the lowest byte of one that was read is zero.
    fn default() -> Self {
        Self { bytes: 1, timestamp: 0 }
    }
}

/// The sample that a series ends with, if it is such a one, and where its tag stands.
#[inline]
pub(super) fn plain_tail(series: &[u8], moment: &mut Moment) -> Option<(usize, Sample)> {
    let last = u64::from_le_bytes(*series.last_chunk()?) & !0xff;
    if last != moment.bytes {
        if last & 0x8080_8080_8080_ff00 != 0x0080_8080_8080_1000 {
            return None;
        }
        *moment = Moment { bytes: last, timestamp: six_sevens(last >> 16) };
    }
    let timestamp = moment.timestamp;
    if let Some(&[0x12, 0x10, 0x09, ref value @ .., _, _, _, _, _, _, _]) = series.last_chunk::<18>() {
        let value = f64::from_le_bytes(*value);
        return Some((series.len() - 18, Sample { timestamp, value }));
    }
    let Some([0x12, 0x07, ..]) = series.last_chunk::<9>() else { return None };
    Some((series.len() - 9, Sample { timestamp, value: 0.0 }))
}

/// The number that the low seven bits of six bytes are, the lowest first.
#[inline]
fn six_sevens(bytes: u64) -> i64 {
    let sevens = bytes & 0x7f7f_7f7f_7f7f;
    // Closed up in pairs.
    let pairs = (sevens & 0x007f_007f_007f) | (sevens & 0x7f00_7f00_7f00) >> 1;
    ((pairs & 0x3fff) | (pairs >> 16 & 0x3fff) << 14 | pairs >> 32 << 28) as i64
}

/// Any other sample. Remote write 2.0 adds a start timestamp, which is read and not used.
fn any_sample(request: &[u8], span: Span, protocol: Protocol) -> Result<Sample, SyntaxError> {
    let mut sample = Sample { timestamp: 0, value: 0.0 };
    let mut fields = Fields::within(request, span);
    while let Some(field) = fields.next_field()? {
        match field.number {
            1 => sample.value = field.double()?,
            2 => sample.timestamp = field.varint()? as i64,
            3 if protocol == Protocol::V2 => drop(field.varint()?),
            _ => {}
        }
    }
    Ok(sample)
}

fn clipped(run: &[u8]) -> String {
    let mut text = LabelRun::from_canonical(run).to_string();
    text.truncate(text.floor_char_boundary(512));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode::RequestBuilder;

    /// Reads a sample of `value` at `timestamp` on both ways.
    fn check(value: f64, timestamp: i64, plain: bool) {
        let mut builder = RequestBuilder::new();
        builder.push(&[], Sample { timestamp, value });
        let request = builder.finish();
        let span = Span { start: 4, end: request.len() as u32 };
        let any = any_sample(&request, span, Protocol::V1).unwrap();
        assert_eq!(any, Sample { timestamp, value });
        assert_eq!(plain_sample(span.of(&request)), plain.then_some(any), "{value} {timestamp}");
        // The sample's tag stands where the labels end, of which there are none.
        let series = Span { start: 2, ..span };
        let mut moments = [Moment::default(), Moment::default()];
        plain_tail(&[0, 0x10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], &mut moments[1]);
        for moment in &mut moments {
            for _ in 0..2 {
                let tail = plain_tail(series.of(&request), moment);
                assert_eq!(tail, plain.then_some((0, any)), "{value} {timestamp}");
            }
        }
    }

    #[test]
    fn zeros_are_no_timestamp_where_none_was_read() {
        let zeros = [&[0x12, 0x10, 0x09][..], &[0; 15]].concat();
        assert_eq!(plain_tail(&zeros, &mut Moment::default()), None);
    }

    #[test]
    fn a_plain_sample_is_what_any_sample_would_be() {
        for value in [0.0, -0.0, 1.5, f64::INFINITY, f64::from_bits(crate::series::STALE_NAN_BITS)] {
            for (timestamp, plain) in [
                (0, false),
                (1, false),
                ((1 << 35) - 1, false),
                (1 << 35, true),
                (1_700_000_000_123, true),
                (0x2aa_aaaa_aaaa, true),
                (0x155_5555_5555, true),
                ((1 << 42) - 1, true),
                (1 << 42, false),
                (-1, false),
                (i64::MIN, false),
            ] {
                check(value, timestamp, plain);
            }
        }
    }
}
