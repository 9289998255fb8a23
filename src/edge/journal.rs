//! The journal: everything that promantis takes and makes, in one log, until nobody needs it any more.
//!
//! A request is written with its body as received, and engines see it at once; it is acknowledged, and forwarded, once
//! it is durable. What they derive from it is written behind it, and how far each target has got, too. So the log alone
//! tells, after any crash, what is still to be judged and what is still to be sent; see [`record`] for what is in it.
//! Rules, and what comes after them, are seen once they are durable: what was lost must not have been in force.
//!
//! Engines read what waits for them from memory, decoded; everybody else reads the log. When much waits for them,
//! senders are kept waiting for a moment. When there is no room, or the disk fails, a request is refused, so that its
//! sender keeps it and tries again; the journal heals itself once the disk does, with all that engines saw.
//!
//! One lock is taken per request, never per sample.

mod found;
mod full;
mod ledger;
mod outbox;
mod pace;
pub mod record;
mod room;
mod spares;
mod syncing;
mod waiting;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::series::Batch;

use super::disk::MemoryDisk;
use super::limits::SyncMode;
use super::log::{self, Durable, Log, LogError, Opened, Options};
use super::telemetry::{self, Metrics};
use found::remembered;
pub use found::{newest_rules, oldest_rules};
use full::Broken;
pub use full::Full;
use ledger::Ledger;
use pace::Pace;
pub use record::{FORWARD, Received, Rules};
use spares::Spares;
use syncing::Settling;
pub use syncing::{Syncing, Unsettled};
use waiting::Waiting;

/// Bytes of decoded requests that may wait for engines, where nothing else is said.
pub const WAITING_BYTES_MAX: usize = 64 << 20;
/// Bytes of the newest records that are kept in memory for those who follow closely.
const TAIL_BYTES: usize = 16 << 20;

/// What a record says to engines.
#[derive(Debug)]
pub enum Entry {
    /// A remote-write request that was checked.
    Request {
        /// What it brought.
        batch: Batch,
    },
    /// Time passed.
    Tick,
    /// From here on these rules are in force.
    Rules(Arc<Rules>),
}

/// An entry with its place and time, as engines read it.
#[derive(Debug)]
pub struct Record {
    /// Place in the journal. Rises.
    pub sequence: u64,
    /// Milliseconds since the Unix epoch; never less than in the record before.
    pub arrival: i64,
    /// When the last byte came, on the monotonic clock. For latency metrics only.
    pub received: Instant,
    /// What it says.
    pub entry: Entry,
}

/// What the journal is made of.
#[derive(Debug)]
pub struct Settings {
    /// Bytes of the log at which requests are refused.
    pub max_bytes: u64,
    /// Bytes of decoded requests that may wait for engines before more are refused.
    pub waiting_max: usize,
    /// What an acknowledgement means.
    pub sync: SyncMode,
    /// How many engines read it.
    pub readers: usize,
    /// Whether what is in it outlives the process.
    pub lasting: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Journal {
    log: Log,
    state: Mutex<State>,
    /// A record became visible to engines, or the journal was closed, broke or healed.
    changed: Condvar,
    /// There is something to sync or to heal, or the journal was closed. Apart, so that a request wakes engines only
    /// once they may see it.
    work: Condvar,
    /// Little waits for engines again, or the journal was closed or broke: senders that are kept waiting go on.
    eased: Notify,
    /// Held by the one who tries the disk again, and taken before the state.
    healing: Mutex<()>,
    settling: watch::Sender<Settling>,
    /// Records below this sequence may be forwarded.
    durable: watch::Sender<u64>,
    /// For each stream, a sequence after that of its newest derived request.
    streams: Mutex<Vec<watch::Sender<u64>>>,
    spares: Spares,
    max_bytes: u64,
    /// Bytes of decoded requests that may wait for engines.
    waiting_max: usize,
    sync: SyncMode,
    in_memory: bool,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    waiting: Waiting,
    ledger: Ledger,
    /// How time went on so far.
    pace: Pace,
    /// Records below this sequence are shown to engines.
    visible: u64,
    /// Why the disk does not take anything, while it does not.
    broken: Option<Broken>,
    /// Rules that were in force before those that are not durable yet.
    rules_before: Option<(u64, Option<Vec<u8>>)>,
    /// Whether something was written that somebody waits for.
    wants_sync: bool,
    /// Whether the thread that syncs waits for that, and does not sync or gather already.
    syncer_waits: bool,
    closed: bool,
    /// Below which sequence a target that must not lose anything has still to get something.
    held: Option<u64>,
    /// Whether nobody waits for a broken disk, since nobody heals it: not yet, or not any more.
    abandoned: bool,
    /// Whether something that was derived was not written since.
    incomplete: bool,
}

impl Journal {
    /// A journal that ends with the process, for so many engines. With none, nothing waits for them.
    pub fn in_memory(max_bytes: u64, readers: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let waiting_max = usize::try_from(max_bytes).unwrap_or(usize::MAX).min(WAITING_BYTES_MAX);
        Self::in_memory_waiting(waiting_max, (max_bytes, readers), metrics)
    }

