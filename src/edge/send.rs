//! What waits in the journal to the targets: in order, retried with the same bytes, at the price of the bad ones only.
//!
//! Each target has one lane for each stream of derived requests, and a forward target one for the requests as they
//! came. A lane reads the journal from its cursor, has one request in flight, and moves the cursor when the request is
//! done. Derived requests that wait are sent as one, as far as the target takes so many samples at once; what is not
//! taken so goes one by one. Targets do not know of each other: a dead one holds up nobody, and costs no memory, since
//! what waits for it waits in the journal.
//!
//! A derived request ends in one of two ways: taken, or given up with its samples counted by reason. Reasons:
//! `queue_full` (the journal is at its limit), `too_old`, `rejected` (the target judged the sample), `poisoned` (the
//! target fails on the sample again and again, but not on others), `target_removed`, and `shutdown` where the journal
//! ends with the process. The rules of giving up are those of `bisect`.

mod bisect;
mod client;
mod delivery;
mod feed;
mod forward;
mod lane;
mod outcome;
mod passage;
mod place;
mod retry;
pub mod spec;
mod tally;
mod target;
mod throttle;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use self::feed::Feed;
use self::forward::Forward;
use self::lane::Lane;
use self::passage::Passage;
use self::place::Place;
pub use self::spec::{Secret, TargetSpec};
use self::target::Target;
use super::clock::unix_ms;
use super::journal::{FORWARD, Journal};
use super::telemetry::Metrics;
use crate::wire::snappy;

/// Bytes of a derived request before compression: a group of samples past so many ends it. Receivers refuse what is much
/// larger.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;

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

impl Outgoing {
    /// One request of several, in their order, which are no larger together than a request may be.
    fn joined(all: &[Self]) -> Self {
        let bodies: Vec<&[u8]> = all.iter().map(|one| &*one.body).collect();
        let body = snappy::join(&bodies, REQUEST_BYTES_MAX).expect("what is joined is not too large");
        Self {
            body: body.into(),
            samples: all.iter().map(|one| one.samples).sum(),
            oldest: all.iter().map(|one| one.oldest).min().unwrap_or(i64::MAX),
            newest: all.iter().map(|one| one.newest).max().unwrap_or(i64::MIN),
        }
    }
}

/// Tells the time, milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The clock of the machine.
pub fn system_clock() -> Clock {
    Arc::new(unix_ms)
}

/// All remote ends, each with its lanes.
pub struct Targets {
    running: RwLock<Vec<Running>>,
    journal: Arc<Journal>,
    metrics: Arc<Metrics>,
    clock: Clock,
    runtime: Handle,
}

/// The specifications of all remote ends. Names are unique among both kinds.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Specs {
    /// Where derived requests go.
    pub remote_write: Vec<TargetSpec>,
    /// Where requests go as they came.
    pub forward: Vec<TargetSpec>,
}

/// A target and its tasks.
struct Running {
    target: Arc<Target>,
    phase: watch::Sender<Phase>,
    tasks: Vec<JoinHandle<usize>>,
}

/// What the lanes of a target are to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Send, and wait for more.
    Run,
    /// Send, and end when nothing waits.
    Drain,
    /// End at once. What is in hand is counted for this reason; without one it stays in the journal.
    Stop(Option<&'static str>),
}

/// What a target is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    RemoteWrite,
    Forward,
}

/// Which records of the journal a lane sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// Derived requests of this stream.
    Derived(u16),
    /// Requests as they came, once they are durable.
    Forward,
}

impl Targets {
    /// Starts the lanes of all of `specs`, where the journal says that they are; a target that it does not know begins
    /// with what is appended from now on. What waits for targets that are not among `specs` is dropped and counted.
    ///
    /// There are as many lanes as the journal has streams now: its rules have to be in it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time and network.
    pub fn start(specs: Specs, journal: Arc<Journal>, metrics: Arc<Metrics>) -> Self {
        Self::start_at(specs, journal, metrics, system_clock())
    }

    /// Like [`start`](Self::start), with the age of samples judged by `clock`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time and network.
    pub fn start_at(specs: Specs, journal: Arc<Journal>, metrics: Arc<Metrics>, clock: Clock) -> Self {
        let targets =
            Self { running: RwLock::default(), journal, metrics, clock, runtime: Handle::current() };
        targets.forget_unknown(&specs);
        targets.replace(specs);
        targets
    }

    /// Samples that a derived request may have for every target to take it; 0 without any target for them.
    pub fn max_samples_per_send(&self) -> usize {
        let running = self.running();
        let takers = running.iter().filter(|one| one.target.kind == Kind::RemoteWrite);
        takers.map(|one| one.target.endpoint().spec.max_samples_per_send).min().unwrap_or(0)
    }

