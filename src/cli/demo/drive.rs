//! Drives the world through the real road: remote-write requests over HTTP on loopback, as Prometheus would send them.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use hyper::{HeaderMap, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;

use super::answers::{Paged, Status};
use super::world::World;
use crate::series::Sample;
use crate::wire::encode::RequestBuilder;
use crate::wire::snappy;

/// Samples of one request at most; Prometheus sends as many by default.
const SAMPLES_MAX: usize = 2000;
/// How many items of a list one question asks for; the API gives no more.
const PAGE: usize = 1000;
/// How often to ask whether everything was judged.
const POLL: Duration = Duration::from_millis(20);
/// How long nothing may happen before that is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a promantis, and what was sent to it.
#[derive(Debug)]
pub(super) struct Driver {
    client: Client<HttpConnector, Full<Bytes>>,
    addr: SocketAddr,
    builder: RequestBuilder,
    /// Samples that were taken, stale markers included.
    pub(super) samples: u64,
}

impl Driver {
    pub(super) fn new(addr: SocketAddr) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, addr, builder: RequestBuilder::new(), samples: 0 }
    }

    /// Sends what the world does until `end`, Unix milliseconds, as fast as it is taken.
    ///
    /// # Errors
    /// When a request is refused.
    pub(super) async fn send_until(&mut self, world: &mut World, end: i64) -> anyhow::Result<()> {
        let mut progress = Progress::new(world.now(), end);
        while world.now() < end {
            self.push_step(world);
            if self.builder.samples() + world.series_count() > SAMPLES_MAX {
                self.flush().await?;
                progress.tell(world.now(), self.samples);
            }
        }
        self.flush().await?;
        progress.tell(world.now(), self.samples);
        Ok(())
    }

    /// Sends the next sample of every series.
    ///
    /// # Errors
    /// When the request is refused.
    pub(super) async fn send_step(&mut self, world: &mut World) -> anyhow::Result<()> {
        self.push_step(world);
        self.flush().await
    }

    /// Waits until everything that was sent has been judged, and tells the counts then.
    ///
    /// # Errors
    /// When nothing happens for a minute.
    pub(super) async fn until_judged(&self) -> anyhow::Result<Status> {
        let (mut judged, mut since) = (0, Instant::now());
        loop {
            let status: Status = self.get("/api/v1/status").await?;
            if status.samples_received >= self.samples && status.journal_waiting_bytes == 0 {
                return Ok(status);
            }
            if status.samples_judged > judged {
                (judged, since) = (status.samples_judged, Instant::now());
            } else if since.elapsed() > PATIENCE {
                bail!(
                    "{} bytes in the journal are not judged, and nothing happens",
                    status.journal_waiting_bytes
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks for all pages of the list at `path`.
    ///
    /// # Errors
    /// When an answer is not a success or not what was asked for.
    pub(super) async fn list<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        loop {
            let page: Paged<T> = self.get(&format!("{path}?limit={PAGE}&offset={}", all.len())).await?;
            let done = page.data.is_empty();
            all.extend(page.data);
            if done || all.len() >= page.total {
                return Ok(all);
            }
        }
    }

    fn push_step(&mut self, world: &mut World) {
        let timestamp = world.now();
        world.step(|labels, value| self.builder.push(&[labels.as_bytes()], Sample { timestamp, value }));
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        let samples = self.builder.samples();
        let body = Bytes::from(snappy::compress(&self.builder.finish()));
        loop {
            let request = Request::post(self.uri("/api/v1/write"))
                .header(CONTENT_TYPE, "application/x-protobuf")
                .header(CONTENT_ENCODING, "snappy")
                .header("X-Prometheus-Remote-Write-Version", "0.1.0")
                .body(Full::new(body.clone()))?;
            let answer = self.client.request(request).await.context("post to /api/v1/write")?;
            let (head, answer) = answer.into_parts();
            let text = answer.collect().await.context("read the answer of /api/v1/write")?.to_bytes();
            match head.status {
                StatusCode::SERVICE_UNAVAILABLE => tokio::time::sleep(retry_after(&head.headers)).await,
                status if status.is_success() => break,
                status => bail!("/api/v1/write answers {status}: {}", String::from_utf8_lossy(&text)),
            }
        }
        self.samples += samples as u64;
        Ok(())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let request = Request::get(self.uri(path)).body(Full::default())?;
        let answer = self.client.request(request).await.with_context(|| format!("ask {path}"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.with_context(|| format!("read {path}"))?.to_bytes();
        if !status.is_success() {
            bail!("{path} answers {status}: {}", String::from_utf8_lossy(&body));
        }
        serde_json::from_slice(&body).with_context(|| format!("understand {path}"))
    }

    fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1))
}

/// Tells on standard error how far it is: one line that is rewritten on a terminal, else a line per tenth.
struct Progress {
    start: i64,
    end: i64,
    began: Instant,
    rewrites: bool,
    told: Option<i64>,
}

impl Progress {
    fn new(start: i64, end: i64) -> Self {
        let rewrites = std::io::stderr().is_terminal();
        Self { start, end, began: Instant::now(), rewrites, told: None }
    }

    fn tell(&mut self, now: i64, samples: u64) {
        let percent = (now - self.start) * 100 / (self.end - self.start).max(1);
        let due = if self.rewrites { percent } else { percent / 10 };
        if self.told.replace(due) == Some(due) {
            return;
        }
        let rate = samples as f64 / self.began.elapsed().as_secs_f64().max(1e-3);
        let (before, after) = match (self.rewrites, percent) {
            (true, 100) => ("\r", "\n"),
            (true, _) => ("\r", ""),
            (false, _) => ("", "\n"),
        };
        let text = format!("{before}sent {percent:>3} %: {samples} samples, {rate:.0} samples/s  {after}");
        // Progress that cannot be shown is no reason to stop.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
