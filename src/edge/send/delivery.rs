//! One request on its way to one target, whole or in parts.
//!
//! Most requests are taken whole and never looked into. The first failure opens the request, to be able to
//! cut it; that costs a decompression, once.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::Outgoing;
use super::bisect::{Bisect, Sequel, Step};
use super::outcome::{Blame, Outcome, is_about_content};
use crate::wire::prompb::v1::WriteRequest;
use crate::wire::{encode, snappy};

/// Bytes that an opened request may have. Ours are far smaller; one that is not is sent and dropped whole.
pub(super) const RAW_BYTES_MAX: usize = 256 << 20;

/// What to do next for a request.
#[derive(Debug)]
pub(super) enum Next {
    /// Post this, and report how it was taken.
    Send(Part),
    /// Find out whether the target takes another request, and report by `witnessed`.
    AskAnother,
    /// Nothing: each sample was taken or dropped.
    Done,
}

/// A request or a part of it, ready to be posted.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The same bytes on every retry.
    pub(super) body: Bytes,
    /// Samples in it.
    pub(super) samples: usize,
}

/// What an answer leads to.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Go on at once.
    GoOn,
    /// Go on after a pause.
    Wait,
    /// Some samples were given up. Go on at once.
    Lost(Loss),
}

/// Samples given up, because the target will not take them.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Loss {
    /// How many.
    pub(super) samples: usize,
    /// Value of the label `reason`.
    pub(super) reason: &'static str,
    /// Labels of the first, or empty where they cannot be read.
    pub(super) labels: String,
}

/// A request that is being sent.
#[derive(Debug)]
pub(super) struct Delivery {
    request: Arc<Outgoing>,
    /// Whether it was taken without having been looked into.
    taken: bool,
    opened: Option<Opened>,
}

/// A request that was looked into.
#[derive(Debug)]
struct Opened {
    /// Decompressed; empty where that was not possible, and then the request counts as one series.
    raw: Vec<u8>,
    series: usize,
    bisect: Bisect,
    /// The part that was sent last, to be sent again as it was.
    current: Option<(Range<usize>, Part)>,
}

impl Delivery {
    /// Starts with the whole of `request`.
    pub(super) fn new(request: Arc<Outgoing>) -> Self {
        Self { request, taken: false, opened: None }
    }

    /// When its newest sample was, milliseconds.
    pub(super) fn newest(&self) -> i64 {
        self.request.newest
    }

    /// The request, where the target took all of it at once.
    pub(super) fn taken_whole(&self) -> Option<Arc<Outgoing>> {
        self.taken.then(|| Arc::clone(&self.request))
    }

    /// What to do now.
    pub(super) fn next(&mut self) -> Next {
        let Some(opened) = &mut self.opened else {
            return if self.taken { Next::Done } else { Next::Send(whole(&self.request)) };
        };
        match opened.bisect.step() {
            Step::Send(range) => Next::Send(opened.part(range, &self.request)),
            Step::AskAnother => Next::AskAnother,
            Step::Done => Next::Done,
        }
    }

    /// Reports how the part that `next` named was taken.
    pub(super) fn answered(&mut self, outcome: Outcome) -> Verdict {
        if self.opened.is_none() && outcome == Outcome::Accepted {
            self.taken = true;
            return Verdict::GoOn;
        }
        let request = &self.request;
        let opened = self.opened.get_or_insert_with(|| Opened::new(request));
        let (sequel, reason) = opened.report(outcome);
        match sequel {
            Sequel::GoOn => Verdict::GoOn,
            Sequel::Wait => Verdict::Wait,
            Sequel::Drop(range) => Verdict::Lost(Loss {
                samples: opened.samples(&range, request),
                reason,
                labels: opened.describe(&range),
            }),
        }
    }

    /// Reports whether the target took another request.
    pub(super) fn witnessed(&mut self, other: Outcome) {
        match (&mut self.opened, other) {
            (Some(opened), Outcome::Accepted) => opened.bisect.vouch(),
            (Some(opened), _) => opened.bisect.no_witness(),
            (None, _) => {}
        }
    }

    /// Samples that were neither taken nor given up.
    pub(super) fn samples_left(&self) -> usize {
        match &self.opened {
            Some(opened) => {
                let parts = opened.bisect.undecided();
                parts.iter().map(|part| opened.samples(part, &self.request)).sum()
            }
            None if self.taken => 0,
            None => self.request.samples,
        }
    }
}

impl Opened {
    fn new(request: &Outgoing) -> Self {
        let raw = snappy::decompress(&request.body, RAW_BYTES_MAX).unwrap_or_default();
        let series = encode::series_count(&raw).unwrap_or_default().max(1);
        Self { raw, series, bisect: Bisect::new(series), current: None }
    }

    fn report(&mut self, outcome: Outcome) -> (Sequel, &'static str) {
        match outcome {
            Outcome::Accepted => {
                self.bisect.accepted();
                (Sequel::GoOn, "")
            }
            Outcome::Recoverable { blame: Blame::Target, .. } => (self.bisect.unheard(), ""),
            Outcome::Recoverable { blame: Blame::Either, .. } => (self.bisect.server_error(), "poisoned"),
            Outcome::Rejected { status } if is_about_content(status) => (self.bisect.refused(), "rejected"),
            Outcome::Rejected { .. } => (self.bisect.dismissed(), "rejected"),
        }
    }

