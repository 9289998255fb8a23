//! The stage of a trial: a directory, the program in it, its senders, its target, and the ledger between them.

use std::env;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::ledger::{Balance, Ledger};
use super::load::{Load, UPPER};
use super::random::Random;
use super::sink::{Mood, Sink};
use super::support::peers::{Peer, Program, free_addr};
use super::support::stores::write;
use super::support::{http, pass};

/// The journal of a trial, unless `PROMANTIS_JOURNAL` says otherwise. Snapshots are hurried, so that lives of less
/// than a second have them.
pub(crate) const DURABLE: &str = "{path: data, sync: batch, snapshot_interval: 100ms}";
/// A journal that does not outlive its process.
pub(crate) const FORGETFUL: &str = "{path: memory}";

/// Few, so that what is in flight at a crash is little beside what is not.
const SAMPLES_PER_SEND: usize = 50;
/// A start that takes longer has failed.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked whether it is ready.
const START_PROBE: Duration = Duration::from_millis(1);
/// Open derived samples from which on a trial would be about a full journal.
const BEHIND: usize = 1_000_000;
/// Senders that are answered at all are answered within this.
const SOON: Duration = Duration::from_millis(50);
/// What does not arrive for so long, while nothing is said to wait, will not arrive.
const QUIET: Duration = Duration::from_secs(3);
/// The same where something is said to wait.
const STUCK: Duration = Duration::from_secs(30);
/// Bytes that wait for the target.
const PENDING: &str = "promantis_remote_write_pending_bytes{target=\"sink\"}";

/// The journal that `PROMANTIS_JOURNAL` asks for, as a value of the configuration, or the durable one.
pub(crate) fn journal() -> String {
    env::var("PROMANTIS_JOURNAL").unwrap_or_else(|_| DURABLE.to_owned())
}

/// Derived samples that may be on their way to the target at one moment: a request of each shard.
pub(crate) fn in_flight_max() -> usize {
    available_parallelism().map_or(1, NonZero::get) * SAMPLES_PER_SEND
}

/// Everything but the program, which comes and goes.
pub(crate) struct Stage {
    pub(crate) sink: Sink,
    ledger: Arc<Mutex<Ledger>>,
    load: Load,
    program: std::net::SocketAddr,
    config: String,
    dir: TempDir,
}

impl Stage {
    /// Sets the stage and starts the senders, who find nobody yet.
    pub(crate) fn set(journal: &str, random: &mut Random) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let base = promantis::edge::clock::unix_ms();
        let (program, target) = (free_addr(), free_addr());
        let config = format!(
            "journal: {journal}
remote_write:
  - {{name: sink, url: \"http://{target}/api/v1/write\", max_samples_per_send: {SAMPLES_PER_SEND}, max_sample_age: 0, max_backoff: 100ms}}
monitors:
  - {{name: hard, select: load, detectors: [static], static: {{upper: {UPPER}}}}}
"
        );
        let config = write(dir.path(), "promantis.yml", &config);
        let ledger = Arc::new(Mutex::new(Ledger::new()));
        let sink = Sink::start(target, base, &ledger, Random::new(random.draw()));
        let load = Load::start(program, base, &ledger);
        Self { sink, ledger, load, program, config, dir }
    }

    /// Starts the program and does not wait for it. What it said in its last life is gone.
    pub(crate) fn spawn(&self) -> Peer {
        let program =
            Program { name: env!("CARGO_BIN_EXE_promantis"), addr: self.program, ready: "/-/ready" };
        let arguments =
            ["serve".into(), format!("--config={}", self.config), format!("--listen={}", self.program)];
        Peer::spawn(&program, self.dir.path(), &arguments)
    }

    /// Starts the program and tells how long it took to be ready.
    pub(crate) fn start(&self) -> (Peer, Duration) {
        let begun = Instant::now();
        let mut peer = self.spawn();
        while !http::get(self.program, "/-/ready").is_ok_and(|reply| reply.status == 200) {
            peer.check();
            assert!(begun.elapsed() < START_PATIENCE, "{peer:?} is not ready within {START_PATIENCE:?}");
            pass(START_PROBE);
        }
        (peer, begun.elapsed())
    }

    /// The folder of what the program keeps, if it keeps anything.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What was sent and what came of it.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Whether so much is open that the target should be up.
    pub(crate) fn is_behind(&self) -> bool {
        lock(&self.ledger).open() > BEHIND
    }

    /// Waits for the moment that something is acknowledged, if it comes soon.
    pub(crate) fn wait_for_acknowledgement(&self) {
        let (begun, seen) = (Instant::now(), lock(&self.ledger).acknowledgements());
        while lock(&self.ledger).acknowledgements() == seen && begun.elapsed() < SOON {
            std::thread::yield_now();
        }
    }

    /// Ends the senders, waits until nothing more arrives at a target that is up, and closes the ledger.
    pub(crate) fn close(&mut self, peer: &Peer) -> Balance {
        self.sink.turn(Mood::Up);
        self.load.finish();
        let (mut since, mut seen) = (Instant::now(), 0);
        loop {
            let (open, arrivals) = {
                let ledger = lock(&self.ledger);
                (ledger.open(), ledger.arrivals())
            };
            if arrivals != seen {
                (since, seen) = (Instant::now(), arrivals);
            }
            let waits = peer.metric(PENDING).is_some_and(|bytes| bytes > 0.0);
            if (open == 0 && !waits) || since.elapsed() > if waits { STUCK } else { QUIET } {
                return lock(&self.ledger).balance();
            }
            pass(Duration::from_millis(50));
        }
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
