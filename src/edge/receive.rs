//! Remote write, received: from a request's bytes to a record in the journal and an answer.
//!
//! In this order: what kind of message it is (415), whether there is room for it (503), its body within limits
//! (400, 503), its decompression within the declared size (400, 503), what is in it (400), the journal (503).
//! 204 only when all of it was taken. What is good in a request is taken even if the rest is not, and the
//! answer says so. Never 429, which senders by default take for a permanent no; never 413, which others take
//! for a temporary one.
//!
//! Bodies are decoded on the thread that read them: about a millisecond for the largest that senders send by
//! default. Those that become larger are decoded one after the other, on a thread of their own.

mod body;
mod budget;
mod negotiate;
mod workshop;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, StatusCode};

use body::Unread;
use budget::{Budget, Loan};
use negotiate::Unsupported;
use workshop::Workshop;

use super::clock::unix_ms;
use super::journal::{Full, Journal, Received, Unsettled};
use super::limits::ReceiveLimits;
use super::serve::answer::{self, Answer};
use super::telemetry::{self, Metrics};
use crate::series::Batch;
use crate::wire::decode::{self, Decoded, Limits, Malformed, Protocol, Refused, Written};
use crate::wire::snappy::{self, SnappyError};

const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName =
    HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// Takes remote-write requests into the journal.
#[derive(Debug)]
pub struct Receiver {
    limits: ReceiveLimits,
    wire_limits: Limits,
    budget: Arc<Budget>,
    workshop: Workshop,
    journal: Arc<Journal>,
    metrics: Arc<Metrics>,
}

