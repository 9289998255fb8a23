//! Which message a request carries, by its headers.
//!
//! By `Content-Type` alone, as remote write 2.0 demands; the version header is not looked at. Remote write
//! 1.0 senders may leave out both headers.

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::wire::decode::Protocol;

const MEDIA_TYPE: &str = "application/x-protobuf";
const V1_MESSAGE: &str = "prometheus.WriteRequest";
const V2_MESSAGE: &str = "io.prometheus.write.v2.Request";
const ENCODING: &str = "snappy";

/// Why a request is answered 415.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Unsupported {
    #[error("content type {0:?} is not supported; send {MEDIA_TYPE}")]
    ContentType(String),
    #[error("message {0:?} is not supported; send {V1_MESSAGE} or {V2_MESSAGE}")]
    Message(String),
    #[error("content encoding {0:?} is not supported; send {ENCODING}")]
    ContentEncoding(String),
}

/// Reads what a request says of itself.
pub(super) fn negotiate(headers: &HeaderMap) -> Result<Protocol, Unsupported> {
    let protocol = headers.get(CONTENT_TYPE).map_or(Ok(Protocol::V1), |value| content_type(&text(value)))?;
    let encoding = headers.get(CONTENT_ENCODING).map(text).unwrap_or_default();
    match encoding.trim() {
        "" => Ok(protocol),
        snappy if snappy.eq_ignore_ascii_case(ENCODING) => Ok(protocol),
        other => Err(Unsupported::ContentEncoding(other.to_owned())),
    }
}

fn text(value: &hyper::header::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Reads `type/subtype; name=value; name="value"` (RFC 9110, section 8.3.1).
fn content_type(header: &str) -> Result<Protocol, Unsupported> {
    let mut parts = split_parameters(header).into_iter();
    let media_type = parts.next().unwrap_or_default();
    if media_type.is_empty() && parts.len() == 0 {
        return Ok(Protocol::V1);
    }
    if !media_type.eq_ignore_ascii_case(MEDIA_TYPE) {
        return Err(Unsupported::ContentType(header.to_owned()));
    }
    let message = parts.filter_map(|part| parameter(&part)).find(|(name, _)| name == "proto");
    match message.as_ref().map(|(_, value)| value.as_str()) {
        None | Some(V1_MESSAGE) => Ok(Protocol::V1),
        Some(V2_MESSAGE) => Ok(Protocol::V2),
        Some(other) => Err(Unsupported::Message(other.to_owned())),
    }
}

/// Cuts at semicolons that stand outside of quotes, and trims the parts.
fn split_parameters(header: &str) -> Vec<String> {
    let (mut parts, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for char in header.chars() {
        match char {
            ';' if !quoted => parts.push(String::new()),
            other => parts.last_mut().expect("there is always a part").push(other),
        }
        quoted ^= char == '"' && !escaped;
        escaped = quoted && char == '\\' && !escaped;
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

/// Name in lower case and value without quotes of `name=value`.
fn parameter(part: &str) -> Option<(String, String)> {
    let (name, value) = part.split_once('=')?;
    let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
    let value = match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        Some(quoted) => unescape(quoted),
        None => value.to_owned(),
    };
    Some((name, value))
}

fn unescape(quoted: &str) -> String {
    let mut escaped = false;
    quoted
        .chars()
        .filter(|&char| {
            escaped = char == '\\' && !escaped;
            !escaped
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &'static str)], expected: &str) {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        let said = match negotiate(&headers) {
            Ok(Protocol::V1) => "1.0".to_owned(),
            Ok(Protocol::V2) => "2.0".to_owned(),
            Err(unsupported) => unsupported.to_string(),
        };
        assert!(said.starts_with(expected), "{headers:?}: {said}");
    }

    #[test]
    fn the_content_type_alone_decides() {
        let check = |content_type, expected| check(&[("content-type", content_type)], expected);
        check("application/x-protobuf", "1.0");
        check("application/x-protobuf;proto=prometheus.WriteRequest", "1.0");
        check("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0");
        check("Application/X-Protobuf ; Proto=io.prometheus.write.v2.Request", "2.0");
        check("application/x-protobuf; charset=utf-8; proto=\"io.prometheus.write.v2.Request\"", "2.0");
        check("application/x-protobuf; note=\"a;proto=yolo\"; proto=prometheus.WriteRequest", "1.0");
        check("application/x-protobuf; note=\"\\\";proto=yolo\"", "1.0");
        check("application/x-protobuf; proto=\"prometheus.Write\\Request\"", "1.0");
        check("", "1.0");
        check("application/json", "content type \"application/json\" is not supported");
        check("yolo", "content type \"yolo\" is not supported");
        check("application/x-protobuf2", "content type");
        check("; proto=prometheus.WriteRequest", "content type");
        check("application/x-protobuf;proto=yolo", "message \"yolo\" is not supported");
        check("application/x-protobuf;proto=", "message \"\" is not supported");
        check("application/x-protobuf;proto=PROMETHEUS.writerequest", "message");
    }

    #[test]
    fn only_block_snappy_is_understood() {
        let check = |encoding, expected| check(&[("content-encoding", encoding)], expected);
        check("snappy", "1.0");
        check("Snappy", "1.0");
        check("", "1.0");
        for other in ["gzip", "zstd", "deflate", "identity", "snappy, gzip", "x-snappy-framed"] {
            check(other, "content encoding");
        }
    }

    #[test]
    fn missing_headers_and_the_version_header_mean_nothing() {
        check(&[], "1.0");
        check(&[("x-prometheus-remote-write-version", "2.0.0")], "1.0");
    }
}
