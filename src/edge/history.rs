//! What happened while nobody listened: fetched from a Prometheus and made into remote-write bodies.
//!
//! Asks instant queries of range selectors, which Prometheus, Mimir and VictoriaMetrics answer with the samples as
//! they were stored. Stale markers and native histograms are not among them, and VictoriaMetrics has rounded values
//! to some 13 digits. A gap is filled from its old end, ten minutes at a time, less where that is too much for one
//! answer.
//!
//! Takes memory for one such part: the answers, 256 MiB at most, and 16 bytes per sample.

mod bodies;
mod client;
mod matrix;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use hyper::header::HeaderName;
use hyper::{StatusCode, Uri};

use super::send::spec::{Secret, shown_url};
use crate::engine::derive::PREFIX;
use crate::engine::select::Matchers;
use crate::series::LabelRun;
use client::Client;
use matrix::Series;

pub use bodies::{BODY_BYTES_MAX, BODY_SAMPLES_MAX, Body, SLICE_MS};
pub use client::ANSWERS_BYTES_MAX;

/// How much is asked for at once, in milliseconds.
const PART_MS_MAX: i64 = 600_000;
/// How little, where more was too much.
const PART_MS_MIN: i64 = 15_000;

/// Who knows what happened, and how to ask.
#[derive(Clone, PartialEq)]
pub struct HistorySpec {
    /// What stands before `/api/v1/query`: `http://HOST[:PORT][/PREFIX]`. Holds no credentials.
    pub url: Uri,
    /// Sent with every query, beside what the protocol asks for.
    pub headers: Vec<(HeaderName, Secret)>,
    /// How long one query may take, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// How much of a gap is filled: its newest part.
    pub max_gap: Duration,
    /// What each series gets that lacks it, by name: a Prometheus adds its external labels when it writes, and not when
    /// it is asked.
    pub labels: BTreeMap<String, String>,
}

impl HistorySpec {
    /// An address with every default: 30 s, one hour, no headers, no labels.
    pub fn new(url: Uri) -> Self {
        Self {
            url,
            headers: Vec::new(),
            timeout: Duration::from_secs(30),
            max_gap: Duration::from_secs(3600),
            labels: BTreeMap::new(),
        }
    }

    /// The URL without its query, which may hold a token.
    pub fn shown_url(&self) -> String {
        shown_url(&self.url)
    }
}

/// Shows everything but headers' values and the query of the URL, which may hold a token.
impl fmt::Debug for HistorySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistorySpec")
            .field("url", &self.shown_url())
            .field("headers", &self.headers)
            .field("timeout", &self.timeout)
            .field("max_gap", &self.max_gap)
            .field("labels", &self.labels)
            .finish()
    }
}

/// Why a gap was not filled.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum HistoryError {
    /// The address or a header cannot stand in a request.
    #[error("{0} cannot stand in a request")]
    Unaskable(&'static str),
    /// No connection, or it broke.
    #[error("ask {url}: {problem}")]
    Lost {
        /// Who was asked.
        url: String,
        /// What happened.
        problem: String,
    },
    /// Too slow.
    #[error("no whole answer of {url} within `history.timeout` of {timeout:?}")]
    TooSlow {
        /// Who was asked.
        url: String,
        /// The limit.
        timeout: Duration,
    },
    /// Another status than 200; redirects are not followed.
    #[error("{url} answered {status}: {excerpt}")]
    Status {
        /// Who was asked.
        url: String,
        /// What it answered.
        status: StatusCode,
        /// The begin of what it said.
        excerpt: String,
    },
    /// More than is taken, for the shortest part that is asked for.
    #[error("answers of {url} exceed {max} bytes; select fewer series")]
    TooLarge {
        /// Who was asked.
        url: String,
        /// The limit for one part of the gap, over all selectors.
        max: usize,
    },
    /// Not what a Prometheus answers.
    #[error("answer of {url} is not understood: {problem}")]
    Malformed {
        /// Who was asked.
        url: String,
        /// What is wrong.
        problem: String,
    },
}

impl HistoryError {
    /// Whether a shorter part may be answered: there was too much, or the other side would not evaluate the query, as
    /// Prometheus does where it would load too many samples.
    fn asks_for_less(&self) -> bool {
        match self {
            Self::TooLarge { .. } => true,
            Self::Status { status, .. } => *status == StatusCode::UNPROCESSABLE_ENTITY,
            _ => false,
        }
    }
}

/// The filling of one gap, part after part.
#[derive(Debug)]
pub struct Filling {
    client: Client,
    /// As others are asked.
    queries: Vec<String>,
    selectors: Vec<Matchers>,
    gap: Range<i64>,
    /// From where on nothing was fetched yet.
    from: i64,
    part_ms: i64,
}

/// Starts to fill `gap`, milliseconds since the Unix epoch, end excluded, with the samples of the series that any of
/// `selectors` takes. Of a gap longer than [`HistorySpec::max_gap`] only the newest part is filled.
///
/// # Errors
/// When the address or a header cannot stand in a request.
pub fn fill(spec: &HistorySpec, selectors: &[Matchers], gap: Range<i64>) -> Result<Filling, HistoryError> {
    let longest = i64::try_from(spec.max_gap.as_millis()).unwrap_or(i64::MAX);
    let from = gap.start.max(gap.end.saturating_sub(longest));
    let client = Client::new(spec.clone())?;
    let gap = from..gap.end;
    let queries = queryable(selectors, &spec.labels);
    Ok(Filling { client, queries, selectors: selectors.to_vec(), gap, from, part_ms: PART_MS_MAX })
}

