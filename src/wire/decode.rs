//! Remote-write requests into batches.
//!
//! The request is walked once, borrowing: hop from field to field, check, hash. Labels that stand in the
//! request as a canonical run stay there; others are made canonical behind it, so that equal label sets have
//! equal hashes whatever sender and protocol brought them. Bounded in counts as well as in bytes: 16 MiB
//! of empty series end at the first one over the limit.
//!
//! What is wrong with one series or sample costs that one and is tallied; what is wrong with the request
//! costs the request. Judgement follows what Prometheus does with remote write 2.0, for 1.0 too, where
//! Prometheus itself drops bad series without a word.
//!
//! A label `__replica__` is taken out of its series, so that all replicas of a pair send the same series; which
//! of them it was, the batch knows.

mod form;
mod histogram;
mod intake;
mod labels;
mod refused;
mod run;
mod v1;
mod v2;

pub use refused::{Refusal, Refused, Tally};

use super::fields::SyntaxError;
use crate::series::Batch;

/// The message that a request holds, as its content type says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// `prometheus.WriteRequest` of remote write 1.0.
    V1,
    /// `io.prometheus.write.v2.Request` of remote write 2.0.
    V2,
}

/// How many times [`Limits::labels_max`] the labels of one series are an attack and not a mistake.
pub const LABELS_ABSURD: usize = 25;

/// What one request may hold. Who breaks a limit of the request is refused whole; who breaks one of a
/// series or a histogram loses that one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Series of a request. Prometheus sends 2,000 at most, vmagent 10,000.
    pub series_max: usize,
    /// Samples of a request, floats and histograms together.
    pub samples_max: usize,
    /// Symbols of a request of remote write 2.0.
    pub symbols_max: usize,
    /// Exemplars of a request.
    pub exemplars_max: usize,
    /// Metadata entries of a request of remote write 1.0. Prometheus sends 2,000 at most.
    pub metadata_max: usize,
    /// Bytes of label runs that a request may have built because it did not bring them in canonical form,
    /// which in remote write 2.0 is all of them. Bounds what references to long symbols cost; there, runs may
    /// also come to no more than 16 times the request, or to 4 MiB where that is more, or to 16 MiB at most.
    pub canonical_bytes_max: usize,
    /// Entries of each list of a histogram: buckets, spans, custom bounds. More refuse the histogram.
    pub histogram_buckets_max: usize,
    /// Labels of a series as sent, empty ones included. More refuse the series; more than
    /// [`LABELS_ABSURD`] times as many refuse the request, since reading on would only cost time.
    pub labels_max: usize,
    /// Bytes of a label's name. More refuse the series.
    pub name_bytes_max: usize,
    /// Bytes of a label's value. More refuse the series.
    pub value_bytes_max: usize,
    /// Bytes of a series' canonical label run, tags and lengths included. More refuse the series. A label
    /// `__replica__` does not count, since it is taken out.
    pub label_bytes_max: usize,
    /// Distinct pairs of `cluster` and `__replica__` of a request. Further ones lose their series.
    pub replicas_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series_max: 50_000,
            samples_max: 500_000,
            symbols_max: 200_000,
            exemplars_max: 10_000,
            metadata_max: 10_000,
            canonical_bytes_max: 32 << 20,
            histogram_buckets_max: 1_000,
            labels_max: 40,
            name_bytes_max: 256,
            value_bytes_max: 4096,
            label_bytes_max: 16 << 10,
            replicas_max: 1_000,
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub struct Decoded {
    /// What was accepted: series with at least one float sample.
    pub batch: Batch,
    /// How much was accepted.
    pub written: Written,
    /// What was not.
    pub refused: Refused,
}

/// Counts of what was accepted, for the `X-Prometheus-Remote-Write-*-Written` headers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Written {
    /// Float samples.
    pub samples: u64,
    /// Native histograms. Checked and counted, but not in the batch.
    pub histograms: u64,
    /// Exemplars. Checked and counted, but not in the batch.
    pub exemplars: u64,
}

/// Why a whole request is refused.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Not protobuf, or not of the schema.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// More of something than one request may have.
    #[error("request has more {what} than `{what}_max` of {max}; send smaller requests")]
    TooMany {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A series with absurdly many labels.
    #[error("request has a series of more than {max} labels, {LABELS_ABSURD} times `labels_max`")]
    AbsurdSeries {
        /// The limit, [`LABELS_ABSURD`] times [`Limits::labels_max`].
        max: usize,
    },
    /// Label runs that would have to be built exceed what is built for one request.
    #[error(
        "labels of the request expand beyond `canonical_bytes_max` of {max} bytes; send smaller requests"
    )]
    TooManyLabelBytes {
        /// The limit.
        max: usize,
    },
}

/// Reads `raw`, a decompressed request. Samples later than `latest`, in milliseconds since the epoch, are
/// refused.
///
/// Unknown fields are skipped. A series of remote write 1.0 that has neither samples nor histograms
/// is accepted, contributes nothing, and its labels are not judged. Metadata with a name that is empty or
/// not UTF-8 says nothing and is left out.
///
/// Costs 48 bytes of memory per series and 16 per sample beside `raw`, and in remote write 2.0 the label runs,
/// for which up to four times the bytes of `raw` are reserved within `canonical_bytes_max`; nothing is allocated per series. A request of 4 GiB
/// or more is refused, and label runs are built up to 4 GiB, whatever the limits.
///
/// # Errors
/// [`Malformed`]; then nothing of the request is kept.
pub fn decode(protocol: Protocol, raw: Vec<u8>, limits: &Limits, latest: i64) -> Result<Decoded, Malformed> {
    decode_over(protocol, Batch::over(raw), limits, latest)
}

/// The same with the request in the buffer of `room`, a batch without series, whose room is used for what is decoded.
///
/// # Errors
/// As [`decode`].
pub fn decode_over(
    protocol: Protocol,
    room: Batch,
    limits: &Limits,
    latest: i64,
) -> Result<Decoded, Malformed> {
    match protocol {
        Protocol::V1 => v1::decode(room, limits, latest),
        Protocol::V2 => v2::decode(room, limits, latest),
    }
}