    /// The same with another bound on what waits for engines.
    pub fn in_memory_waiting(
        waiting_max: usize,
        (max_bytes, readers): (u64, usize),
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let opened = Log::open(Arc::new(MemoryDisk::default()), options(max_bytes, SyncMode::Never));
        let settings = Settings { max_bytes, waiting_max, sync: SyncMode::Never, readers, lasting: false };
        let journal = opened.map_err(LogError::from).and_then(|it| Self::over(it, &settings, metrics));
        Arc::new(journal.expect("memory has no errors"))
    }

    /// Goes on with a log that was opened with [`options`]. Engines see what comes from now on.
    ///
    /// # Errors
    /// When no new segment can be begun, or another program wrote what the log is remembered by.
    pub fn over(opened: Opened, settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, LogError> {
        let ledger = remembered(&opened)?;
        let Opened { log, cut_bytes, damaged, .. } = opened;
        metrics.journal_cut_bytes.inc_by(cut_bytes);
        metrics.journal_damaged_records.inc_by(damaged);
        metrics.journal_limit_bytes.set(i64::try_from(settings.max_bytes).unwrap_or(i64::MAX));
        metrics.journal_writable.set(1);
        log.roll(&ledger.encode())?;
        let next = log.next();
        let state = State {
            waiting: Waiting::new(settings.readers, next),
            ledger,
            pace: Pace::from(log.arrival(), Instant::now()),
            visible: next,
            broken: None,
            rules_before: None,
            wants_sync: false,
            syncer_waits: false,
            closed: false,
            held: None,
            abandoned: true,
            incomplete: false,
        };
        Ok(Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            work: Condvar::new(),
            eased: Notify::new(),
            healing: Mutex::default(),
            settling: watch::Sender::new(Settling::new(next)),
            durable: watch::Sender::new(next),
            streams: Mutex::default(),
            spares: Spares::default(),
            max_bytes: settings.max_bytes,
            waiting_max: settings.waiting_max,
            sync: settings.sync,
            in_memory: !settings.lasting,
            metrics,
            log,
        })
    }

    /// Takes a request whose last byte came at `received`, and returns its sequence. It may be acknowledged once
    /// [`Self::settled`] says so. `arrival` is Unix milliseconds, as [`Self::time`] tells them; it is raised to that of
    /// the record before if it is less.
    ///
    /// # Errors
    /// [`Full`]; the request is not in the journal then.
    pub fn append_request(
        &self,
        arrival: i64,
        received: Instant,
        request: &Received,
        batch: Batch,
    ) -> Result<u64, Full> {
        let mut state = self.lock();
        self.refused(&state).map_or(Ok(()), Err)?;
        let entry = Entry::Request { batch };
        let max = self.waiting_max;
        // One that is larger than all the room is taken when nothing else waits: it would never fit better.
        if !state.waiting.is_empty() && state.waiting.bytes().saturating_add(waiting::cost(&entry)) > max {
            return Err(Full::NoRoom { waiting: state.waiting.bytes(), max });
        }
        let head = request.head();
        let written =
            log::Entry { arrival, kind: record::REQUEST, stream: 0, parts: &[&head, &request.body] };
        let sequence = self.write(&mut state, &written)?;
        if request.forward {
            state.ledger.forwarded = Some(sequence);
        }
        self.show(state, sequence, received, entry);
        Ok(sequence)
    }

