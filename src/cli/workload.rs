//! Load made up for measuring: series as Prometheus has them, and requests with a sample of each.
//!
//! Values are gauges around 100 with two decimals, other ones at every step, the same in every run.

use prost::Message;

use crate::series::{LabelRunBuf, Sample};
use crate::wire::decode::Protocol;
use crate::wire::encode::RequestBuilder;
use crate::wire::prompb::v2;
use crate::wire::snappy;

/// Milliseconds between two samples of a series.
pub const STEP_MS: i64 = 15_000;

/// Bytes of a sample at the end of its series: a tag and a value, a tag and a timestamp.
const SAMPLE_BYTES: usize = 16;
/// Bytes of a timestamp in milliseconds since 1971 or later, as varint; for the next 160 years it stays so long.
const TIMESTAMP_BYTES: usize = 6;
/// From and up to where a timestamp has so many bytes, Unix milliseconds.
const TIMESTAMPS: std::ops::Range<i64> = 1 << 35..1 << 42;

/// Tags of a sample in a series, of its value and of its timestamp; the same in both versions.
const SAMPLE_TAG: u8 = 0x12;
const VALUE_TAG: u8 = 0x09;
const TIMESTAMP_TAG: u8 = 0x10;
/// Tag of a series in a request of version 2.0.
const SERIES_TAG_V2: u8 = 0x2a;

/// What the labels of the load are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Shape {
    /// Ten labels of 320 bytes, in every series as long as in the one before, of which it differs in two.
    Alike,
    /// As a scrape brings them: family after family of one target, then of the next, with six to eight labels of many
    /// lengths, about 235 bytes.
    Mixed,
}

