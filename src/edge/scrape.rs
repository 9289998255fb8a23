//! Scrape mode: fetches an exporter's page and hands it to the engines as one request would.
//!
//! Does what Prometheus does with a target: labels `job` and `instance`, the series `up`,
//! `scrape_duration_seconds` and `scrape_samples_scraped`, and stale markers for series that are no longer
//! exposed, all of them where the target does not answer.

mod client;
mod rounds;
mod target;

pub use client::{BODY_BYTES_MAX, Unheard};
pub use target::{BadTarget, Target};

use std::sync::Arc;
use std::time::Instant;

use client::{Answer, Client};
use rounds::{Round, Rounds};

use super::journal::{Full, Journal, Received};
use super::limits::ReceiveLimits;
use super::telemetry::{Metrics, count};
use crate::series::Batch;
use crate::wire::decode::{self, Limits, Protocol};
use crate::wire::exposition::{self, LineError, Page, Rejected};
use crate::wire::{encode, snappy};

/// Scrapes one target, again and again, into the journal.
#[derive(Debug)]
pub struct Scraper {
    target: Target,
    client: Client,
    rounds: Rounds,
    journal: Arc<Journal>,
    metrics: Arc<Metrics>,
    /// The last outcome, so that only a change is logged.
    last: Option<&'static str>,
}

/// What one scrape brought.
#[derive(Debug)]
pub struct Scraped {
    /// Samples of the page that were understood; 0 when the scrape failed.
    pub samples: usize,
    /// Lines that were not.
    pub rejected: Rejected,
    /// Series that the page shows twice, the second time passed over.
    pub repeated: usize,
    /// Series that ended since the last scrape.
    pub ended: usize,
    /// Why the scrape failed, when it did.
    pub failure: Option<ScrapeFailed>,
    /// Why nothing of it was kept, when so. What ended will be told with the next scrape.
    pub full: Option<Full>,
}

/// Why a scrape failed; then `up` is 0.
#[derive(thiserror::Error, Debug)]
pub enum ScrapeFailed {
    /// No page came.
    #[error(transparent)]
    Unheard(#[from] Unheard),
    /// A page came in which no line was understood.
    #[error("no line of the page is a sample; {first}")]
    Nonsense {
        /// The first line and what is wrong with it.
        first: LineError,
    },
}

impl Scraper {
    /// A scraper that has not seen `target` yet and appends to `journal`.
    pub fn new(target: Target, journal: Arc<Journal>, metrics: Arc<Metrics>) -> Self {
        let rounds = Rounds::new(target.job(), &target.instance());
        Self { target, client: Client::new(), rounds, journal, metrics, last: None }
    }

    /// Scrapes once, as of `now` in Unix milliseconds, and appends what it brought to the journal.
    ///
    /// Ends within the target's timeout and the time to read the page; nothing is kept if it is dropped before.
    pub async fn scrape(&mut self, now: i64) -> Scraped {
        let begin = Instant::now();
        let answer = self.client.fetch(&self.target).await;
        let rounds = self.rounds.clone();
        // Beside the runtime's threads: a large page takes seconds.
        let digested = tokio::task::spawn_blocking(move || digest(&rounds, answer, now, begin)).await;
        let (page, round) = digested.unwrap_or_else(|error| {
            let lost = Unheard::Lost(error.to_string());
            (Err(lost.into()), self.rounds.assemble(None, now, begin.elapsed()))
        });
        let scraped = self.take(page, round, now);
        self.tell(&scraped);
        scraped
    }

    fn take(&mut self, page: Result<Page, ScrapeFailed>, round: Round, now: i64) -> Scraped {
        let (repeated, ended) = (round.repeated, round.ended);
        let written = round.batch.samples().len() as u64;
        let full = self.append(now, &round.batch).err();
        if full.is_none() {
            self.metrics.samples_received.inc_by(written);
            self.rounds.commit(round.live);
        }
        let (samples, rejected, failure) = match page {
            Ok(page) => (page.samples.len(), page.rejected, None),
            Err(failed) => (0, Rejected::default(), Some(failed)),
        };
        Scraped { samples, rejected, repeated, ended, failure, full }
    }

    /// Appends what a sender of remote write would have sent.
    fn append(&self, now: i64, batch: &Batch) -> Result<(), Full> {
        let raw = encode::request(batch);
        let body = snappy::compress(&raw).into();
        let received = Received { protocol: Protocol::V1, body, latest: i64::MAX, forward: false };
        // Whoever reads the journal later has the body alone, so what is judged now is what can be read from it.
        let decoded = decode::decode(Protocol::V1, raw, &Limits::default(), received.latest);
        let batch = decoded.map(|decoded| decoded.batch).unwrap_or_default();
        self.journal.append_request(now, Instant::now(), &received, batch).map(drop)
    }

    /// Counts the outcome, and logs it where it is another than before.
    fn tell(&mut self, scraped: &Scraped) {
        let outcome = scraped.outcome();
        count(&self.metrics.scrapes, "outcome", outcome, 1);
        if self.last.replace(outcome) == Some(outcome) {
            return;
        }
        match scraped.trouble() {
            Some(trouble) => tracing::warn!(url = %self.target, outcome, "{trouble}"),
            None => tracing::info!(url = %self.target, outcome, samples = scraped.samples, "target is up"),
        }
    }
}

impl Scraped {
    /// The outcome in a word, as it is counted.
    pub fn outcome(&self) -> &'static str {
        if self.failure.is_some() {
            "failed"
        } else if self.full.is_some() {
            "journal_full"
        } else if self.rejected.lines > 0 || self.repeated > 0 {
            "partial"
        } else {
            "ok"
        }
    }

    /// What went wrong, in words.
    pub fn trouble(&self) -> Option<String> {
        let lines = self.rejected.lines;
        match (&self.failure, &self.full, self.rejected.first.first()) {
            (Some(failed), _, _) => Some(failed.to_string()),
            (None, Some(full), _) => Some(full.to_string()),
            (None, None, Some(first)) => Some(format!("{lines} of the lines rejected; {first}")),
            (None, None, None) if self.repeated > 0 => {
                Some(format!("{} samples repeat a series of the page and were passed over", self.repeated))
            }
            (None, None, None) => None,
        }
    }
}

/// What an answer says, and the batch that it makes.
fn digest(
    rounds: &Rounds,
    answer: Result<Answer, Unheard>,
    now: i64,
    begin: Instant,
) -> (Result<Page, ScrapeFailed>, Round) {
    let page = answer.map_err(ScrapeFailed::from).and_then(|answer| read(&answer, now));
    let round = rounds.assemble(page.as_ref().ok(), now, begin.elapsed());
    (page, round)
}

fn read(answer: &Answer, now: i64) -> Result<Page, ScrapeFailed> {
    let latest = now.saturating_add(ReceiveLimits::default().future_ms_max);
    let page = exposition::parse(&answer.body, answer.format, &Limits::default(), latest);
    match page.rejected.first.first() {
        Some(first) if page.samples.is_empty() => Err(ScrapeFailed::Nonsense { first: first.clone() }),
        _ => Ok(page),
    }
}