impl Filling {
    /// What is filled of the gap.
    pub fn gap(&self) -> Range<i64> {
        self.gap.clone()
    }

    /// Fetches the next part that has samples; `None` when the gap is filled.
    ///
    /// Bodies stand in the order of time, one [`SLICE_MS`] after the other, within it one series after the other. Our own derived series are left out, and a series that several selectors take comes once.
    ///
    /// # Errors
    /// When the other side does not answer as it should. What was not fetched then is asked for again by the next call.
    pub async fn next(&mut self) -> Result<Option<Vec<Body>>, HistoryError> {
        while self.from < self.gap.end {
            let part = self.from..self.gap.end.min(self.from.saturating_add(self.part_ms));
            match self.client.series(&self.queries, &part).await {
                Ok(series) => {
                    self.from = part.end;
                    let bodies = bodies::of(&self.wanted(series), &part);
                    if !bodies.is_empty() {
                        return Ok(Some(bodies));
                    }
                }
                Err(error) if error.asks_for_less() && part.end - part.start > PART_MS_MIN => {
                    self.part_ms = ((part.end - part.start) / 2).max(PART_MS_MIN);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The series that a selector takes: more may have been asked for.
    fn wanted(&self, mut series: Vec<Series>) -> Vec<Series> {
        series.retain(|one| {
            let labels = LabelRun::from_canonical(&one.labels);
            self.selectors.iter().any(|selector| selector.matches(labels))
        });
        series
    }
}

/// The selectors as others understand them, who do not know of `labels`, each once; one of everything stands for all.
fn queryable(selectors: &[Matchers], labels: &BTreeMap<String, String>) -> Vec<String> {
    let texts: Vec<_> = selectors.iter().map(|selector| selector.text_given(labels)).collect();
    let everything = texts.iter().find(|text| text.trim() == "{}");
    let mut queryable: Vec<String> = Vec::new();
    for text in everything.map_or(&*texts, std::slice::from_ref) {
        let selector = with_name(text);
        if !queryable.contains(&selector) {
            queryable.push(selector);
        }
    }
    queryable
}

/// `selector`, asking for a name where it asks for nothing that a series must have: only we allow that.
fn with_name(selector: &str) -> String {
    let no_labels = LabelRun::from_canonical(&[]);
    let takes_anything = Matchers::parse(selector).is_ok_and(|matchers| matchers.matches(no_labels));
    match open_brace(selector).filter(|_| takes_anything) {
        None => selector.to_owned(),
        Some(brace) => {
            let (before, rest) = selector.split_at(brace + 1);
            let comma = if rest.trim_start().starts_with('}') { "" } else { ", " };
            format!("{before}__name__!=\"\", __name__!~\"{PREFIX}.*\"{comma}{rest}")
        }
    }
}

/// Where the brace stands that a selector without a name starts with, after white space and comments.
fn open_brace(selector: &str) -> Option<usize> {
    let mut rest = selector.trim_start();
    while rest.starts_with('#') {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
    }
    rest.starts_with('{').then_some(selector.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_of_anything_asks_for_a_name() {
        let check = |selector: &str, expected: &str| assert_eq!(with_name(selector), expected);
        check("up", "up");
        check(r#"{job="a"}"#, r#"{job="a"}"#);
        check(r#"{"up"}"#, r#"{"up"}"#);
        check("{}", r#"{__name__!="", __name__!~"ml_.*"}"#);
        check("{ }", r#"{__name__!="", __name__!~"ml_.*" }"#);
        check(r#"{gone=""}"#, r#"{__name__!="", __name__!~"ml_.*", gone=""}"#);
        check("# {\n {a=''}", "# {\n {__name__!=\"\", __name__!~\"ml_.*\", a=''}");
    }

    #[test]
    fn one_selector_of_everything_stands_for_all() {
        let labels = BTreeMap::from([("cluster".to_owned(), "eu".to_owned())]);
        let check = |selectors: &[&str], expected: &[&str]| {
            let selectors = selectors.iter().map(|text| Matchers::parse(text).expect("it is right"));
            assert_eq!(queryable(&selectors.collect::<Vec<_>>(), &labels), expected);
        };
        check(&["up", "down", "up"], &["up", "down"]);
        check(&["up{}", "up{cluster=\"eu\"}", "up{cluster=\"us\"}"], &["up{}", "up{cluster=\"us\"}"]);
        check(&["up", "{cluster=\"eu\"}"], &["{__name__!=\"\", __name__!~\"ml_.*\"}"]);
        check(&["up", " {} "], &[" {__name__!=\"\", __name__!~\"ml_.*\"} "]);
        check(&[], &[]);
    }

    #[test]
    fn the_newest_part_of_a_long_gap_is_filled() {
        let spec = HistorySpec::new(Uri::from_static("http://localhost"));
        let check = |gap: Range<i64>, expected: Range<i64>| {
            assert_eq!(fill(&spec, &[], gap).expect("the address is right").gap(), expected);
        };
        check(0..10, 0..10);
        check(0..3_600_001, 1..3_600_001);
        check(i64::MIN..i64::MAX, i64::MAX - 3_600_000..i64::MAX);
        check(i64::MIN..i64::MIN, i64::MIN..i64::MIN);
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut spec = HistorySpec::new(Uri::from_static("http://localhost/p?key=swordfish"));
        spec.headers.push((hyper::header::AUTHORIZATION, Secret::new("hunter2")));
        let shown = format!("{spec:?} {:?}", fill(&spec, &[], 0..1));
        assert!(!shown.contains("hunter2") && !shown.contains("swordfish"), "{shown}");
    }
}
