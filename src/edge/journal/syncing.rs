//! Durability: many requests share one sync, and those who wait for it learn how it went.

use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Journal;
use super::full::Broken;
use super::record::{CURSOR, DERIVED};
use crate::edge::limits::SyncMode;
use crate::edge::log::{LogError, Record};

/// How long requests are gathered after a sync before the next one.
const GATHER: Duration = Duration::from_millis(3);
/// How often everything is synced where acknowledgements do not wait for it.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long after an error the disk is tried again.
const HEAL_AFTER: Duration = Duration::from_millis(200);
/// Stretches of lost records that are remembered for those who still wait.
const LOST_MAX: usize = 16;

/// How far the journal is settled.
#[derive(Clone, Debug)]
pub(super) struct Settling {
    /// Below it everything is as durable as was asked for, but for what was lost.
    through: u64,
    /// While the disk fails: what is from here on is lost.
    failing: Option<u64>,
    /// What was lost, the newest last.
    lost: Vec<Range<u64>>,
}

/// A record that was written did not become durable. Its sender has to come again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("journal could not be made durable")]
pub struct Unsettled;

impl Settling {
    pub(super) fn new(through: u64) -> Self {
        Self { through, failing: None, lost: Vec::new() }
    }

    pub(super) fn reach(&mut self, through: u64) {
        self.through = self.through.max(through);
    }

    pub(super) fn fail(&mut self, from: u64) {
        self.failing.get_or_insert(from.max(self.through));
    }

    fn heal(&mut self, through: u64) {
        if let Some(from) = self.failing.take() {
            if self.lost.len() >= LOST_MAX {
                self.lost.remove(0);
            }
            self.lost.push(from.max(self.through)..through);
        }
        self.through = through;
    }

    /// Whether a record is settled; `None` while that is open.
    pub(super) fn outcome(&self, sequence: u64) -> Option<Result<(), Unsettled>> {
        let lost = self.lost.iter().any(|lost| lost.contains(&sequence));
        match self.failing {
            _ if lost => Some(Err(Unsettled)),
            _ if sequence < self.through => Some(Ok(())),
            Some(from) if sequence >= from => Some(Err(Unsettled)),
            _ => None,
        }
    }
}

/// The thread that syncs. It ends with its journal, once that is closed, with a last sync.
#[derive(Debug)]
pub struct Syncing {
    thread: JoinHandle<()>,
    journal: Arc<Journal>,
}

impl Syncing {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(journal: &Arc<Journal>) -> std::io::Result<Self> {
        journal.lock().abandoned = false;
        let syncs = Arc::clone(journal);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || syncs.sync_on());
        Ok(Self { thread: thread?, journal: Arc::clone(journal) })
    }

    /// Waits for its end. The journal has to be closed.
    pub fn join(self) {
        self.thread.join().expect("the thread has nothing that panics");
        drop(self.journal);
    }
}

impl Journal {
    /// Waits until the record at `sequence` may be acknowledged.
    ///
    /// # Errors
    /// [`Unsettled`] when the disk failed meanwhile.
    pub async fn settled(&self, sequence: u64) -> Result<(), Unsettled> {
        let mut settling = self.settling.subscribe();
        let settled = settling.wait_for(|settling| settling.outcome(sequence).is_some()).await;
        settled.map_or(Err(Unsettled), |settling| settling.outcome(sequence).unwrap_or(Err(Unsettled)))
    }

    /// The same on a plain thread.
    ///
    /// # Errors
    /// As [`Self::settled`].
    pub fn wait_settled(&self, sequence: u64) -> Result<(), Unsettled> {
        let mut state = self.lock();
        loop {
            if let Some(outcome) = self.settling.borrow().outcome(sequence) {
                return outcome;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes durable what was written, and lets it be acknowledged; or, after an error, tries to heal. One step of the
    /// thread, for those who have none.
    ///
    /// # Errors
    /// When the disk fails; the journal takes nothing until a later call succeeds.
    pub fn sync(&self) -> Result<(), LogError> {
        {
            let mut state = self.lock();
            if state.broken.is_some() {
                drop(state);
                return self.heal();
            }
            state.wants_sync = false;
        }
        let begin = Instant::now();
        let synced = self.log.sync();
        self.metrics.journal_sync_seconds.observe(begin.elapsed().as_secs_f64());
        let mut state = self.lock();
        match synced {
            Ok(durable) => self.reach(&mut state, durable),
            Err(error) => {
                self.broke(&mut state, "sync", &error);
                return Err(error);
            }
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Begins a new segment after an error, with all that engines may have seen: whoever waits for it is told that it
    /// is lost, and what comes again is known by its timestamps.
    pub(super) fn heal(&self) -> Result<(), LogError> {
        let _healing = self.healing.lock().unwrap_or_else(PoisonError::into_inner);
        // Where another thread was first, what came since is not to be forgotten.
        let Some((checkpoint, visible)) = self.checkpoint_to_heal() else { return Ok(()) };
        let keep =
            |record: &Record| record.head.sequence < visible || matches!(record.head.kind, DERIVED | CURSOR);
        // Without the state: a disk may take its time, and whoever asks meanwhile is to learn that it fails.
        let healed = self.log.heal(|_| checkpoint, keep);
        let mut state = self.lock();
        let state = &mut *state;
        if let Err(error) = healed {
            let error = LogError::from(error);
            // A disk may be full after other errors, and the other way round.
            state.broken = Some(Broken::by(&error));
            return Err(error);
        }
        state.waiting.forget_from(state.visible);
        state.broken = None;
        let next = self.log.next();
        self.settling.send_modify(|settling| settling.heal(next));
        self.reach(state, next);
        self.metrics.journal_writable.set(1);
        tracing::info!("the journal can be written again");
        self.changed.notify_all();
        Ok(())
    }

    /// What the log is remembered by, without what is lost, and the sequence below which engines may have seen
    /// everything; `None` where it is not broken. Nothing is appended and nothing becomes durable before it is written.
    fn checkpoint_to_heal(&self) -> Option<(Vec<u8>, u64)> {
        let mut state = self.lock();
        state.broken.as_ref()?;
        self.reach(&mut state, self.log.durable());
        if let Some((_, before)) = state.rules_before.take() {
            state.ledger.restore_rules(before);
        }
        Some((state.ledger.encode(), state.visible))
    }

    /// Syncs whenever there is something to, until the journal is closed.
    fn sync_on(&self) {
        let gather = if self.sync == SyncMode::Batch { GATHER } else { INTERVAL };
        let mut last = Instant::now();
        while self.wait_for_work() {
            self.pause_until(last + gather);
            last = Instant::now();
            if let Err(error) = self.sync() {
                tracing::debug!(%error, "the disk still fails");
                std::thread::sleep(HEAL_AFTER);
            }
        }
        // Nothing was promised that this sync would have to keep; it only spares the next start some work.
        let _ = self.log.sync();
    }

    /// Waits until something is to be synced or healed; false once the journal is closed and nothing is.
    fn wait_for_work(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.broken.is_some() || (state.wants_sync && self.sync != SyncMode::Never) {
                return !(state.abandoned && state.broken.is_some());
            }
            if state.closed {
                return false;
            }
            state.syncer_waits = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.syncer_waits = false;
        }
    }

    fn pause_until(&self, until: Instant) {
        let mut state = self.lock();
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|_| !state.closed) {
            let waited = self.work.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
