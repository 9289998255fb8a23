//! How a target took a request, read off the answer's status.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};

/// Longest wait that a target may ask for. Longer ones are cut, so that none can silence us for a day.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// How the remote end took a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Taken.
    Accepted,
    /// Not now: no answer, a 429 or a 5xx. Try again after the wait.
    Recoverable {
        /// What the target asked for, at most [`RETRY_AFTER_MAX`].
        retry_after: Option<Duration>,
        /// Who is to blame.
        blame: Blame,
    },
    /// Never: any other status, redirects included.
    Rejected {
        /// The status.
        status: StatusCode,
    },
}

/// What a failure that may pass says about the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Blame {
    /// Nothing: nobody looked at it, or the target is busy. 502 and 504 are in here, since a proxy says
    /// with them that it could not ask.
    Target,
    /// The target failed while it had the request in its hands. The request may be the cause.
    Either,
}

impl Outcome {
    /// Without an answer: a network error, a timeout or a cut connection.
    pub(super) const UNHEARD: Self = Self::Recoverable { retry_after: None, blame: Blame::Target };

    /// Of an answer.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        match status.as_u16() {
            200..=299 => Self::Accepted,
            429 | 502..=504 => Self::Recoverable { retry_after: retry_after(headers), blame: Blame::Target },
            500..=599 => Self::Recoverable { retry_after: retry_after(headers), blame: Blame::Either },
            _ => Self::Rejected { status },
        }
    }

    /// Value of the label `outcome`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Recoverable { .. } => "recoverable",
            Self::Rejected { .. } => "rejected",
        }
    }
}

/// Whether a refusal with `status` is about the samples, so that a part of them may be taken.
///
/// A wrong address or missing rights (401, 403, 404, a redirect) refuse each part alike.
pub(super) fn is_about_content(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 409 | 413 | 422)
}

/// The header's seconds; a date is not read, the usual pause follows then.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, retry_after: &str, expected: Outcome) {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(Outcome::of(status, &headers), expected, "{status} {retry_after}");
    }

    #[test]
    fn the_status_decides_whether_to_try_again() {
        let again = |blame| Outcome::Recoverable { retry_after: None, blame };
        for status in [200, 204, 299] {
            check(status, "", Outcome::Accepted);
        }
        for status in [429, 502, 503, 504] {
            check(status, "", again(Blame::Target));
        }
        for status in [500, 501, 507, 599] {
            check(status, "", again(Blame::Either));
        }
        for status in [301, 307, 400, 401, 404, 413, 499, 600] {
            let status = StatusCode::from_u16(status).unwrap();
            check(status.as_u16(), "", Outcome::Rejected { status });
        }
    }

    #[test]
    fn a_wait_that_the_target_asks_for_is_honoured_within_reason() {
        let wait = |seconds: u64| Outcome::Recoverable {
            retry_after: Some(Duration::from_secs(seconds)),
            blame: Blame::Target,
        };
        check(503, "7", wait(7));
        check(429, " 0 ", wait(0));
        check(503, "86400", wait(60));
        let no_wait = Outcome::UNHEARD;
        check(503, "99999999999999999999999", no_wait);
        check(503, "-1", no_wait);
        check(503, "Wed, 21 Oct 2026 07:28:00 GMT", no_wait);
    }

    #[test]
    fn only_refusals_of_content_are_worth_a_second_look() {
        let about = |status| is_about_content(StatusCode::from_u16(status).unwrap());
        assert!([400, 409, 413, 422].into_iter().all(about));
        assert!(![301, 401, 403, 404, 405, 415].into_iter().any(about));
    }
}