/// Labels that tell the series of a family apart, and their values.
type Distinct = [(&'static str, &'static [&'static str])];

/// What each target of a mixed load exposes: families, and what tells their series apart.
const FAMILIES: [(&str, &Distinct); 7] = [
    ("go_goroutines", &[]),
    ("process_resident_memory_bytes", &[]),
    (
        "http_request_duration_seconds_last",
        &[
            ("method", &["GET", "POST"]),
            ("path", &["/", "/login", "/api/v1/orders", "/api/v1/orders/:id", "/healthz", "/api/v2/search"]),
        ],
    ),
    ("queue_length", &[("queue", &["default", "mail", "payments-retry"])]),
    ("pool_connections_in_use", &[("database", &["orders", "users"])]),
    ("cache_hit_ratio", &[("cache", &["session", "page", "fragment", "dns"]), ("tier", &["l1", "shared"])]),
    (
        "jvm_memory_used_bytes",
        &[("area", &["heap", "nonheap"]), ("id", &["Eden Space", "Old Gen", "Metaspace"])],
    ),
];

impl Shape {
    /// Label runs of `count` series.
    pub fn runs(self, count: usize) -> Vec<Box<[u8]>> {
        (0..count).map(|number| self.run(number)).collect()
    }

    fn run(self, number: usize) -> Box<[u8]> {
        let labels = self.labels(number);
        let labels: LabelRunBuf = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        labels.encode()
    }

    /// The labels of the series `number`, in order.
    fn labels(self, number: usize) -> Vec<(&'static str, String)> {
        match self {
            Self::Alike => alike(number).into(),
            Self::Mixed => mixed(number),
        }
    }
}

fn alike(number: usize) -> [(&'static str, String); 10] {
    [
        ("__name__", "http_server_request_duration_seconds_last".to_owned()),
        ("cluster", "production-eu-west-1".to_owned()),
        ("container", "checkout-service".to_owned()),
        ("endpoint", "http-metrics".to_owned()),
        ("instance", format!("10.0.{}.{}:9100", number / 250 % 250, number % 250)),
        ("job", "kubernetes-pods-checkout".to_owned()),
        ("method", "POST".to_owned()),
        ("namespace", "payments-and-billing".to_owned()),
        ("pod", format!("checkout-service-7d9f8b6c5d-{number:06}")),
        ("status", "200".to_owned()),
    ]
}

fn mixed(number: usize) -> Vec<(&'static str, String)> {
    let sizes =
        FAMILIES.map(|(_, distinct)| distinct.iter().map(|(_, values)| values.len()).product::<usize>());
    let each: usize = sizes.iter().sum();
    let (target, mut index) = (number / each, number % each);
    let mut family = 0;
    while index >= sizes[family] {
        index -= sizes[family];
        family += 1;
    }
    let (name, distinct) = FAMILIES[family];
    let mut labels = vec![
        ("__name__", name.to_owned()),
        ("cluster", "production-eu-west-1".to_owned()),
        ("instance", format!("10.{}.{}.{}:9100", target / 62_500, target / 250 % 250, target % 250)),
        ("job", "kubernetes-pods-checkout".to_owned()),
        ("namespace", "payments-and-billing".to_owned()),
        ("pod", format!("checkout-service-7d9f8b6c5d-{target}")),
    ];
    for (name, values) in distinct.iter().rev() {
        labels.push((name, values[index % values.len()].to_owned()));
        index /= values.len();
    }
    labels.sort();
    labels
}

/// The value of the series `number` at `step`: never 0.
fn value(number: usize, step: i64) -> f64 {
    let noise = (number as i64).wrapping_mul(2_654_435_761) ^ step.wrapping_mul(40_503);
    100.0 + noise.rem_euclid(1000) as f64 / 100.0
}

/// The compressed requests of one step, stamped `timestamp`, Unix milliseconds, each of so many series.
pub fn bodies(runs: &[Box<[u8]>], per_request: usize, step: i64, timestamp: i64) -> Vec<Vec<u8>> {
    let request = |(chunk, series): (usize, &[Box<[u8]>])| {
        let mut builder = RequestBuilder::new();
        for (index, run) in series.iter().enumerate() {
            let value = value(chunk * per_request + index, step);
            builder.push(&[run], Sample { timestamp, value });
        }
        snappy::compress(&builder.finish())
    };
    runs.chunks(per_request).enumerate().map(request).collect()
}

/// A request, uncompressed, whose samples are written anew for each step: that costs some nanoseconds a sample.
///
/// Invariant: in front of each of `ends`, the last bytes of a series are a sample of `SAMPLE_BYTES`.
#[derive(Clone, Debug)]
pub struct Template {
    raw: Vec<u8>,
    ends: Vec<usize>,
    first: usize,
}

impl Template {
    /// A request of `count` series, from the series `first` on.
    pub fn new(shape: Shape, protocol: Protocol, first: usize, count: usize) -> Self {
        let series = first..first + count;
        let (raw, ends) = match protocol {
            Protocol::V1 => raw_v1(shape, series),
            Protocol::V2 => raw_v2(shape, series),
        };
        Self { raw, ends, first }
    }

    /// How many samples it has: one of each series.
    pub fn samples(&self) -> usize {
        self.ends.len()
    }

    /// Writes the samples of `step`, stamped `timestamp`, and compresses the request.
    ///
    /// # Panics
    /// Where a timestamp, Unix milliseconds, is not after 1971 or not before 2109.
    pub fn body(&mut self, step: i64, timestamp: i64) -> Vec<u8> {
        assert!(TIMESTAMPS.contains(&timestamp), "a timestamp has {TIMESTAMP_BYTES} bytes");
        let timestamp = varint(timestamp);
        for (index, &end) in self.ends.iter().enumerate() {
            let sample = &mut self.raw[end - SAMPLE_BYTES..end];
            sample[1..9].copy_from_slice(&value(self.first + index, step).to_le_bytes());
            sample[10..].copy_from_slice(&timestamp);
        }
        snappy::compress(&self.raw)
    }
}

fn varint(timestamp: i64) -> [u8; TIMESTAMP_BYTES] {
    let byte = |at: usize| {
        let more = if at + 1 < TIMESTAMP_BYTES { 0x80 } else { 0 };
        (timestamp >> (7 * at)) as u8 & 0x7f | more
    };
    std::array::from_fn(byte)
}

/// The sample of a fresh template.
fn blank() -> Sample {
    Sample { timestamp: TIMESTAMPS.start, value: 1.0 }
}

fn raw_v1(shape: Shape, series: std::ops::Range<usize>) -> (Vec<u8>, Vec<usize>) {
    let mut builder = RequestBuilder::new();
    let mut push = |number| {
        builder.push(&[&shape.run(number)], blank());
        builder.bytes()
    };
    let ends = series.map(&mut push).collect();
    (builder.finish(), ends)
}

fn raw_v2(shape: Shape, series: std::ops::Range<usize>) -> (Vec<u8>, Vec<usize>) {
    let mut symbols = Symbols::default();
    let timeseries: Vec<_> = series.map(|number| series_v2(&mut symbols, &shape.labels(number))).collect();
    let mut raw = v2::Request { symbols: symbols.list, ..v2::Request::default() }.encode_to_vec();
    let mut push = |series: Vec<u8>| {
        raw.push(SERIES_TAG_V2);
        prost::encode_length_delimiter(series.len(), &mut raw).expect("a vector grows");
        raw.extend(series);
        raw.len()
    };
    let ends = timeseries.into_iter().map(&mut push).collect();
    (raw, ends)
}

fn series_v2(symbols: &mut Symbols, labels: &[(&'static str, String)]) -> Vec<u8> {
    let texts = labels.iter().flat_map(|(name, value)| [*name, value.as_str()]);
    let labels_refs = texts.map(|text| symbols.reference(text)).collect();
    let mut series = v2::TimeSeries { labels_refs, ..v2::TimeSeries::default() }.encode_to_vec();
    series.extend([SAMPLE_TAG, SAMPLE_BYTES as u8, VALUE_TAG]);
    series.extend(blank().value.to_le_bytes());
    series.push(TIMESTAMP_TAG);
    series.extend(varint(blank().timestamp));
    series
}

/// The table of a request of version 2.0. Its first symbol is empty, as the specification demands.
struct Symbols {
    list: Vec<Vec<u8>>,
    known: std::collections::HashMap<String, u32>,
}

impl Default for Symbols {
    fn default() -> Self {
        Self { list: vec![Vec::new()], known: std::collections::HashMap::new() }
    }
}

impl Symbols {
    fn reference(&mut self, text: &str) -> u32 {
        if let Some(&known) = self.known.get(text) {
            return known;
        }
        let new = self.list.len() as u32;
        self.list.push(text.into());
        self.known.insert(text.to_owned(), new);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::decode::{Limits, decode};

    #[test]
    fn a_template_of_either_version_is_the_same_load_at_every_step() {
        let versions = [Protocol::V1, Protocol::V2];
        for (shape, protocol) in
            [Shape::Alike, Shape::Mixed].into_iter().flat_map(|shape| versions.map(|it| (shape, it)))
        {
            let mut template = Template::new(shape, protocol, 7, 5);
            for step in [0, 1, 1000] {
                let timestamp = 1_700_000_000_000 + step * STEP_MS;
                let raw = snappy::decompress(&template.body(step, timestamp), 1 << 20).unwrap();
                let decoded = decode(protocol, raw, &Limits::default(), i64::MAX).unwrap();
                assert_eq!(decoded.written.samples, 5);
                for (number, series) in (7..).zip(decoded.batch.iter()) {
                    assert_eq!(series.labels.as_bytes(), &*shape.run(number), "{shape:?} {protocol:?}");
                    assert_eq!(series.samples, [Sample { timestamp, value: value(number, step) }]);
                }
            }
        }
    }

    #[test]
    fn the_bodies_of_a_step_are_those_of_templates() {
        let timestamp = 1_700_000_000_000;
        let bodies = bodies(&Shape::Alike.runs(5), 3, 9, timestamp);
        let templates = [(0, 3), (3, 2)].map(|(first, count)| {
            let mut template = Template::new(Shape::Alike, Protocol::V1, first, count);
            template.body(9, timestamp)
        });
        assert_eq!(bodies, templates);
    }

    #[test]
    fn mixed_series_are_different_ones_of_many_lengths() {
        let runs = Shape::Mixed.runs(10_000);
        let distinct: std::collections::BTreeSet<_> = runs.iter().collect();
        let lengths: std::collections::BTreeSet<_> = runs.iter().map(|run| run.len()).collect();
        assert_eq!((runs.len(), distinct.len()), (10_000, 10_000));
        assert!(lengths.len() > 40, "{lengths:?}");
        let mean = runs.iter().map(|run| run.len()).sum::<usize>() / runs.len();
        assert!((225..245).contains(&mean), "{mean}");
    }

    #[test]
    fn a_series_has_ten_labels_of_more_than_300_bytes() {
        let run = Shape::Alike.run(123_456);
        assert!((300..350).contains(&run.len()), "{}", run.len());
    }
}
