//! Everything that one request brought, in flat arrays.
//!
//! Labels are ranges of one buffer and samples one vector, so that a request of any size costs a handful
//! of allocations and a series 48 bytes.

use std::ops::Range;

use super::{LabelRun, MetricKind, Sample, SeriesHash, Source, Sources};

/// One request, decoded and checked.
#[derive(Default, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    series: Vec<Entry>,
    samples: Vec<Sample>,
    metadata: Vec<FamilyMetadata>,
    sources: Sources,
}

/// What a request said about a metric family (remote write 1.0 sends it apart from samples).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FamilyMetadata {
    /// Name of the family: `http_requests` or `http_requests_total`, as the sender has it.
    pub family: Box<str>,
    /// Its type.
    pub kind: MetricKind,
}

/// One series of a batch, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Identity.
    pub hash: SeriesHash,
    /// Canonical labels.
    pub labels: LabelRun<'a>,
    /// In the order of the request, which may not be the order of time.
    pub samples: &'a [Sample],
    /// Type by remote write 2.0 metadata; unknown in 1.0.
    pub kind: MetricKind,
    /// Place in [`Batch::sources`]; `None` where no replica of a pair sent it.
    pub source: Option<u32>,
}

#[derive(Debug)]
struct Entry {
    hash: SeriesHash,
    labels: Range<u32>,
    samples: Range<u32>,
    kind: MetricKind,
    source: Option<u32>,
}

impl Batch {
    /// Makes an empty batch whose labels will be ranges of `bytes`.
    pub fn over(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Empties it for another request, and keeps the room that it has. What stands in the buffer stays there, to be
    /// overwritten: room that is cut off would have to be zeroed before it is used again.
    pub fn recycle(&mut self) {
        self.series.clear();
        self.samples.clear();
        self.metadata.clear();
        self.sources = Sources::default();
    }

    /// The buffer that labels are ranges of.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, to append label runs to.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Makes room for so many more series with one sample each: 64 bytes for each of them.
    pub fn reserve(&mut self, series: usize) {
        self.series.reserve(series);
        self.samples.reserve(series);
    }

    /// Adds a series whose canonical labels stand at `labels` and whose samples are those pushed since
    /// `first_sample`. `source` is a place in the sources that the batch has or is given later.
    pub fn push_series(
        &mut self,
        labels: Range<usize>,
        first_sample: usize,
        kind: MetricKind,
        source: Option<u32>,
    ) {
        let hash = SeriesHash::of(LabelRun::from_canonical(&self.bytes[labels.clone()]));
        self.series.push(Entry {
            hash,
            labels: labels.start as u32..labels.end as u32,
            samples: first_sample as u32..self.samples.len() as u32,
            kind,
            source,
        });
    }

    /// Adds a series with one sample that no replica sent, whose canonical labels stand at `labels` and have this hash.
    #[inline]
    pub fn push_hashed(&mut self, labels: Range<usize>, hash: SeriesHash, sample: Sample) {
        let first = self.samples.len() as u32;
        self.samples.push(sample);
        self.series.push(Entry {
            hash,
            labels: labels.start as u32..labels.end as u32,
            samples: first..first + 1,
            kind: MetricKind::Unknown,
            source: None,
        });
    }

    /// Adds a series of one's own making, which no replica sent.
    pub fn push(&mut self, labels: LabelRun<'_>, kind: MetricKind, samples: &[Sample]) {
        let (start, first) = (self.bytes.len(), self.samples.len());
        self.bytes.extend_from_slice(labels.as_bytes());
        self.samples.extend_from_slice(samples);
        self.push_series(start..self.bytes.len(), first, kind, None);
    }

    /// Adds a sample to the series that will be pushed next.
    pub fn push_sample(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Drops the samples that were pushed after the first `count`: those of a series that is refused.
    pub fn truncate_samples(&mut self, count: usize) {
        self.samples.truncate(count);
    }

    /// Sets the sources that series name by their place.
    pub fn set_sources(&mut self, sources: Sources) {
        self.sources = sources;
    }

    /// Adds what was said about a family.
    pub fn push_metadata(&mut self, metadata: FamilyMetadata) {
        self.metadata.push(metadata);
    }

    /// All series, in the order of the request.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Series<'_>> {
        self.series.iter().map(|entry| self.borrow(entry))
    }

    /// Identities of all series, in the order of the request: for whoever wants few of these.
    pub fn hashes(&self) -> impl ExactSizeIterator<Item = SeriesHash> {
        self.series.iter().map(|entry| entry.hash)
    }

    /// The series at `place`, which is below [`Self::series_count`].
    #[inline]
    pub fn at(&self, place: usize) -> Series<'_> {
        self.borrow(&self.series[place])
    }

    /// The labels of the series at `place`, which is below [`Self::series_count`].
    #[inline]
    pub fn labels_at(&self, place: usize) -> LabelRun<'_> {
        self.labels_of(&self.series[place])
    }

    #[inline]
    fn borrow(&self, entry: &Entry) -> Series<'_> {
        Series {
            hash: entry.hash,
            labels: self.labels_of(entry),
            samples: &self.samples[entry.samples.start as usize..entry.samples.end as usize],
            kind: entry.kind,
            source: entry.source,
        }
    }

    #[inline]
    fn labels_of(&self, entry: &Entry) -> LabelRun<'_> {
        LabelRun::from_canonical(&self.bytes[entry.labels.start as usize..entry.labels.end as usize])
    }

    /// How many series there are.
    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// All samples of all series.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The replicas that sent series, each once. Empty where none was named.
    pub fn sources(&self) -> &[Source] {
        self.sources.as_slice()
    }

    /// What the request said about families.
    pub fn metadata(&self) -> &[FamilyMetadata] {
        &self.metadata
    }

    /// Bytes that the batch holds in memory.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.series.capacity() * size_of::<Entry>()
            + self.samples.capacity() * size_of::<Sample>()
            + self.metadata.capacity() * size_of::<FamilyMetadata>()
            + self.sources.heap_bytes()
            + self.metadata.iter().map(|said| said.family.len()).sum::<usize>()
    }
}