    /// Makes `specs` the targets from now on.
    ///
    /// A target is known by its name. One that stays goes on where it is, and is sent to as its new specification
    /// says. What waits for one that goes is dropped and counted as `target_removed`; this reads it, which takes
    /// about a second for each GiB.
    pub fn replace(&self, specs: Specs) {
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *running);
        let Specs { remote_write, forward } = specs;
        let remote_write = remote_write.into_iter().map(|spec| (spec, Kind::RemoteWrite));
        let wanted: Vec<_> =
            remote_write.chain(forward.into_iter().map(|spec| (spec, Kind::Forward))).collect();
        let stays = |one: &Running| {
            wanted.iter().any(|(spec, kind)| one.target.name() == spec.name && one.target.kind == *kind)
        };
        // First, since one of the other kind may come under the same name.
        for gone in before.extract_if(.., |one| !stays(one)) {
            gone.target.remove();
            gone.phase.send_replace(Phase::Stop(Some("target_removed")));
        }
        for (spec, kind) in wanted {
            let known = before.iter().position(|one| one.target.name() == spec.name);
            running.push(match known {
                Some(at) => before.swap_remove(at).updated(spec),
                None => self.spawn(spec, kind),
            });
        }
    }

    /// Lets go what waits below the sequence `before`, and counts it as `queue_full`, for all targets that allow it;
    /// what is in hand is still sent. Returns whether one that does not allow it still has to get something of it.
    ///
    /// Reads that part of the journal; not for a thread that must not wait.
    pub fn make_room(&self, before: u64) -> bool {
        // All of them, not only up to the first that holds back.
        let held = self.running().iter().filter(|one| one.target.make_room(before)).count();
        held > 0
    }

    /// Tells by metrics how much waits for each target. To be called once a second or so.
    pub fn tell(&self) {
        let now = (self.clock)();
        self.running().iter().for_each(|one| one.target.tell(now));
    }

    /// Sends what waits, for `deadline` at most; then stops all targets.
    ///
    /// What was not sent by then stays in the journal. Where that ends with the process, it is counted as `shutdown`,
    /// samples and requests to be forwarded, and returned, summed over the targets; 0 else. A request that is in
    /// flight at the deadline counts as not sent, though it may arrive.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let until = Instant::now() + deadline;
        let running = {
            let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *running)
        };
        running.iter().for_each(|one| one.phase.send_modify(|phase| *phase = Phase::Drain));
        let reason = (!self.journal.is_durable()).then_some("shutdown");
        let mut left = 0;
        for one in running {
            left += one.end(until, reason).await;
        }
        left
    }

    fn running(&self) -> RwLockReadGuard<'_, Vec<Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and forgets what waits for targets that are gone, or are of the other kind now.
    fn forget_unknown(&self, specs: &Specs) {
        let named = |specs: &[TargetSpec], name: &str| specs.iter().any(|spec| spec.name == name);
        for name in self.journal.targets() {
            let forwarded = self.journal.cursor(&name, FORWARD).is_some();
            let stays =
                if forwarded { named(&specs.forward, &name) } else { named(&specs.remote_write, &name) };
            if !stays {
                let kind = if forwarded { Kind::Forward } else { Kind::RemoteWrite };
                // It is never sent to, so it matters to nobody where it was.
                let spec = TargetSpec::new(hyper::Uri::default(), name);
                Target::new(spec, kind, &self.journal, Arc::clone(&self.metrics)).remove();
            }
        }
    }

    fn spawn(&self, spec: TargetSpec, kind: Kind) -> Running {
        let target = Arc::new(Target::new(spec, kind, &self.journal, Arc::clone(&self.metrics)));
        let passage = Arc::new(Passage::new(target.places.iter().map(|place| place.next()).collect()));
        let (phase, watched) = watch::channel(Phase::Run);
        let feed = |place: &Arc<Place>| {
            Feed::new(Arc::clone(place), Arc::clone(&passage), watched.clone(), Arc::clone(&self.journal))
        };
        let lane = |place: &Arc<Place>| {
            let (target, feed, watched) = (Arc::clone(&target), feed(place), watched.clone());
            match kind {
                Kind::RemoteWrite => {
                    let clock = Arc::clone(&self.clock);
                    self.runtime.spawn(Lane { target, feed, clock, asked: 0 }.run(watched))
                }
                Kind::Forward => self.runtime.spawn(Forward { target, feed }.run(watched)),
            }
        };
        let tasks = target.places.iter().map(lane).collect();
        Running { target, phase, tasks }
    }
}

impl Kind {
    /// What is counted where it is dropped.
    const fn unit(self) -> &'static str {
        match self {
            Self::RemoteWrite => "samples",
            Self::Forward => "requests to be forwarded",
        }
    }
}

impl Running {
    fn updated(self, spec: TargetSpec) -> Self {
        self.target.update(spec);
        self
    }

    /// Waits for the lanes until `until`, then stops them. Counts what is left for `reason`, where there is one, and
    /// returns it.
    async fn end(self, until: Instant, reason: Option<&'static str>) -> usize {
        let mut left = 0;
        for mut task in self.tasks {
            let ended = match timeout_at(until, &mut task).await {
                Ok(ended) => ended,
                Err(_) => {
                    self.phase.send_replace(Phase::Stop(reason));
                    task.await
                }
            };
            left += ended.unwrap_or_default();
        }
        left + reason.map_or(0, |reason| self.target.give_up_all(reason))
    }
}

impl fmt::Debug for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.running();
        let names = running.iter().map(|one| one.target.name());
        f.debug_list().entries(names).finish()
    }
}
