//! Remote-write bodies of fetched samples, in the order of time.

use std::ops::Range;

use super::matrix::Series;
use crate::series::Sample;
use crate::wire::encode::RequestBuilder;
use crate::wire::snappy;

/// How far apart the samples of one body are at most, in milliseconds.
pub const SLICE_MS: i64 = 60_000;
/// Samples of one body at most.
pub const BODY_SAMPLES_MAX: usize = 20_000;
/// Bytes of one body before compression: one sample past so many ends it.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// A remote-write 1.0 request as a sender would post it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body {
    /// Protobuf in block snappy.
    pub bytes: Vec<u8>,
    /// How many samples, at least 1.
    pub samples: usize,
    /// Timestamp of the oldest sample, milliseconds since the Unix epoch.
    pub oldest: i64,
    /// Timestamp of the latest sample.
    pub latest: i64,
}

/// The samples of `part`: one minute after the other, within a minute one series after the other.
pub(super) fn of(series: &[Series], part: &Range<i64>) -> Vec<Body> {
    let mut writer = Writer::default();
    let mut rest: Vec<&[Sample]> = series.iter().map(|series| &*series.samples).collect();
    let mut end = part.start;
    while end < part.end {
        end = end.saturating_add(SLICE_MS).min(part.end);
        for (series, rest) in series.iter().zip(&mut rest) {
            let (now, later) = rest.split_at(rest.partition_point(|sample| sample.timestamp < end));
            *rest = later;
            now.iter().for_each(|sample| writer.push(&series.labels, *sample));
        }
        writer.finish();
    }
    writer.bodies
}

#[derive(Default)]
struct Writer {
    request: RequestBuilder,
    /// Of the request that is being built: the oldest timestamp and the latest.
    times: Option<(i64, i64)>,
    bodies: Vec<Body>,
}

impl Writer {
    fn push(&mut self, labels: &[u8], sample: Sample) {
        let time = sample.timestamp;
        let (oldest, latest) = self.times.unwrap_or((time, time));
        self.times = Some((oldest.min(time), latest.max(time)));
        self.request.push(&[labels], sample);
        if self.request.samples() >= BODY_SAMPLES_MAX || self.request.bytes() >= BODY_BYTES_MAX {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let Some((oldest, latest)) = self.times.take() else { return };
        let samples = self.request.samples();
        let bytes = snappy::compress(&self.request.finish());
        self.bodies.push(Body { bytes, samples, oldest, latest });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::LabelRunBuf;
    use crate::wire::decode::{Limits, Protocol, decode};

    fn series(name: &str, timestamps: impl IntoIterator<Item = i64>) -> Series {
        let labels = [("__name__", name)].into_iter().collect::<LabelRunBuf>().encode().into_vec();
        let samples = timestamps.into_iter().map(|timestamp| Sample { timestamp, value: 1.0 });
        Series { labels, samples: samples.collect() }
    }

    /// The bodies decoded: series and timestamps, a line each.
    fn shown(bodies: &[Body]) -> Vec<String> {
        let show = |body: &Body| {
            let raw = snappy::decompress(&body.bytes, 2 * BODY_BYTES_MAX).expect("a body is snappy");
            let decoded =
                decode(Protocol::V1, raw, &Limits::default(), i64::MAX).expect("a body is a request");
            assert!(decoded.refused.is_empty());
            let times: Vec<_> = decoded.batch.samples().iter().map(|sample| sample.timestamp).collect();
            assert_eq!(times.iter().min().zip(times.iter().max()), Some((&body.oldest, &body.latest)));
            assert_eq!(times.len(), body.samples);
            let series = decoded.batch.iter().map(|it| format!("{}@{}", it.labels, it.samples[0].timestamp));
            series.collect::<Vec<_>>().join(" ")
        };
        bodies.iter().map(show).collect()
    }

    #[test]
    fn minutes_follow_each_other_across_series() {
        let all = [series("a", [0, 30_000, 60_000, 150_000]), series("b", [59_999, 61_000])];
        assert_eq!(shown(&of(&all, &(0..200_000))), ["a@0 a@30000 b@59999", "a@60000 b@61000", "a@150000"]);
        assert_eq!(shown(&of(&all, &(0..0))), [""; 0]);
        assert_eq!(shown(&of(&[], &(0..200_000))), [""; 0]);
    }

    #[test]
    fn the_last_instants_of_time_are_written_too() {
        let all = [series("a", [i64::MAX - 1])];
        assert_eq!(of(&all, &(i64::MAX - 70_000..i64::MAX)).len(), 1);
    }

    #[test]
    fn a_body_ends_at_its_limits() {
        let many = [series("a", 0..45_000)];
        let counts: Vec<_> = of(&many, &(0..60_000)).iter().map(|body| body.samples).collect();
        assert_eq!(counts, [20_000, 20_000, 5_000]);
        let wide = [series(&"x".repeat(1 << 20), 0..9)];
        let counts: Vec<_> = of(&wide, &(0..60_000)).iter().map(|body| body.samples).collect();
        assert_eq!(counts, [4, 4, 1]);
    }
}
