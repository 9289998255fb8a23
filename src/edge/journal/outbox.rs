//! What was derived and is still to be sent: written once, read by every target with its own cursor.

use std::io;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::record::{self, CURSOR, DERIVED};
use super::{Journal, State};
use crate::edge::log::{self, Head, Reader};
use crate::edge::send::Outgoing;
use crate::edge::telemetry::count;

impl Journal {
    /// Appends a derived request to a stream. `cause` is the sequence of the record that brought it forth, `part`
    /// counts from 0 for each of them.
    ///
    /// Nothing is appended that the log holds already, which is so after a crash: false then. Waits while the disk
    /// fails, where somebody heals it; else the journal is incomplete from then on.
    pub fn offer(&self, stream: u16, cause: u64, part: u32, request: &Outgoing) -> bool {
        let appended = self.append_derived(stream, (cause, part), request);
        if appended {
            self.tell(stream);
        }
        appended
    }

    /// The same, and nobody is woken until [`Self::tell`].
    pub fn append_derived(&self, stream: u16, (cause, part): record::Origin, request: &Outgoing) -> bool {
        let head = record::derived_head((cause, part), request);
        let mut state = self.lock();
        // What comes after something that is missing would say that it is not.
        if state.incomplete || state.ledger.has_derived(stream, (cause, part)) {
            return false;
        }
        let written = loop {
            let entry =
                log::Entry { arrival: i64::MIN, kind: DERIVED, stream, parts: &[&head, &request.body] };
            match self.write(&mut state, &entry) {
                Ok(sequence) => break Some(sequence),
                Err(_) if state.broken.is_none() || state.abandoned => break None,
                Err(_) => state = self.wait_for_change(state),
            }
        };
        let Some(sequence) = written else {
            state.incomplete = state.broken.is_some();
            let lost = if state.incomplete { 0 } else { request.samples as u64 };
            count(&self.metrics.derived_dropped, "reason", "too_large", lost);
            return false;
        };
        state.ledger.derived.insert(stream, ((cause, part), sequence));
        true
    }

    /// Wakes those who send what was derived of a stream.
    pub fn tell(&self, stream: u16) {
        let end = self.end();
        self.with_stream(stream, |sender| sender.send_replace(end));
    }

    /// Tells a sequence after that of the newest derived request of a stream, whenever there are more; 0 before.
    pub fn derived(&self, stream: u16) -> watch::Receiver<u64> {
        self.with_stream(stream, watch::Sender::subscribe)
    }

    /// Tells the sequence below which requests may be seen by forward targets.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.durable.subscribe()
    }

    /// Reads on in the log. What engines derived and how far targets are stands beside the requests.
    ///
    /// # Errors
    /// As the system tells; the reader stays where it was.
    pub fn read_log(
        &self,
        reader: &mut Reader,
        below: u64,
        wanted: impl Fn(&Head) -> bool,
    ) -> io::Result<Option<log::Record>> {
        let damaged = reader.damaged();
        let record = self.log.read(reader, below, wanted);
        self.metrics.journal_damaged_records.inc_by(reader.damaged() - damaged);
        record.inspect_err(|_| count(&self.metrics.journal_errors, "operation", "read", 1))
    }

    /// Whether nobody who reads from a sequence on waits for the disk.
    pub fn is_in_memory(&self, sequence: u64) -> bool {
        self.log.is_in_memory(sequence)
    }

    /// Sequence of the next record.
    pub fn end(&self) -> u64 {
        self.log.next()
    }

    /// The oldest sequence that can still be read.
    pub fn first(&self) -> u64 {
        self.log.first()
    }

    /// Arrival of the newest record, Unix milliseconds; `i64::MIN` before the first.
    pub fn arrival(&self) -> i64 {
        self.log.arrival()
    }

    /// When something arrives that comes at `at` by a wall clock that says `unix_ms`: then, or where the clock was ahead
    /// and went back, as long after the newest record as has passed since.
    pub fn time(&self, unix_ms: i64, at: Instant) -> i64 {
        self.lock().pace.time(unix_ms, at)
    }

    /// Bytes of the log.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Bytes of the log from a sequence on, about.
    pub fn bytes_since(&self, sequence: u64) -> u64 {
        self.log.bytes_since(sequence)
    }

    /// Everything of a stream below this sequence is done for `target`; `None` where the log does not know it.
    pub fn cursor(&self, target: &str, stream: u16) -> Option<u64> {
        self.lock().ledger.cursors.get(target)?.get(&stream).copied()
    }

    /// Moves a cursor on, never back. A disk that fails delays only how soon this is durable.
    pub fn move_cursor(&self, target: &str, stream: u16, next: u64) {
        let mut state = self.lock();
        if state.ledger.move_cursor(target, stream, next) && !self.in_memory && state.broken.is_none() {
            let parts: [&[u8]; 2] = [&next.to_le_bytes(), target.as_bytes()];
            let entry = log::Entry { arrival: i64::MIN, kind: CURSOR, stream, parts: &parts };
            // The next segment begins with all cursors: this record only saves sending twice after a crash.
            let _ = self.write(&mut state, &entry);
        }
    }

    /// The oldest sequence that `target` still has to get; `None` where it has got everything.
    pub fn needed_by(&self, target: &str) -> Option<u64> {
        self.lock().ledger.needed_by(target)
    }

    /// All targets that the log knows.
    pub fn targets(&self) -> Vec<String> {
        self.lock().ledger.cursors.keys().cloned().collect()
    }

    /// Keeps nothing more for a target.
    pub fn forget_target(&self, target: &str) {
        self.lock().ledger.cursors.remove(target);
    }

    /// How many streams there are that something may still be sent of.
    pub fn streams(&self) -> u16 {
        let state = self.lock();
        let shards = state.ledger.rules().ok().flatten().map_or(1, |rules| rules.shards);
        state.ledger.streams(shards)
    }

    fn with_stream<T>(&self, stream: u16, with: impl FnOnce(&watch::Sender<u64>) -> T) -> T {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let at = usize::from(stream);
        if streams.len() <= at {
            streams.resize_with(at + 1, || watch::Sender::new(0));
        }
        with(&streams[at])
    }

    fn wait_for_change<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}
