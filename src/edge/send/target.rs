//! One remote end: its queue and client, and how what happens to it is counted and logged.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;

use super::client::{Answer, Client, Endpoint};
use super::delivery::{Loss, Part};
use super::outcome::Outcome;
use super::queue::Queue;
use super::spec::TargetSpec;
use super::throttle::Throttle;
use crate::edge::telemetry::{LabelSet, Metrics, count};

/// What the lanes of one target share.
#[derive(Debug)]
pub(super) struct Target {
    name: String,
    endpoint: Mutex<Arc<Endpoint>>,
    client: Client,
    pub(super) queue: Queue,
    metrics: Arc<Metrics>,
    up: Gauge,
    troubles: Mutex<Throttle>,
    losses: Mutex<Throttle>,
}

impl Target {
    /// A target without lanes yet.
    pub(super) fn new(spec: TargetSpec, lanes: usize, metrics: Arc<Metrics>) -> Self {
        let labels = labels(&spec.name);
        let bytes = metrics.remote_write_queue_bytes.get_or_create_owned(&labels);
        Self {
            name: spec.name.clone(),
            client: Client::new(),
            queue: Queue::new(lanes, spec.queue_bytes_max, bytes),
            up: metrics.remote_write_up.get_or_create_owned(&labels),
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
        if self.endpoint().spec == spec {
            return;
        }
        self.dropped(self.queue.resize(spec.queue_bytes_max), "queue_full");
        *lock(&self.endpoint) = Arc::new(Endpoint::new(spec));
    }

    /// Posts `part` once, and counts and logs how it was taken.
    pub(super) async fn post(&self, part: Part) -> Outcome {
        let endpoint = self.endpoint();
        let answer = self.client.post(&endpoint, Bytes::clone(&part.body)).await;
        let labels = vec![("target", self.name.clone()), ("outcome", answer.outcome.name().to_owned())];
        self.metrics.remote_write_requests.get_or_create(&labels).inc();
        self.up.set(i64::from(answer.outcome == Outcome::Accepted));
        match answer.outcome {
            Outcome::Accepted => {
                count(&self.metrics.remote_write_samples, "target", &self.name, part.samples as u64);
            }
            Outcome::Recoverable { .. } | Outcome::Rejected { .. } => self.tell_of_trouble(&answer),
        }
        answer.outcome
    }

    /// Counts `samples` that this target will not get.
    pub(super) fn dropped(&self, samples: usize, reason: &'static str) {
        count(&self.metrics.derived_dropped, "reason", reason, samples as u64);
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

    /// Ends the target: nothing waits for it any more and no metric tells its state. Returns the samples
    /// that waited.
    pub(super) fn close(&self) -> usize {
        let samples = self.queue.close();
        let labels = labels(&self.name);
        self.metrics.remote_write_queue_bytes.remove(&labels);
        self.metrics.remote_write_up.remove(&labels);
        samples
    }

    fn tell_of_trouble(&self, answer: &Answer) {
        if let Some(suppressed) = lock(&self.troubles).pass(Instant::now()) {
            let (remote, outcome) = (self.name.as_str(), answer.outcome.name());
            tracing::warn!(remote, outcome, suppressed, "request not taken: {}", answer.detail);
        }
    }
}

fn labels(name: &str) -> LabelSet {
    vec![("target", name.to_owned())]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
