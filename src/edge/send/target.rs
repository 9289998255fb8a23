//! One remote end: where its lanes are, its client, and how what happens to it is counted and logged.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;

use super::client::{Answer, Client, Endpoint, Speaks};
use super::delivery::{Loss, Part, RAW_BYTES_MAX};
use super::outcome::Outcome;
use super::place::{GivenUp, Place};
use super::retry::Backoff;
use super::spec::{TargetSpec, WhenFull};
use super::tally::{has_any, tally};
use super::throttle::Throttle;
use super::{Kind, Source};
use crate::edge::journal::{FORWARD, Journal, Received};
use crate::edge::telemetry::{LabelSet, Metrics, count};
use crate::wire::decode::Protocol;
use crate::wire::{encode, snappy};

/// What the lanes of one target share.
#[derive(Debug)]
pub(super) struct Target {
    name: String,
    pub(super) kind: Kind,
    pub(super) places: Vec<Arc<Place>>,
    journal: Arc<Journal>,
    endpoint: Mutex<Arc<Endpoint>>,
    client: Client,
    metrics: Arc<Metrics>,
    up: Gauge,
    pending: Gauge,
    lag: Gauge<f64, AtomicU64>,
    troubles: Mutex<Throttle>,
    losses: Mutex<Throttle>,
}

impl Target {
    /// A target without lanes yet. One that the log does not know begins with what comes from now on.
    pub(super) fn new(spec: TargetSpec, kind: Kind, journal: &Arc<Journal>, metrics: Arc<Metrics>) -> Self {
        let labels = labels(&spec.name);
        Self {
            name: spec.name.clone(),
            kind,
            places: places(journal, &spec.name, kind),
            journal: Arc::clone(journal),
            client: Client::new(),
            up: metrics.remote_write_up.get_or_create_owned(&labels),
            pending: metrics.remote_write_pending_bytes.get_or_create_owned(&labels),
            lag: metrics.remote_write_lag.get_or_create_owned(&labels),
            metrics,
            troubles: Mutex::default(),
            losses: Mutex::default(),
            endpoint: Mutex::new(Arc::new(Endpoint::new(spec))),
        }
    }

    /// Value of the label `target`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where and how to post now.
    pub(super) fn endpoint(&self) -> Arc<Endpoint> {
        Arc::clone(&lock(&self.endpoint))
    }

    /// Sends by `spec` from the next request on. What waits stays.
    pub(super) fn update(&self, spec: TargetSpec) {
        if self.endpoint().spec != spec {
            *lock(&self.endpoint) = Arc::new(Endpoint::new(spec));
        }
    }

    /// Pauses between the attempts of one request.
    pub(super) fn backoff(&self) -> Backoff {
        let spec = &self.endpoint().spec;
        Backoff::new(spec.backoff_min, spec.backoff_max)
    }

    /// Posts `part` once, and counts and logs how it was taken.
    ///
    /// A target that does not seem to speak version 2.0 is sent the part again at once, in 1.0.
    pub(super) async fn post(&self, part: Part) -> Outcome {
        let endpoint = self.endpoint();
        let samples = part.samples as u64;
        let answer = match upgraded(&endpoint, &part).await {
            None => self.client.post(&endpoint, Protocol::V1, part.body).await,
            Some(body) => self.post_upgraded(&endpoint, body, part.body).await,
        };
        if answer.outcome == Outcome::Accepted {
            count(&self.metrics.remote_write_samples, "target", &self.name, samples);
        }
        self.took(&answer)
    }

    /// Posts `body`, of version 2.0, and if that is not understood `older`, which is the same in 1.0.
    async fn post_upgraded(&self, endpoint: &Endpoint, body: Bytes, older: Bytes) -> Answer {
        let answer = self.client.post(endpoint, Protocol::V2, body).await;
        let speaks = answer.speaks();
        if speaks == Speaks::Version2 {
            return answer;
        }
        self.count_requests(1, "unsupported");
        let again = self.client.post(endpoint, Protocol::V1, older).await;
        // What is refused in either version is refused for what is in it.
        if (speaks == Speaks::Version1 || again.outcome == Outcome::Accepted) && endpoint.fall_back() {
            let (remote, detail) = (self.name.as_str(), answer.detail.as_str());
            tracing::warn!(remote, detail, "does not speak remote write 2.0; it is sent 1.0 from now on");
        }
        again
    }

    /// Posts `request` once as it came, and counts and logs how it was taken.
    pub(super) async fn forward(&self, request: &Received) -> Outcome {
        self.took(&self.client.post(&self.endpoint(), request.protocol, request.body.clone()).await)
    }

    fn took(&self, answer: &Answer) -> Outcome {
        self.count_requests(1, answer.outcome.name());
        self.up.set(i64::from(answer.outcome == Outcome::Accepted));
        if answer.outcome != Outcome::Accepted {
            self.tell_of_trouble(answer);
        }
        answer.outcome
    }

