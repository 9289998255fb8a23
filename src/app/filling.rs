//! What happened while the process was away, fetched from where it is known and put into the journal.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::edge::clock::unix_ms;
use crate::edge::history::{self, Body, HistorySpec};
use crate::edge::journal::{Full, Journal, Received};
use crate::engine::monitor::Plan;
use crate::wire::decode::{self, Limits, Protocol};
use crate::wire::snappy;

/// Samples before the last record that are asked for again, in milliseconds: a sender may have had them in hand. What
/// was judged already is passed over.
const OVERLAP_MS: i64 = 60_000;
/// A gap that is shorter is left to senders, who still have it.
const GAP_MS_MIN: i64 = 30_000;
/// How long engines may keep a part waiting.
const ROOM_WAIT: Duration = Duration::from_secs(30);
/// How long to wait before asking for room again.
const ROOM_STEP: Duration = Duration::from_millis(20);

/// Fills the gap that begins with a record that arrived at `begin`. What cannot be had is told of and left out.
pub(super) async fn fill(spec: &HistorySpec, plan: &Plan, journal: &Journal, begin: i64) {
    let gap = begin.saturating_sub(OVERLAP_MS)..unix_ms();
    if gap.end.saturating_sub(begin) < GAP_MS_MIN {
        return;
    }
    let url = spec.shown_url();
    match fill_gap(spec, plan, journal, gap).await {
        Ok(samples) => tracing::info!(samples, url, "the gap since the last record is filled from history"),
        Err(error) => {
            tracing::warn!(url, error, "the gap since the last record could not be filled from history");
        }
    }
}

async fn fill_gap(
    spec: &HistorySpec,
    plan: &Plan,
    journal: &Journal,
    gap: Range<i64>,
) -> Result<usize, String> {
    let selectors: Vec<_> = plan.monitors.iter().map(|monitor| monitor.select.clone()).collect();
    let mut filling = history::fill(spec, &selectors, gap).map_err(|error| error.to_string())?;
    let mut samples = 0;
    while let Some(bodies) = filling.next().await.map_err(|error| error.to_string())? {
        for body in bodies {
            samples += body.samples;
            append(journal, body).await?;
        }
    }
    Ok(samples)
}

async fn append(journal: &Journal, body: Body) -> Result<(), String> {
    let raw = snappy::decompress(&body.bytes, usize::MAX).map_err(|error| error.to_string())?;
    let received =
        Received { protocol: Protocol::V1, body: body.bytes.into(), latest: i64::MAX, forward: false };
    let deadline = Instant::now() + ROOM_WAIT;
    loop {
        let decoded = decode::decode(Protocol::V1, raw.clone(), &Limits::default(), received.latest);
        let batch = decoded.map_err(|malformed| malformed.to_string())?.batch;
        match journal.append_request(unix_ms(), Instant::now(), &received, batch) {
            Ok(_) => return Ok(()),
            Err(Full::NoRoom { .. }) if Instant::now() < deadline => tokio::time::sleep(ROOM_STEP).await,
            Err(full) => return Err(full.to_string()),
        }
    }
}