/// Why a request, or a part of it, was not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error(
        "request of {size} bytes decompressed finds no room in `limits.in_flight_bytes_max` of {max} bytes"
    )]
    NoMemory { size: usize, max: usize },
    #[error(transparent)]
    Snappy(#[from] SnappyError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Full(#[from] Full),
    #[error(transparent)]
    Unsettled(#[from] Unsettled),
    #[error("{0}")]
    Partial(String),
}

/// A body that was read, and when.
struct Arrived {
    body: Bytes,
    unix_ms: i64,
    at: Instant,
}

impl Receiver {
    /// Makes a receiver that appends to `journal`.
    pub fn new(limits: ReceiveLimits, journal: Arc<Journal>, metrics: Arc<Metrics>) -> Self {
        let budget = Budget::new(limits.in_flight_bytes_max, Arc::clone(&metrics));
        let (wire_limits, workshop) = (Limits::default(), Workshop::open());
        Self { limits, wire_limits, budget, workshop, journal, metrics }
    }

    /// Takes one request and answers it.
    pub async fn receive(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        match negotiate::negotiate(&head.headers) {
            Ok(protocol) => self.receive_as(protocol, body).await,
            Err(unsupported) => self.refuse(&unsupported.into()),
        }
    }

    async fn receive_as(&self, protocol: Protocol, body: Incoming) -> Answer {
        let mut written = Written::default();
        let taken = self.take(protocol, body, &mut written).await;
        let answer = match taken {
            Ok(()) => answer::empty(StatusCode::NO_CONTENT),
            Err(refusal) => self.refuse(&refusal),
        };
        with_written(answer, protocol, &written)
    }

    async fn take(&self, protocol: Protocol, body: Incoming, written: &mut Written) -> Result<(), Refusal> {
        body::check_announced(&body, self.limits.body_bytes_max)?;
        self.journal.make_room().await.map_err(Unread::from)?;
        let mut loan = self.budget.open();
        let body = body::read(body, &self.limits, self.budget.max(), &mut loan).await?;
        let arrived = Arrived { body, unix_ms: unix_ms(), at: Instant::now() };
        telemetry::count(&self.metrics.requests_received, "protocol", version(protocol), 1);
        let decoded = self.decode(protocol, &arrived, &mut loan).await?;
        let sequence = match is_to_be_kept(&decoded, &arrived.body) {
            true => Some(self.append(protocol, decoded.batch, arrived)?),
            false => None,
        };
        drop(loan);
        if let Some(sequence) = sequence {
            self.journal.settled(sequence).await?;
        }
        self.account(&decoded.refused, &decoded.written, written)
    }

    async fn decode(
        &self,
        protocol: Protocol,
        arrived: &Arrived,
        loan: &mut Loan,
    ) -> Result<Decoded, Refusal> {
        let max = self.limits.decoded_bytes_max;
        let size = snappy::declared_len(&arrived.body, max)?;
        if !loan.grow_by(size) {
            return Err(Refusal::NoMemory { size, max: self.budget.max() });
        }
        let latest = self.latest(arrived);
        let (body, limits) = (arrived.body.clone(), self.wire_limits.clone());
        let unpack = move |mut room: Batch| {
            snappy::decompress_into(&body, max, room.bytes_mut())?;
            Ok(decode::decode_over(protocol, room, &limits, latest)?)
        };
        match size <= small_max(protocol) {
            true => unpack(self.journal.spare(size)),
            false => self.workshop.run(move || unpack(Batch::default())).await,
        }
    }

    /// Timestamps after this one are not accepted.
    fn latest(&self, arrived: &Arrived) -> i64 {
        arrived.unix_ms.saturating_add(self.limits.future_ms_max)
    }

    fn append(&self, protocol: Protocol, batch: Batch, arrived: Arrived) -> Result<u64, Full> {
        let latest = self.latest(&arrived);
        let received = Received { protocol, body: arrived.body, latest, forward: true };
        let arrival = self.journal.time(arrived.unix_ms, arrived.at);
        self.journal.append_request(arrival, arrived.at, &received, batch)
    }

    /// Counts what was taken and what was not, and says so.
    fn account(&self, refused: &Refused, accepted: &Written, written: &mut Written) -> Result<(), Refusal> {
        self.metrics.samples_received.inc_by(accepted.samples);
        *written = *accepted;
        for (reason, count) in refused.iter() {
            telemetry::count(&self.metrics.samples_refused, "reason", reason, count);
        }
        match refused.message() {
            None => Ok(()),
            Some(first) => Err(Refusal::Partial(explain(first, refused, accepted))),
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        telemetry::count(&self.metrics.requests_refused, "reason", refusal.reason(), 1);
        let answer = answer::error(refusal.status(), &refusal.to_string());
        if refusal.leaves_body_unread() {
            return answer::closing(answer);
        }
        answer
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            // A slow network is no reason to lose data, so it is not a 408.
            Self::Unread(Unread::NoMemory { .. } | Unread::TooSlow { .. } | Unread::JournalFull(_))
            | Self::NoMemory { .. }
            | Self::Full(_)
            | Self::Unsettled(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unread(Unread::TooLarge { .. } | Unread::Incomplete { .. })
            | Self::Snappy(_)
            | Self::Malformed(_)
            | Self::Partial(_) => StatusCode::BAD_REQUEST,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Unsupported(Unsupported::ContentEncoding(_)) => "content_encoding",
            Self::Unsupported(_) => "content_type",
            Self::Unread(Unread::TooLarge { .. }) => "body_too_large",
            Self::Unread(Unread::TooSlow { .. }) => "body_too_slow",
            Self::Unread(Unread::Incomplete { .. }) => "body_incomplete",
            Self::Unread(Unread::NoMemory { .. }) | Self::NoMemory { .. } => "in_flight_bytes_max",
            Self::Snappy(_) => "compression",
            Self::Malformed(_) => "malformed",
            Self::Unread(Unread::JournalFull(full)) | Self::Full(full) => full.reason(),
            Self::Unsettled(_) => "journal_unwritable",
            Self::Partial(_) => "partial",
        }
    }

    fn leaves_body_unread(&self) -> bool {
        matches!(self, Self::Unsupported(_) | Self::Unread(_))
    }
}

/// Whether there is to be a record of a request: something of it was accepted, or all that is in it, and its sender
/// will not come again. Also where engines have no use for it, since it may have to be forwarded.
fn is_to_be_kept(Decoded { batch, written, refused }: &Decoded, body: &[u8]) -> bool {
    let accepted = *written != Written::default() || !batch.metadata().is_empty();
    accepted || (refused.is_empty() && snappy::declared_len(body, usize::MAX).is_ok_and(|size| size > 0))
}

/// What was refused of a request and why, beginning with the `first` case in words.
fn explain(first: &str, refused: &Refused, accepted: &Written) -> String {
    let mut counts = String::new();
    for (reason, tally) in refused.tallies() {
        let (reason, series) = (reason.name(), tally.series);
        counts += &format!("; {reason}: {series} series, {} samples", tally.samples);
        counts += &format!(", {} histograms, {} exemplars", tally.histograms, tally.exemplars);
    }
    let Written { samples, histograms, exemplars } = accepted;
    format!(
        "{first}; refused in all{counts}; accepted: {samples} samples, {histograms} histograms, {exemplars} exemplars",
        counts = counts.trim_start_matches(';'),
    )
}

/// Bytes of a decompressed request that is decoded where it was read.
fn small_max(protocol: Protocol) -> usize {
    match protocol {
        Protocol::V1 => 1 << 20,
        // Its labels may become many times larger.
        Protocol::V2 => 256 << 10,
    }
}

fn version(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::V1 => "1.0",
        Protocol::V2 => "2.0",
    }
}

/// Adds what was written, for 2.0 only: a 1.0 sender that finds these headers takes zeros for losses.
fn with_written(mut answer: Answer, protocol: Protocol, written: &Written) -> Answer {
    if protocol == Protocol::V2 {
        let headers = answer.headers_mut();
        headers.insert(SAMPLES_WRITTEN, HeaderValue::from(written.samples));
        headers.insert(HISTOGRAMS_WRITTEN, HeaderValue::from(written.histograms));
        headers.insert(EXEMPLARS_WRITTEN, HeaderValue::from(written.exemplars));
    }
    answer
}