    /// Counts what this target will not get: samples, or requests that were to be forwarded.
    pub(super) fn dropped(&self, amount: usize, reason: &'static str) {
        match self.kind {
            Kind::RemoteWrite => count(&self.metrics.derived_dropped, "reason", reason, amount as u64),
            Kind::Forward => self.count_requests(amount as u64, reason),
        }
    }

    /// Counts and logs samples that the target does not take.
    pub(super) fn lost(&self, loss: &Loss) {
        self.dropped(loss.samples, loss.reason);
        if let Some(suppressed) = lock(&self.losses).pass(Instant::now()) {
            let Loss { samples, reason, labels } = loss;
            let remote = self.name.as_str();
            tracing::warn!(remote, samples, reason, suppressed, "samples dropped, first of series {labels}");
        }
    }

    /// Lets go what waits below `before`, and counts it; or tells that it may not go.
    pub(super) fn make_room(&self, before: u64) -> bool {
        match self.endpoint().spec.when_full {
            WhenFull::HoldBack => self.places.iter().any(|place| self.holds(place, before)),
            WhenFull::DropOldest => {
                let given_up = |place: &Arc<Place>| Some((place.stream, place.give_up(before)?));
                let given_up: Vec<_> = self.places.iter().filter_map(given_up).collect();
                self.give_up(&given_up, before, "queue_full");
                false
            }
        }
    }

    fn holds(&self, place: &Place, before: u64) -> bool {
        let next = place.next();
        let waits = next < before && has_any(&self.journal, Source::of(place.stream), next, before);
        waits || !place.settle(before)
    }

    /// Ends the target: what waits for it is counted, nothing is kept for it any more, and no metric tells its state.
    pub(super) fn remove(&self) {
        self.give_up_all("target_removed");
        self.journal.forget_target(&self.name);
        let labels = labels(&self.name);
        self.metrics.remote_write_pending_bytes.remove(&labels);
        self.metrics.remote_write_lag.remove(&labels);
        self.metrics.remote_write_up.remove(&labels);
    }

    /// Counts all that waits, since nobody will send it. Returns how much it is.
    pub(super) fn give_up_all(&self, reason: &'static str) -> usize {
        let given_up: Vec<_> = self.places.iter().map(|place| (place.stream, place.close())).collect();
        self.give_up(&given_up, self.journal.end(), reason)
    }

    fn give_up(&self, given_up: &[(u16, GivenUp)], below: u64, reason: &'static str) -> usize {
        let amount = tally(&self.journal, given_up, below);
        self.dropped(amount, reason);
        if amount > 0 {
            let (remote, what) = (self.name.as_str(), self.kind.unit());
            tracing::warn!(remote, amount, reason, "{what} dropped from the journal before they were sent");
        }
        amount
    }

    /// Tells by metrics how much waits and for how long, at `now`.
    pub(super) fn tell(&self, now: i64) {
        let bytes = self.journal.needed_by(&self.name).map_or(0, |needed| self.journal.bytes_since(needed));
        self.pending.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let oldest = self.places.iter().filter_map(|place| place.arrival()).min();
        let lag = oldest.map_or(0, |oldest| now.saturating_sub(oldest).max(0));
        self.lag.set(lag as f64 / 1000.0);
    }

    fn count_requests(&self, requests: u64, outcome: &str) {
        if requests > 0 {
            let labels = vec![("target", self.name.clone()), ("outcome", outcome.to_owned())];
            self.metrics.remote_write_requests.get_or_create(&labels).inc_by(requests);
        }
    }

    fn tell_of_trouble(&self, answer: &Answer) {
        if let Some(suppressed) = lock(&self.troubles).pass(Instant::now()) {
            let (remote, outcome) = (self.name.as_str(), answer.outcome.name());
            tracing::warn!(remote, outcome, suppressed, "request not taken: {}", answer.detail);
        }
    }
}

/// What to post instead of `part` where the target is sent version 2.0: the same bytes on every retry. What is no request
/// goes as it is. That takes milliseconds, for which others do not wait.
async fn upgraded(endpoint: &Endpoint, part: &Part) -> Option<Bytes> {
    if endpoint.protocol() == Protocol::V1 {
        return None;
    }
    let body = part.body.clone();
    let upgrade = move || {
        let raw = snappy::decompress(&body, RAW_BYTES_MAX).ok()?;
        Some(Bytes::from(snappy::compress(&encode::upgrade(&raw)?)))
    };
    tokio::task::spawn_blocking(upgrade).await.ok()?
}

/// Where each lane begins: as the log says, or with what comes from now on.
fn places(journal: &Arc<Journal>, name: &str, kind: Kind) -> Vec<Arc<Place>> {
    let streams: Vec<u16> = match kind {
        Kind::RemoteWrite => (0..journal.streams()).collect(),
        Kind::Forward => vec![FORWARD],
    };
    // A stream that is new to a target that is not: it begins where the target is.
    let known = streams.iter().filter_map(|stream| journal.cursor(name, *stream)).min();
    let start = known.unwrap_or_else(|| journal.end());
    streams.into_iter().map(|stream| Arc::new(Place::new(journal, name, stream, start))).collect()
}

fn labels(name: &str) -> LabelSet {
    vec![("target", name.to_owned())]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
