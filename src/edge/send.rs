//! Derived samples to the targets: in order, retried with the same bytes, at the price of the bad ones only.
//!
//! Each target has one lane for each engine shard, and each lane one request in flight. Targets do not know
//! of each other: a dead one holds up nobody. What waits is bounded by bytes, and lives in memory.
//!
//! A request ends in one of three ways: taken, given up with its samples counted by reason, or left at
//! shutdown and counted. Reasons: `queue_full`, `too_old`, `rejected` (the target judged the sample),
//! `poisoned` (the target fails on the sample again and again, but not on others), `target_removed`,
//! `shutdown`. The rules of giving up are those of `bisect`.

mod bisect;
mod client;
mod delivery;
mod lane;
mod outcome;
mod queue;
mod retry;
pub mod spec;
mod target;
mod throttle;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use self::lane::{Lane, Stop};
pub use self::spec::{Secret, TargetSpec};
use self::target::Target;
use super::clock::unix_ms;
use super::telemetry::Metrics;

/// A remote-write 1.0 request, ready to be posted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Block snappy; each retry sends the same bytes.
    pub body: Bytes,
    /// Samples in it.
    pub samples: usize,
    /// Timestamp of its oldest sample, milliseconds.
    pub oldest: i64,
    /// Timestamp of its newest sample, milliseconds. Decides whether the request is too old to be sent.
    pub newest: i64,
}

/// Tells the time, milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The clock of the machine.
pub fn system_clock() -> Clock {
    Arc::new(unix_ms)
}

/// All remote ends, each with its queue and its lanes.
pub struct Targets {
    running: RwLock<Vec<Running>>,
    lanes: usize,
    metrics: Arc<Metrics>,
    clock: Clock,
    runtime: Handle,
}

/// A target and its tasks.
struct Running {
    target: Arc<Target>,
    stop: watch::Sender<Stop>,
    tasks: Vec<JoinHandle<usize>>,
}

impl Targets {
    /// Starts `lanes` (at least 1) tasks for each of `specs`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time and network.
    pub fn start(specs: Vec<TargetSpec>, lanes: usize, metrics: Arc<Metrics>) -> Self {
        Self::start_at(specs, lanes, metrics, system_clock())
    }

    /// Like [`start`](Self::start), with the age of samples judged by `clock`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time and network.
    pub fn start_at(specs: Vec<TargetSpec>, lanes: usize, metrics: Arc<Metrics>, clock: Clock) -> Self {
        let lanes = lanes.max(1);
        let targets = Self { running: RwLock::default(), lanes, metrics, clock, runtime: Handle::current() };
        targets.replace(specs);
        targets
    }

    /// Lets `request` wait for every target. The oldest of a target go where its queue is full.
    ///
    /// Requests of one lane are sent in the order in which they are offered. Never blocks for long, and
    /// needs no runtime. A lane beyond those that run is taken modulo their number.
    pub fn offer(&self, lane: usize, request: Arc<Outgoing>) {
        let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
        for Running { target, .. } in running.iter() {
            let dropped = target.queue.push(lane % self.lanes, Arc::clone(&request));
            target.dropped(dropped, "queue_full");
        }
    }

    /// Samples that a request may have for every target to take it; 0 without any target.
    pub fn max_samples_per_send(&self) -> usize {
        let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
        running.iter().map(|one| one.target.endpoint().spec.max_samples_per_send).min().unwrap_or(0)
    }

    /// Makes `specs` the targets from now on.
    ///
    /// A target is known by its name. One that stays keeps its queue and is sent to as its new
    /// specification says; what waits for one that goes is dropped and counted as `target_removed`.
    pub fn replace(&self, specs: Vec<TargetSpec>) {
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *running);
        for spec in specs {
            let known = before.iter().position(|one| one.target.name() == spec.name);
            running.push(match known {
                Some(at) => before.swap_remove(at).updated(spec),
                None => self.spawn(spec),
            });
        }
        for gone in before {
            gone.target.dropped(gone.target.close(), "target_removed");
            gone.stop.send_replace(Some("target_removed"));
        }
    }

    /// Sends what waits, for `deadline` at most; then stops all targets. Returns the samples that were not
    /// delivered, summed over the targets; they are counted as `shutdown`.
    ///
    /// A request that is in flight at the deadline counts as not delivered, though it may arrive.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let until = Instant::now() + deadline;
        let running = {
            let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *running)
        };
        running.iter().for_each(|one| one.target.queue.drain());
        let mut left = 0;
        for one in running {
            left += one.end(until).await;
        }
        left
    }

    fn spawn(&self, spec: TargetSpec) -> Running {
        let target = Arc::new(Target::new(spec, self.lanes, Arc::clone(&self.metrics)));
        let (stop, stopped) = watch::channel(None);
        let lane = |number| Lane {
            target: Arc::clone(&target),
            number,
            clock: Arc::clone(&self.clock),
            stop: stopped.clone(),
        };
        let tasks = (0..self.lanes).map(|number| self.runtime.spawn(lane(number).run())).collect();
        Running { target, stop, tasks }
    }
}

impl Running {
    fn updated(self, spec: TargetSpec) -> Self {
        self.target.update(spec);
        self
    }

    /// Waits for the lanes until `until`, then stops them. Returns the samples that were left.
    async fn end(self, until: Instant) -> usize {
        let mut left = 0;
        for mut task in self.tasks {
            let ended = match timeout_at(until, &mut task).await {
                Ok(ended) => ended,
                Err(_) => {
                    self.stop.send_replace(Some("shutdown"));
                    task.await
                }
            };
            left += ended.unwrap_or_default();
        }
        let waiting = self.target.close();
        self.target.dropped(waiting, "shutdown");
        left + waiting
    }
}

impl fmt::Debug for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.running.read().unwrap_or_else(PoisonError::into_inner);
        let names = running.iter().map(|one| one.target.name());
        f.debug_list().entries(names).finish()
    }
}
