//! Asks for the samples of one part of a gap: one query per selector, each with a deadline, together with a bound.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::matrix::{self, Series};
use super::{HistoryError, HistorySpec};
use crate::edge::outgoing::{excerpt, redacted, with_sources};

/// Bytes of all answers for one part of a gap.
pub const ANSWERS_BYTES_MAX: usize = 256 << 20;
/// Bytes that are read of an answer that is none.
const REFUSAL_BYTES_MAX: usize = 16 << 10;

/// Connections to who knows.
pub(super) struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
    spec: HistorySpec,
    url: Uri,
    headers: HeaderMap,
}

impl Client {
    pub(super) fn new(spec: HistorySpec) -> Result<Self, HistoryError> {
        let url = query_url(&spec.url).ok_or(HistoryError::Unaskable("address"))?;
        let headers = headers(&spec)?;
        Ok(Self { pool: Pool::builder(TokioExecutor::new()).build_http(), spec, url, headers })
    }

    /// The series that any of `queries` takes, with the labels that they lack, each once, in the order of their labels' bytes.
    pub(super) async fn series(
        &self,
        queries: &[String],
        part: &Range<i64>,
    ) -> Result<Vec<Series>, HistoryError> {
        let mut all = Vec::new();
        let mut room = ANSWERS_BYTES_MAX;
        for selector in queries {
            let json = self.ask(query(selector, part), room).await?;
            room = room.saturating_sub(json.len());
            let matrix = matrix::read(&json, part, &self.spec.labels)
                .map_err(|problem| HistoryError::Malformed { url: self.spec.shown_url(), problem })?;
            if matrix.partial {
                tracing::warn!(
                    url = self.spec.shown_url(),
                    selector,
                    "history knows that its answer is not whole"
                );
            }
            all.extend(matrix.series);
        }
        all.sort_by(|one, other| one.labels.cmp(&other.labels));
        all.dedup_by(|one, other| one.labels == other.labels);
        Ok(all)
    }

    async fn ask(&self, form: String, room: usize) -> Result<Vec<u8>, HistoryError> {
        let limit = self.spec.timeout;
        let answer = timeout(limit, self.ask_unhurried(form, room)).await;
        answer.unwrap_or_else(|_| Err(HistoryError::TooSlow { url: self.spec.shown_url(), timeout: limit }))
    }

    async fn ask_unhurried(&self, form: String, room: usize) -> Result<Vec<u8>, HistoryError> {
        let mut request = Request::new(Full::from(form));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = self.headers.clone();
        let response = self.pool.request(request).await.map_err(|error| self.lost(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        if status == StatusCode::OK {
            let whole = read(response.into_body(), &mut body, room).await;
            let whole = whole.map_err(|error| self.lost(&error))?;
            return if whole { Ok(body) } else { Err(self.too_large()) };
        }
        // The status says enough where the words are cut.
        let _ = read(response.into_body(), &mut body, REFUSAL_BYTES_MAX).await;
        let text = redacted(&String::from_utf8_lossy(&body), &self.spec.headers, &self.spec.url);
        Err(HistoryError::Status { url: self.spec.shown_url(), status, excerpt: excerpt(&text) })
    }

    fn lost(&self, error: &dyn std::error::Error) -> HistoryError {
        HistoryError::Lost { url: self.spec.shown_url(), problem: with_sources(error) }
    }

    fn too_large(&self) -> HistoryError {
        HistoryError::TooLarge { url: self.spec.shown_url(), max: ANSWERS_BYTES_MAX }
    }
}

/// Shows the specification alone: the address may hold a token in its query.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// `base` with the path of queries behind its own; its query stays.
fn query_url(base: &Uri) -> Option<Uri> {
    let path = base.path().trim_end_matches('/');
    let query = base.query().map_or(String::new(), |query| format!("?{query}"));
    let builder = Uri::builder().scheme(base.scheme()?.clone()).authority(base.authority()?.clone());
    builder.path_and_query(format!("{path}/api/v1/query{query}")).build().ok()
}

fn headers(spec: &HistorySpec) -> Result<HeaderMap, HistoryError> {
    let mut headers = HeaderMap::new();
    for (name, secret) in &spec.headers {
        let value = HeaderValue::from_str(secret.expose());
        let mut value = value.map_err(|_| HistoryError::Unaskable("value of a header"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    // The protocol's own headers come last: nobody overrides them.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let agent = concat!("promantis/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    Ok(headers)
}

/// The form that asks for the samples of `part`, and some more at its ends.
///
/// In whole seconds: not everyone reads fractions of a second exactly. One second more than is needed, since newer
/// versions leave out the first instant of a range.
fn query(selector: &str, part: &Range<i64>) -> String {
    let end = part.end.div_euclid(1000).saturating_add(1);
    let seconds = end.saturating_sub(part.start.div_euclid(1000)).saturating_add(1);
    // The line break ends a comment that the selector may end with.
    let query = format!("{selector}\n[{seconds}s]");
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("query", &query).append_pair("time", &end.to_string()).finish()
}

/// Reads `from` to its end; `false` where it is longer than `max` bytes.
async fn read(mut from: Incoming, into: &mut Vec<u8>, max: usize) -> Result<bool, hyper::Error> {
    while let Some(frame) = from.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        if into.len().saturating_add(data.len()) > max {
            return Ok(false);
        }
        into.extend_from_slice(&data);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_go_below_the_address() {
        let check = |base: &str, expected: Option<&str>| {
            let url = query_url(&base.parse().expect("an address"));
            assert_eq!(url.map(|url| url.to_string()).as_deref(), expected, "{base}");
        };
        check("http://host", Some("http://host/api/v1/query"));
        check("http://host:9090/", Some("http://host:9090/api/v1/query"));
        check("http://host/prometheus/?tenant=1", Some("http://host/prometheus/api/v1/query?tenant=1"));
        check("/path", None);
    }

    #[test]
    fn the_range_covers_the_part_in_whole_seconds() {
        let check = |part: Range<i64>, expected: &str| assert_eq!(query("up", &part), expected);
        check(1000..2000, "query=up%0A%5B3s%5D&time=3");
        check(1001..2001, "query=up%0A%5B3s%5D&time=3");
        check(-1..1, "query=up%0A%5B3s%5D&time=1");
        check(600_000..1_200_000, "query=up%0A%5B602s%5D&time=1201");
    }
}
