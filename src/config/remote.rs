//! What every remote end has: an address, headers and credentials.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::reader::Place;
use super::secret;
use crate::edge::send::spec::{Secret, port_is_right};

/// Headers that the protocols or the connection set.
const RESERVED: [&str; 14] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-prometheus-remote-write-version",
];

/// An absolute `http://` address such as `example`. What is refused is not repeated: it may hold credentials.
pub(super) fn url(text: &str, example: &str) -> Result<Uri, String> {
    let wrong = || format!("is no address; write for example {example}");
    let url: Uri = text.parse().map_err(|_| wrong())?;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    match url.scheme_str() {
        _ if authority.contains('@') => {
            Err("credentials do not belong in a URL; use `basic_auth` or a bearer token".to_owned())
        }
        Some("http") if !port_is_right(&url) => Err("a port is a number from 1 to 65535".to_owned()),
        Some("http") if !url.host().unwrap_or_default().is_empty() => Ok(url),
        Some("https") => {
            Err("TLS is not available; put a proxy in front and write its http:// address".to_owned())
        }
        _ => Err(wrong()),
    }
}

/// The headers that are written at `place`, and the one of its credentials. Relative paths of secrets start at `base`.
pub(super) fn headers(place: &Place<'_>, base: &Path) -> Vec<(HeaderName, Secret)> {
    let mut headers = written(&place.get("headers"));
    headers.extend(authorization(place, base).map(|secret| (AUTHORIZATION, secret)));
    headers
}

fn written(place: &Place<'_>) -> Vec<(HeaderName, Secret)> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    for (name, value) in place.entries() {
        match header_name(&name) {
            Err(problem) => value.fail(problem),
            Ok(name) if headers.iter().any(|(known, _)| *known == name) => value.fail("stands here twice"),
            Ok(name) => headers.extend(value.required(header_value).map(|secret| (name, secret))),
        }
    }
    headers
}

fn header_name(written: &str) -> Result<HeaderName, String> {
    let name = HeaderName::from_bytes(written.as_bytes()).map_err(|_| "is no name of a header")?;
    if name == AUTHORIZATION {
        Err("is reserved; use `basic_auth` or a bearer token".to_owned())
    } else if RESERVED.contains(&name.as_str()) {
        Err("is reserved; the client sets it".to_owned())
    } else {
        Ok(name)
    }
}

fn header_value(text: &str) -> Result<Secret, String> {
    HeaderValue::from_str(text).map_err(|_| "is no value of a header: it has control characters")?;
    Ok(Secret::new(text))
}

/// The value of the header `Authorization`, where one is asked for.
fn authorization(place: &Place<'_>, base: &Path) -> Option<Secret> {
    let basic = place.get("basic_auth");
    basic.check_keys();
    let bearer = one_secret(place, ["bearer_token_file", "bearer_token_env"], base);
    if !basic.is_written() {
        return bearer.ok()?.map(|token| Secret::new(format!("Bearer {}", token.expose())));
    }
    if !matches!(bearer, Ok(None)) {
        basic.fail("excludes a bearer token; leave one of them out");
    }
    let user = basic.get("username").required(username);
    let password = one_secret(&basic, ["password_file", "password_env"], base).ok()?;
    if password.is_none() {
        basic.fail("needs `password_file` or `password_env`");
    }
    let pair = format!("{}:{}", user?, password?.expose());
    Some(Secret::new(format!("Basic {}", STANDARD.encode(pair))))
}

/// RFC 7617, section 2: a colon ends the user name.
fn username(text: &str) -> Result<String, String> {
    if text.contains(':') || text.chars().any(char::is_control) {
        Err("has a colon or control characters".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// The secret that a file or an environment variable holds; `Err` where it was asked for and an error is reported.
fn one_secret(place: &Place<'_>, [file, env]: [&str; 2], base: &Path) -> Result<Option<Secret>, ()> {
    let (from_file, from_env) = (place.get(file), place.get(env));
    if from_file.is_written() && from_env.is_written() {
        from_env.fail(format!("excludes `{file}`; leave one of them out"));
        return Err(());
    }
    if from_file.is_written() {
        return from_file.optional(|path| secret::from_file(&base.join(path))).map(Some).ok_or(());
    }
    if from_env.is_written() {
        return from_env.optional(secret::from_environment).map(Some).ok_or(());
    }
    Ok(None)
}
