//! Where derived samples go, and how they are sent there.

use std::fmt;
use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderName;

use crate::wire::decode::Protocol;

/// One remote end.
#[derive(Clone, PartialEq)]
pub struct TargetSpec {
    /// Where requests are posted. Holds no credentials.
    pub url: Uri,
    /// Value of the label `target` of our own metrics; unique among the targets.
    pub name: String,
    /// How long one request may take, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// Samples older than this are dropped instead of sent; `None` sends them whatever their age.
    pub max_sample_age: Option<Duration>,
    /// Samples in one request. At least 1.
    pub max_samples_per_send: usize,
    /// Version in which derived samples are sent. A target that turns out not to speak 2.0 is sent 1.0.
    pub protocol: Protocol,
    /// First pause before a retry.
    pub backoff_min: Duration,
    /// Longest pause before a retry. At least `backoff_min`.
    pub backoff_max: Duration,
    /// Sent with every request, beside what the protocol asks for.
    pub headers: Vec<(HeaderName, Secret)>,
    /// What happens when the journal is full of what this target has not taken.
    pub when_full: WhenFull,
}

/// What happens when the journal reaches its limit because a target has not taken what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// The oldest that waits for this target is dropped and counted.
    DropOldest,
    /// Input is answered 503, and the senders keep it, until this target has taken enough.
    HoldBack,
}

impl TargetSpec {
    /// A target with every default: 30 s, 55 minutes, 10,000 samples, remote write 1.0, 30 ms to 5 s, no headers, the
    /// oldest dropped when full.
    pub fn new(url: Uri, name: impl Into<String>) -> Self {
        Self {
            url,
            name: name.into(),
            timeout: Duration::from_secs(30),
            max_sample_age: Some(Duration::from_secs(55 * 60)),
            max_samples_per_send: 10_000,
            protocol: Protocol::V1,
            backoff_min: Duration::from_millis(30),
            backoff_max: Duration::from_secs(5),
            headers: Vec::new(),
            when_full: WhenFull::DropOldest,
        }
    }
}

impl TargetSpec {
    /// The name of a target at `url` that was given none: host, port and path; neither query nor credentials.
    pub fn name_at(url: &Uri) -> String {
        format!("{}:{}{}", url.host().unwrap_or_default(), url.port_u16().unwrap_or(80), url.path())
    }

    /// The URL without its query, which may hold a token.
    pub fn shown_url(&self) -> String {
        shown_url(&self.url)
    }
}

/// `url` without its query, which may hold a token.
pub fn shown_url(url: &Uri) -> String {
    let host = url.authority().map_or("", |authority| authority.as_str());
    format!("http://{host}{}", url.path())
}

/// Shows everything but headers' values and the query of the URL, which may hold a token.
impl fmt::Debug for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetSpec")
            .field("url", &self.shown_url())
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .field("max_sample_age", &self.max_sample_age)
            .field("max_samples_per_send", &self.max_samples_per_send)
            .field("protocol", &self.protocol)
            .field("backoff_min", &self.backoff_min)
            .field("backoff_max", &self.backoff_max)
            .field("headers", &self.headers)
            .field("when_full", &self.when_full)
            .finish()
    }
}

/// Whether `url` has no port, or one that is a number from 1 to 65,535. A connection is made to the default port
/// where it is neither.
pub fn port_is_right(url: &Uri) -> bool {
    let after_host = url.authority().map_or("", |it| it.as_str().strip_prefix(it.host()).unwrap_or_default());
    after_host.is_empty() || url.port_u16().is_some_and(|port| port > 0)
}

/// Text that is never shown: not in logs, not in `Debug`, not in answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_to_nobody_who_does_not_ask() {
        let mut target = TargetSpec::new(Uri::from_static("http://localhost/?key=hunter2"), "local");
        target.headers.push((hyper::header::AUTHORIZATION, Secret::new("hunter2")));
        assert!(!format!("{target:?} {}", target.headers[0].1).contains("hunter2"));
        assert_eq!(target.headers[0].1.expose(), "hunter2");
    }
}