    /// Notes that time passed.
    ///
    /// # Errors
    /// [`Full::Closed`] and [`Full::Unwritable`].
    pub fn append_tick(&self, arrival: i64) -> Result<u64, Full> {
        let mut state = self.lock();
        state.open()?;
        let tick = log::Entry { arrival, kind: record::TICK, stream: 0, parts: &[] };
        let sequence = self.write(&mut state, &tick)?;
        self.show(state, sequence, Instant::now(), Entry::Tick);
        Ok(sequence)
    }

    /// Puts rules in force for all records after this one.
    ///
    /// # Errors
    /// [`Full::Closed`] and [`Full::Unwritable`].
    pub fn append_rules(&self, arrival: i64, rules: Arc<Rules>) -> Result<u64, Full> {
        let encoded = rules.encode();
        let mut state = self.lock();
        state.open()?;
        let entry = log::Entry { arrival, kind: record::RULES, stream: 0, parts: &[&encoded] };
        let sequence = self.write(&mut state, &entry)?;
        let before = state.ledger.set_rules(encoded, sequence);
        state.rules_before = Some((sequence, before));
        self.show(state, sequence, Instant::now(), Entry::Rules(rules));
        Ok(sequence)
    }

    /// The next record for `reader`, waiting for it on a plain thread. `None` once the journal is closed and
    /// everything was read.
    pub fn read(&self, reader: usize) -> Option<Arc<Record>> {
        let mut state = self.lock();
        loop {
            let visible = state.visible;
            match state.waiting.next(reader, visible) {
                Some(record) => return Some(record),
                None if state.closed => return None,
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// The next record for `reader`, if there is one by then; where `wait` is zero, now.
    pub fn read_within(&self, reader: usize, wait: Duration) -> Option<Arc<Record>> {
        let mut state = self.lock();
        let visible = state.visible;
        let record = state.waiting.next(reader, visible);
        if record.is_some() || wait.is_zero() {
            return record;
        }
        let waited = self.changed.wait_timeout(state, wait);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let visible = state.visible;
        state.waiting.next(reader, visible)
    }

    /// Says that `reader` has finished with the record `sequence` and all before it. What it has not read yet
    /// stays unfinished. Returns whether there is more for it to read at once.
    pub fn done(&self, reader: usize, sequence: u64) -> bool {
        let mut state = self.lock();
        let passed = state.waiting.finish(reader, sequence);
        let more = state.waiting.has_next(reader, state.visible);
        self.tell_waiting(&state);
        let eased = self.is_easy(&state);
        drop(state);
        if eased {
            self.eased.notify_waiters();
        }
        // After the lock: to free a large batch takes time.
        for record in passed {
            if let Some(Record { entry: Entry::Request { batch }, .. }) = Arc::into_inner(record) {
                self.spares.keep(batch);
            }
        }
        more
    }

    /// An empty batch to decode a request of so many bytes into, with the room of one that engines are done with.
    pub fn spare(&self, bytes: usize) -> Batch {
        self.spares.take(bytes)
    }

    /// Takes nothing more from outside and wakes all readers; what is in the journal can still be read.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake_all();
    }

    /// Stops waiting for a disk that fails: what cannot be written any more is derived again after the next start.
    pub fn abandon(&self) {
        self.lock().abandoned = true;
        self.wake_all();
    }

    /// Whether something that was derived is missing: then nothing more is written of what engines derive, and what
    /// they know must not be saved, so that the next start derives it again.
    pub fn is_incomplete(&self) -> bool {
        self.lock().incomplete
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Bytes of requests that are not done by all engines.
    pub fn waiting_bytes(&self) -> usize {
        self.lock().waiting.bytes()
    }

    /// Bytes that it may have.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Whether what is in it outlives the process.
    pub fn is_durable(&self) -> bool {
        !self.in_memory
    }

    /// The rules in force after the newest record.
    pub fn rules(&self) -> Option<Arc<Rules>> {
        self.lock().ledger.rules().ok()?
    }

    fn tell_waiting(&self, state: &State) {
        self.metrics.journal_waiting_bytes.set(i64::try_from(state.waiting.bytes()).unwrap_or(i64::MAX));
    }

    /// Writes a record, in a new segment where the last one is full.
    fn write(&self, state: &mut State, entry: &log::Entry<'_>) -> Result<u64, Full> {
        if let Some(broken) = &state.broken {
            return Err(broken.full());
        }
        let rolled = match self.log.is_segment_full() {
            true => self.log.roll(&state.ledger.encode()),
            false => Ok(()),
        };
        rolled.and_then(|()| self.log.append(entry)).map_err(|error| self.broke(state, "append", &error))
    }

    /// Shows a record to engines; rules and what comes after them once they are durable.
    fn show(&self, mut state: MutexGuard<'_, State>, sequence: u64, received: Instant, entry: Entry) {
        let arrival = self.log.arrival();
        state.pace.took(arrival, received);
        state.waiting.push(Record { sequence, arrival, received, entry });
        self.tell_waiting(&state);
        let wakes_syncer = !std::mem::replace(&mut state.wants_sync, true) && state.syncer_waits;
        if self.sync != SyncMode::Batch {
            self.reach(&mut state, sequence + 1);
        } else if state.rules_before.is_none() {
            state.visible = sequence + 1;
        }
        let shown = state.visible > sequence;
        drop(state);
        if shown {
            self.changed.notify_all();
        }
        if wakes_syncer {
            self.work.notify_one();
        }
    }

    fn wake_all(&self) {
        self.changed.notify_all();
        self.work.notify_all();
        self.eased.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(&self) -> Result<(), Full> {
        match &self.broken {
            _ if self.closed => Err(Full::Closed),
            Some(broken) => Err(broken.full()),
            None => Ok(()),
        }
    }
}

/// How many segments a journal of `max_bytes` has, about: each is an open file.
pub fn segments_max(max_bytes: u64, sync: SyncMode) -> u64 {
    max_bytes / options(max_bytes, sync).segment_bytes + 1
}

/// How the journal's log is laid out: segments are a thirty-second of the whole, within reason. Where nobody waits for
/// a sync they are small, since in memory one that is done with is held until it is full.
pub fn options(max_bytes: u64, sync: SyncMode) -> Options {
    let longest = if sync == SyncMode::Never { 8 << 20 } else { 64 << 20 };
    Options {
        segment_bytes: (max_bytes / 32).clamp(256 << 10, longest),
        tail_bytes: usize::try_from(max_bytes / 8).unwrap_or(usize::MAX).min(TAIL_BYTES),
        durable: match sync {
            SyncMode::Batch | SyncMode::Interval => Durable::Synced,
            SyncMode::Never => Durable::Written,
        },
    }
}

impl Journal {
    /// Everything below `sequence` may be acknowledged and forwarded.
    fn reach(&self, state: &mut State, sequence: u64) {
        if state.rules_before.as_ref().is_some_and(|(rules, _)| *rules < sequence) {
            state.rules_before = None;
        }
        if state.rules_before.is_none() {
            state.visible = self.log.next();
        }
        self.settling.send_modify(|settling| settling.reach(sequence));
        self.durable.send_if_modified(|durable| {
            let before = std::mem::replace(durable, sequence.max(*durable));
            before < sequence
        });
    }

    /// Tells of an error of the disk, and stops taking requests until it has passed.
    fn broke(&self, state: &mut State, operation: &'static str, error: &LogError) -> Full {
        let message = error.to_string();
        if let LogError::TooLong { .. } = error {
            return Full::Unwritable(message);
        }
        telemetry::count(&self.metrics.journal_errors, "operation", operation, 1);
        if state.broken.is_none() {
            tracing::error!(operation, error = %message, "the journal cannot be written: requests are answered 503 until it can");
            self.metrics.journal_writable.set(0);
            state.broken = Some(Broken::by(error));
            // A new segment made durable what was before it, and nobody has told engines so.
            let durable = self.log.durable();
            self.reach(state, durable);
            self.settling.send_modify(|settling| settling.fail(durable));
            self.wake_all();
        }
        Full::Unwritable(message)
    }
}

#[cfg(test)]
mod tests;
