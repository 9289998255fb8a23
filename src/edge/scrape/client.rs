//! Fetches a page: one GET with a deadline and a bound, no redirects.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::Target;
use crate::edge::outgoing::with_sources;
use crate::wire::exposition::Format;

/// Bytes that a page may have.
pub const BODY_BYTES_MAX: usize = 32 << 20;

/// Characters of an unexpected content encoding that are shown.
const ENCODING_CHARS_MAX: usize = 32;

/// Prometheus text first, because it is what exporters speak best.
const ACCEPTED: &str = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";
/// Tells the exporter how long it has.
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// Why there is no page.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Unheard {
    /// No connection, or it broke.
    #[error("{0}")]
    Lost(String),
    /// Too slow.
    #[error("no whole page within {0:?}")]
    TooSlow(Duration),
    /// Another status than 200; redirects are not followed.
    #[error("answered {0}, and only 200 is a page; redirects are not followed")]
    Status(StatusCode),
    /// Compressed, though this was not offered.
    #[error("answered with content encoding {0:?}, which was not offered")]
    Encoding(String),
    /// Too large.
    #[error("page exceeds {max} bytes")]
    TooLarge {
        /// The limit.
        max: usize,
    },
}

/// A page as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    pub(super) format: Format,
}

/// Connections to one target, kept from scrape to scrape.
#[derive(Debug)]
pub(super) struct Client(Pool<HttpConnector, Empty<Bytes>>);

impl Client {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(Pool::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector))
    }

    /// Fetches the page of `target` within its timeout.
    pub(super) async fn fetch(&self, target: &Target) -> Result<Answer, Unheard> {
        let timeout = target.timeout();
        let answer = tokio::time::timeout(timeout, self.fetch_unhurried(target));
        answer.await.unwrap_or(Err(Unheard::TooSlow(timeout)))
    }

    async fn fetch_unhurried(&self, target: &Target) -> Result<Answer, Unheard> {
        let response = self.0.request(request(target)).await.map_err(|error| lost(&error))?;
        let format = accepted(&response)?;
        Ok(Answer { body: read(response.into_body()).await?, format })
    }
}

fn request(target: &Target) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.url().clone();
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("promantis/", env!("CARGO_PKG_VERSION"))));
    if let Ok(seconds) = HeaderValue::try_from(target.timeout().as_secs_f64().to_string()) {
        headers.insert(TIMEOUT_HEADER, seconds);
    }
    request
}

/// The format of a page that can be read.
fn accepted(response: &Response<Incoming>) -> Result<Format, Unheard> {
    if response.status() != StatusCode::OK {
        return Err(Unheard::Status(response.status()));
    }
    let encoding = text_of(response.headers(), CONTENT_ENCODING);
    if !matches!(encoding, "" | "identity") {
        return Err(Unheard::Encoding(encoding.chars().take(ENCODING_CHARS_MAX).collect()));
    }
    let length = response.body().size_hint().lower();
    if length > BODY_BYTES_MAX as u64 {
        return Err(Unheard::TooLarge { max: BODY_BYTES_MAX });
    }
    Ok(Format::of(text_of(response.headers(), CONTENT_TYPE)))
}

/// Value of a header; one that is not text counts as something unknown.
fn text_of(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"))
}

async fn read(mut from: Incoming) -> Result<Vec<u8>, Unheard> {
    let mut body = Vec::new();
    while let Some(frame) = from.frame().await {
        let data = frame.map_err(|error| lost(&error))?.into_data().unwrap_or_default();
        if body.len().saturating_add(data.len()) > BODY_BYTES_MAX {
            return Err(Unheard::TooLarge { max: BODY_BYTES_MAX });
        }
        body.extend_from_slice(&data);
    }
    Ok(body)
}

fn lost(error: &dyn std::error::Error) -> Unheard {
    Unheard::Lost(with_sources(error))
}
