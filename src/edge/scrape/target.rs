//! What is scraped: an address, a job's name and an interval, checked.

use std::fmt;
use std::time::Duration;

use hyper::Uri;

use crate::edge::send::spec::port_is_right;

/// Longest time that a scrape may take, however long the interval.
const TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Time that a scrape may take however short the interval; the next one then comes later.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// Shortest interval.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Bytes that a job's name may have.
const JOB_BYTES_MAX: usize = 256;

/// An exporter's page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    url: Uri,
    job: Box<str>,
    interval: Duration,
}

/// Why a target cannot be scraped. What is refused is not repeated: it may hold credentials.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadTarget {
    /// Not an absolute address.
    #[error("URL: no http:// address; write for example http://127.0.0.1:9100/metrics")]
    NoAddress,
    /// `https://`.
    #[error("URL: TLS is not available; put a proxy in front and write its http:// address")]
    Tls,
    /// `http://user:password@host`.
    #[error("URL: credentials do not belong in a URL")]
    Credentials,
    /// No name, or one that is too long.
    #[error("job: a name has 1 to {JOB_BYTES_MAX} bytes, not {0}")]
    Job(usize),
    /// Too short.
    #[error("interval: {0:?} is below {INTERVAL_MIN:?}")]
    Interval(Duration),
}

impl Target {
    /// Checks a target. An address without a path, not even `/`, means its `/metrics`.
    ///
    /// # Errors
    /// [`BadTarget`].
    pub fn new(url: &str, job: &str, interval: Duration) -> Result<Self, BadTarget> {
        if !(1..=JOB_BYTES_MAX).contains(&job.len()) {
            return Err(BadTarget::Job(job.len()));
        }
        if interval < INTERVAL_MIN {
            return Err(BadTarget::Interval(interval));
        }
        Ok(Self { url: address(url)?, job: job.into(), interval })
    }

    /// Where the page is.
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// Value of the label `job`.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Value of the label `instance`: host and port.
    pub fn instance(&self) -> String {
        format!("{}:{}", self.url.host().unwrap_or_default(), self.url.port_u16().unwrap_or(80))
    }

    /// Time from one scrape to the next.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Time that one scrape may take: the interval, but no less than 1 s and no more than 10 s.
    pub fn timeout(&self) -> Duration {
        self.interval.clamp(TIMEOUT_MIN, TIMEOUT_MAX)
    }
}

/// Shows the address without its query, which may hold a token.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        write!(f, "http://{authority}{}", self.url.path())
    }
}

fn address(text: &str) -> Result<Uri, BadTarget> {
    let mut text = text.trim().to_owned();
    if text.split_once("://").is_some_and(|(_, rest)| !rest.is_empty() && !rest.contains(['/', '?', '#'])) {
        text.push_str("/metrics");
    }
    let url: Uri = text.parse().map_err(|_| BadTarget::NoAddress)?;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    match url.scheme_str() {
        _ if authority.contains('@') => Err(BadTarget::Credentials),
        Some("https") => Err(BadTarget::Tls),
        Some("http") if url.host().is_some_and(|host| !host.is_empty()) && port_is_right(&url) => Ok(url),
        _ => Err(BadTarget::NoAddress),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[track_caller]
    fn check(url: &str, address: &str, instance: &str) {
        let target = Target::new(url, "scrape", SECOND).expect(url);
        assert_eq!((target.url().to_string().as_str(), target.instance().as_str()), (address, instance));
    }

    #[test]
    fn an_address_is_taken_as_it_is_and_without_a_path_means_its_metrics() {
        check("http://localhost:9100/metrics", "http://localhost:9100/metrics", "localhost:9100");
        check("http://localhost:9100", "http://localhost:9100/metrics", "localhost:9100");
        check("http://localhost:9100/", "http://localhost:9100/", "localhost:9100");
        check("http://node/probe?target=a", "http://node/probe?target=a", "node:80");
        check("http://[::1]:9100/metrics", "http://[::1]:9100/metrics", "[::1]:9100");
        check("HTTP://node", "http://node/metrics", "node:80");
    }

    #[test]
    fn what_cannot_be_scraped_is_refused_without_repeating_it() {
        let check =
            |url: &str, expected| assert_eq!(Target::new(url, "scrape", SECOND), Err(expected), "{url}");
        for url in ["", "localhost:9100", "localhost:9100/metrics", "/metrics", "http://", "http:///metrics"]
        {
            check(url, BadTarget::NoAddress);
        }
        for url in [
            "ftp://node/metrics",
            "http://node:99999/metrics",
            "http://node:0",
            "http://node:/",
            "http://a b",
        ] {
            check(url, BadTarget::NoAddress);
        }
        check("https://node/metrics", BadTarget::Tls);
        check("http://user:hunter2@node/metrics", BadTarget::Credentials);
        assert_eq!(Target::new("http://node", "", SECOND), Err(BadTarget::Job(0)));
        assert_eq!(Target::new("http://node", &"j".repeat(257), SECOND), Err(BadTarget::Job(257)));
        let short = Duration::from_millis(9);
        assert_eq!(Target::new("http://node", "scrape", short), Err(BadTarget::Interval(short)));
    }

    #[test]
    fn a_scrape_may_take_its_interval_within_bounds() {
        let timeout = |interval| Target::new("http://node", "scrape", interval).map(|it| it.timeout());
        assert_eq!(timeout(SECOND / 20), Ok(SECOND));
        assert_eq!(timeout(5 * SECOND), Ok(5 * SECOND));
        assert_eq!(timeout(60 * SECOND), Ok(10 * SECOND));
    }

    #[test]
    fn a_query_is_not_shown() {
        let target = Target::new("http://node/probe?token=hunter2", "scrape", SECOND).expect("an address");
        assert_eq!(target.to_string(), "http://node/probe");
    }
}