    /// The series at `range` as a request of their own; the same bytes whenever it is asked for.
    fn part(&mut self, range: Range<usize>, request: &Outgoing) -> Part {
        match &self.current {
            Some((current, part)) if *current == range => part.clone(),
            _ => {
                let part = self.cut(&range, request);
                self.current = Some((range, part.clone()));
                part
            }
        }
    }

    fn cut(&self, range: &Range<usize>, request: &Outgoing) -> Part {
        if range.len() == self.series {
            return whole(request);
        }
        let raw = self.slice(range);
        Part { body: Bytes::from(snappy::compress(&raw)), samples: self.samples(range, request) }
    }

    fn slice(&self, range: &Range<usize>) -> Vec<u8> {
        encode::slice(&self.raw, range.clone()).expect("parts lie within the request")
    }

    fn samples(&self, range: &Range<usize>, request: &Outgoing) -> usize {
        if range.len() == self.series {
            return request.samples;
        }
        if self.series == request.samples {
            return range.len();
        }
        let part = WriteRequest::decode(self.slice(range).as_slice()).unwrap_or_default();
        part.timeseries.iter().map(|series| series.samples.len()).sum()
    }

    fn describe(&self, range: &Range<usize>) -> String {
        let first = encode::slice(&self.raw, range.start..range.start + 1);
        first.and_then(|raw| encode::describe_first(&raw)).unwrap_or_default()
    }
}

fn whole(request: &Outgoing) -> Part {
    Part { body: request.body.clone(), samples: request.samples }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::wire::prompb::v1::{Label, Sample, TimeSeries};

    const BAD_REQUEST: Outcome = Outcome::Rejected { status: StatusCode::BAD_REQUEST };

    fn request(samples_per_series: &[usize]) -> Arc<Outgoing> {
        let label = |index: usize| Label { name: b"a".to_vec(), value: index.to_string().into_bytes() };
        let series = |(index, count): (usize, &usize)| TimeSeries {
            labels: vec![label(index)],
            samples: (0..*count as i64).map(|timestamp| Sample { value: 1.0, timestamp }).collect(),
            ..TimeSeries::default()
        };
        let timeseries = samples_per_series.iter().enumerate().map(series).collect();
        let raw = WriteRequest { timeseries, ..WriteRequest::default() }.encode_to_vec();
        let body = Bytes::from(snappy::compress(&raw));
        Arc::new(Outgoing { body, samples: samples_per_series.iter().sum(), oldest: 0, newest: 9 })
    }

    fn sent(delivery: &mut Delivery) -> Part {
        match delivery.next() {
            Next::Send(part) => part,
            other => panic!("{other:?} is nothing to send"),
        }
    }

    #[test]
    fn a_request_that_is_taken_is_never_opened() {
        let request = request(&[1, 1]);
        let mut delivery = Delivery::new(Arc::clone(&request));
        assert_eq!(sent(&mut delivery).body, request.body);
        assert_eq!(delivery.answered(Outcome::Accepted), Verdict::GoOn);
        assert!(matches!((delivery.next(), &delivery.opened), (Next::Done, None)));
    }

    #[test]
    fn samples_are_counted_where_series_have_several() {
        let mut delivery = Delivery::new(request(&[3, 2]));
        assert_eq!(delivery.answered(BAD_REQUEST), Verdict::GoOn);
        assert_eq!(sent(&mut delivery).samples, 3);
        let lost = Loss { samples: 3, reason: "rejected", labels: "{a=\"0\"}".to_owned() };
        assert_eq!(delivery.answered(BAD_REQUEST), Verdict::Lost(lost));
        assert_eq!(delivery.samples_left(), 2);
    }

    #[test]
    fn a_refusal_that_is_not_about_content_is_final_for_the_whole() {
        let mut delivery = Delivery::new(request(&[1; 8]));
        let Verdict::Lost(loss) = delivery.answered(Outcome::Rejected { status: StatusCode::FORBIDDEN })
        else {
            panic!("a 403 is final")
        };
        assert_eq!((loss.samples, loss.reason), (8, "rejected"));
        assert!(matches!(delivery.next(), Next::Done));
    }

    #[test]
    fn bytes_that_are_no_request_are_sent_and_dropped_whole() {
        let body = Bytes::from_static(b"no snappy");
        let request = Arc::new(Outgoing { body: body.clone(), samples: 7, oldest: 0, newest: 0 });
        let mut delivery = Delivery::new(request);
        assert_eq!(delivery.answered(Outcome::UNHEARD), Verdict::Wait);
        assert_eq!(sent(&mut delivery).body, body);
        let lost = Loss { samples: 7, reason: "rejected", labels: String::new() };
        assert_eq!(delivery.answered(BAD_REQUEST), Verdict::Lost(lost));
        assert_eq!(delivery.samples_left(), 0);
    }
}
