//! One HTTP client per target: posts a body, and tells how it was taken.
//!
//! Keeps connections alive, follows no redirects, and gives a request one deadline from connecting to the
//! last byte of the answer. Speaks plain HTTP/1.1.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

use super::outcome::Outcome;
use super::spec::TargetSpec;
use crate::edge::outgoing::{excerpt, redacted, with_sources};
use crate::wire::decode::Protocol;

/// Bytes of an answer's body that are read; a longer one costs the connection.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Header by which a receiver of version 2.0 tells how many samples it wrote.
const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");

/// Header that names the version of the protocol.
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");

/// Where and how to post: a target's specification, made ready.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) spec: TargetSpec,
    headers: HeaderMap,
    /// Whether the target turned out not to speak version 2.0.
    older: AtomicBool,
}

/// What an answer to a request of version 2.0 tells of who gave it.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Speaks {
    /// Nothing against 2.0.
    Version2,
    /// 1.0 alone: it took nothing, unless somebody between took its headers away.
    Version1,
    /// It refused the request, and did not say how much it wrote: perhaps it is 1.0 that it speaks.
    Unclear,
}

impl Endpoint {
    /// Makes `spec` ready. A header whose value HTTP does not allow is logged by its name and left out.
    pub(super) fn new(spec: TargetSpec) -> Self {
        let mut headers = HeaderMap::new();
        for (name, secret) in &spec.headers {
            match HeaderValue::from_str(secret.expose()) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    headers.append(name, value);
                }
                Err(_) => {
                    let remote = spec.name.as_str();
                    tracing::error!(remote, header = name.as_str(), "header value is not allowed in HTTP");
                }
            }
        }
        // The protocol's own headers come last: nobody overrides them.
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        let agent = concat!("promantis/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        Self { spec, headers, older: AtomicBool::new(false) }
    }

    /// The version in which derived samples are to be sent now.
    pub(super) fn protocol(&self) -> Protocol {
        if self.older.load(Ordering::Relaxed) { Protocol::V1 } else { self.spec.protocol }
    }

    /// Sends version 1.0 from now on. Says whether that is news.
    pub(super) fn fall_back(&self) -> bool {
        !self.older.swap(true, Ordering::Relaxed)
    }

    fn request(&self, protocol: Protocol, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.spec.url.clone();
        let (content_type, version) = match protocol {
            Protocol::V1 => ("application/x-protobuf", "0.1.0"),
            Protocol::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
        };
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(VERSION_HEADER, HeaderValue::from_static(version));
        request
    }

    /// `text` without the secrets that a target may have echoed: headers' values and the URL's query.
    fn redacted(&self, text: &str) -> String {
        redacted(text, &self.spec.headers, &self.spec.url)
    }
}

/// How a request was taken, and what to say of it in a log.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// How many samples were written, where it says so.
    pub(super) written: Option<u64>,
    /// Status and the begin of the body, or the error; empty when accepted.
    pub(super) detail: String,
}

impl Answer {
    /// What it tells of who gave it, as the answer to a request of version 2.0.
    ///
    /// A receiver of 1.0 alone may answer 204 to what it reads as an empty request, or call it damaged.
    pub(super) fn speaks(&self) -> Speaks {
        match (self.outcome, self.written) {
            (Outcome::Rejected { status: StatusCode::UNSUPPORTED_MEDIA_TYPE }, _) => Speaks::Version1,
            (Outcome::Accepted, None | Some(0)) => Speaks::Version1,
            (Outcome::Rejected { status: StatusCode::BAD_REQUEST }, None) => Speaks::Unclear,
            _ => Speaks::Version2,
        }
    }
}

/// Connections to one target.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client without connections; they are made as requests need them.
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .build(connector);
        Self { pool }
    }

    /// Posts `body`, a message of `protocol`, once.
    pub(super) async fn post(&self, endpoint: &Endpoint, protocol: Protocol, body: Bytes) -> Answer {
        let deadline = Instant::now() + endpoint.spec.timeout;
        let response = self.pool.request(endpoint.request(protocol, body));
        match timeout_at(deadline, response).await {
            Ok(Ok(response)) => answered(endpoint, response, deadline).await,
            Ok(Err(error)) => unheard(with_sources(&error)),
            Err(_) => unheard(format!("no answer within {:?}", endpoint.spec.timeout)),
        }
    }
}

fn unheard(detail: String) -> Answer {
    Answer { outcome: Outcome::UNHEARD, written: None, detail }
}

/// The status decides; the body is for the log, and reading it may fail.
async fn answered(endpoint: &Endpoint, response: Response<Incoming>, deadline: Instant) -> Answer {
    let status = response.status();
    let outcome = Outcome::of(status, response.headers());
    let written =
        response.headers().get(SAMPLES_WRITTEN).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let mut body = Vec::new();
    let _ = timeout_at(deadline, read(response.into_body(), &mut body)).await;
    let detail = match outcome {
        Outcome::Accepted => String::new(),
        _ => format!("{status}: {}", excerpt(&endpoint.redacted(&String::from_utf8_lossy(&body)))),
    };
    Answer { outcome, written, detail }
}

/// Reads `from` to its end, or until it is longer than it may be.
async fn read(mut from: Incoming, into: &mut Vec<u8>) {
    while let Some(Ok(frame)) = from.frame().await {
        let data = frame.into_data().unwrap_or_default();
        if into.len().saturating_add(data.len()) > ANSWER_BYTES_MAX {
            return;
        }
        into.extend_from_slice(&data);
    }
}

#[cfg(test)]
mod tests {
    use hyper::Uri;
    use hyper::header::AUTHORIZATION;

    use super::super::spec::Secret;
    use super::*;

    fn endpoint(headers: Vec<(HeaderName, Secret)>) -> Endpoint {
        let mut spec = TargetSpec::new(Uri::from_static("http://localhost/?key=swordfish"), "local");
        spec.headers = headers;
        Endpoint::new(spec)
    }

    #[test]
    fn the_headers_of_the_protocol_are_not_overridden() {
        let mine = vec![
            (CONTENT_TYPE, Secret::new("text/plain")),
            (VERSION_HEADER, Secret::new("9")),
            (AUTHORIZATION, Secret::new("Bearer hunter2")),
        ];
        let request = endpoint(mine).request(Protocol::V1, Bytes::from_static(b"x"));
        let header = |name: HeaderName| request.headers().get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(header(CONTENT_TYPE), ["application/x-protobuf"]);
        assert_eq!(header(CONTENT_ENCODING), ["snappy"]);
        assert_eq!(header(VERSION_HEADER), ["0.1.0"]);
        assert_eq!(header(AUTHORIZATION), ["Bearer hunter2"]);
    }

    #[test]
    fn a_secret_is_not_shown_by_debug() {
        let plain = endpoint(vec![(AUTHORIZATION, Secret::new("hunter2"))]);
        let shown = format!("{plain:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("swordfish"));
    }
}
