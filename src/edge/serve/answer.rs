//! Answers to HTTP requests, complete in memory.

use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{self, HeaderName, HeaderValue};
use serde::Serialize;

/// An answer whose body is there as a whole.
pub type Answer = hyper::Response<Full<Bytes>>;

/// Seconds after which a sender that was told 503 may come again.
const RETRY_AFTER_SECONDS: &str = "1";

#[derive(Serialize)]
struct Failure<'a> {
    error: &'a str,
}

/// A status and nothing else.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Answer::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// `body` as it is, of a type such as `text/plain`.
pub fn content(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Answer::new(Full::new(body.into()));
    *answer.status_mut() = status;
    with_header(answer, header::CONTENT_TYPE, content_type)
}

/// `body` as JSON. A body that cannot be written is answered 500.
pub fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    match serde_json::to_vec(body) {
        Ok(bytes) => content(status, "application/json", bytes),
        Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// `{"error": message}`. A 503 says when to come again.
pub fn error(status: StatusCode, message: &str) -> Answer {
    let answer = json(status, &Failure { error: message });
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return with_header(answer, header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    answer
}

/// `answer`, the last one of its connection: what is left of the request's body is not waited for.
pub fn closing(answer: Answer) -> Answer {
    with_header(answer, header::CONNECTION, "close")
}

/// `answer` with one more header.
pub fn with_header(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}
