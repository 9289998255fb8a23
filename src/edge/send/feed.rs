//! What one lane of one target is to send, read from the log in order.
//!
//! Only what is in hand, and a record or two behind it, is in memory, however much waits.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;

use super::passage::Passage;
use super::place::Place;
use super::retry::Backoff;
use super::throttle::Throttle;
use super::{Outgoing, Phase, Source};
use crate::edge::journal::{Journal, record};
use crate::edge::log::{Head, Reader, Record};

/// Bytes that are read where the lane runs. More may stand in files, which are read elsewhere, so that no request
/// waits for a disk.
const INLINE_BYTES: u64 = 1 << 20;

/// Sequences that are looked at in one go.
const STRIDE: u64 = 4096;

/// How often a lane without work looks for what nobody tells it of: changed rules.
const IDLE: Duration = Duration::from_secs(1);

/// Pauses between attempts to read what cannot be read.
const READ_BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// See the module.
#[derive(Debug)]
pub(super) struct Feed {
    journal: Arc<Journal>,
    pub(super) place: Arc<Place>,
    passage: Arc<Passage>,
    source: Source,
    /// Tells that there is something new.
    news: watch::Receiver<u64>,
    phase: watch::Receiver<Phase>,
    reader: Reader,
    /// Was read, and is still to be claimed.
    kept: Option<Record>,
    ahead: Option<Ahead>,
    /// Shards, by the newest rules that were met.
    shards: Option<u16>,
    troubles: Throttle,
}

/// A look at what waits behind the record in hand.
#[derive(Debug)]
struct Ahead {
    reader: Reader,
    /// Records that were looked at.
    seen: usize,
    /// The last of them.
    last: Option<Record>,
    /// Nothing behind `last` may overtake what is before it.
    ended: bool,
}

impl Feed {
    /// Begins at `place`.
    pub(super) fn new(
        place: Arc<Place>,
        passage: Arc<Passage>,
        phase: watch::Receiver<Phase>,
        journal: Arc<Journal>,
    ) -> Self {
        let source = Source::of(place.stream);
        Self {
            reader: Reader::from(place.next()),
            news: source.news(&journal),
            source,
            journal,
            place,
            passage,
            phase,
            kept: None,
            ahead: None,
            shards: None,
            troubles: Throttle::default(),
        }
    }

    /// The next record, which is in hand from now on, until [`Place::done`]. Waits for one; `None` once the target
    /// is drained and nothing waits.
    pub(super) async fn next(&mut self) -> Option<Record> {
        self.ahead = None;
        loop {
            let found = match self.kept.take() {
                Some(record) => {
                    self.passage.reach(self.place.stream, record.head.sequence);
                    Some(record)
                }
                None => {
                    self.reader.pass_to(self.place.next());
                    self.passage.reach(self.place.stream, self.reader.next());
                    let below = self.source.below(&self.journal, &mut self.news);
                    self.read(below).await
                }
            };
            match found {
                Some(record) if record.head.kind == record::RULES => self.cross(&record).await,
                Some(record) if self.place.claim(&record.head) => return Some(record),
                Some(_) => {}
                None if *self.phase.borrow() == Phase::Drain => return None,
                None => self.wait().await,
            }
        }
    }

    /// The request right behind what is in hand, if it waits already, in memory, and `fits`: then it is in hand, too.
    pub(super) fn next_too(&mut self, fits: impl FnOnce(&Outgoing) -> bool) -> Option<Outgoing> {
        if self.kept.is_some() || !self.journal.is_in_memory(self.reader.next()) {
            return None;
        }
        let source = self.source;
        let below = source.below(&self.journal, &mut self.news);
        let found = self.journal.read_log(&mut self.reader, below, |head| source.wants(head));
        let record = found.ok().flatten()?;
        let request = record::outgoing(&record).filter(fits);
        let claimed = request.filter(|_| self.place.claim_too(&record.head));
        if claimed.is_none() {
            self.kept = Some(record);
        }
        claimed
    }

    /// Gives back what [`Self::next_too`] put in hand. Returns as [`Place::give_back`].
    pub(super) fn give_back(&mut self) -> Option<&'static str> {
        let counted = self.place.give_back();
        self.reader = Reader::from(self.place.next());
        self.kept = None;
        counted
    }

    /// Below this sequence nothing is left that is not in hand.
    pub(super) fn behind_hand(&self) -> u64 {
        self.kept.as_ref().map_or(self.reader.next(), |kept| kept.head.sequence)
    }

    /// The record that has `distance` others of this lane between the one in hand and itself, or the last one. `None`
    /// where none waits, or it was delivered already.
    pub(super) async fn peek(&mut self, distance: usize) -> Option<Record> {
        let mut ahead = match self.ahead.take() {
            Some(ahead) if ahead.seen <= distance.saturating_add(1) => ahead,
            _ => Ahead::from(self.place.next()),
        };
        while ahead.seen <= distance && !ahead.ended {
            ahead.reader.pass_to(self.place.next());
            let below = self.source.below(&self.journal, &mut self.news);
            let Ok(Some(record)) = step(&self.journal, &mut ahead.reader, below, self.source).await else {
                break;
            };
            if record.head.kind == record::RULES {
                // Who waits behind changed rules may have to wait for other lanes.
                ahead.ended = true;
            } else if !self.place.is_early(record.head.sequence) {
                ahead.seen += 1;
                ahead.last = Some(record);
            }
        }
        let last = ahead.last.clone();
        self.ahead = Some(ahead);
        last
    }

    /// Looks ahead from the record in hand again: something there was delivered.
    pub(super) fn look_anew(&mut self) {
        self.ahead = None;
    }

    /// The lane has ended: no other waits for it.
    pub(super) fn leave(&self) {
        self.passage.leave(self.place.stream);
    }

    /// Reads on until something is found below `below`, however often the disk fails.
    async fn read(&mut self, below: u64) -> Option<Record> {
        let mut backoff = Backoff::new(READ_BACKOFF[0], READ_BACKOFF[1]);
        loop {
            match step(&self.journal, &mut self.reader, below, self.source).await {
                Ok(found) => {
                    if found.is_none() {
                        self.place.passed(self.reader.next());
                    }
                    return found;
                }
                Err(error) => {
                    self.tell_of_trouble(&error);
                    tokio::time::sleep(backoff.pause(None)).await;
                }
            }
        }
    }

    /// Where series change lanes, waits until all lanes of the target have sent what was before.
    async fn cross(&mut self, record: &Record) {
        let sequence = record.head.sequence;
        self.place.passed(sequence + 1);
        let shards = record::rules_shards(record);
        if self.source != Source::Forward && (shards.is_none() || shards != self.shards) {
            self.passage.cross(self.place.stream, sequence).await;
        }
        self.shards = shards;
    }

    async fn wait(&mut self) {
        let drained = async {
            // Without anybody to say so, it never comes.
            if self.phase.wait_for(|phase| *phase == Phase::Drain).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = drained => {}
            // An error is the end of the journal; then there is no news, and the pause is all there is.
            _ = timeout(IDLE, changed(&mut self.news)) => {}
        }
    }

    fn tell_of_trouble(&mut self, error: &io::Error) {
        if let Some(suppressed) = self.troubles.pass(Instant::now()) {
            tracing::error!(%error, suppressed, "the journal cannot be read; what waits in it is not sent until it can");
        }
    }
}

impl Ahead {
    fn from(sequence: u64) -> Self {
        Self { reader: Reader::from(sequence), seen: 0, last: None, ended: false }
    }
}

impl Source {
    /// Where the records of `stream` come from.
    pub(super) fn of(stream: u16) -> Self {
        if stream == crate::edge::journal::FORWARD { Self::Forward } else { Self::Derived(stream) }
    }

    /// Whether a record may be one for this lane, or one that it has to know.
    pub(super) fn wants(self, head: &Head) -> bool {
        head.kind == record::RULES || self.has(head)
    }

    /// Whether a record may be one for this lane.
    pub(super) fn has(self, head: &Head) -> bool {
        match self {
            Self::Derived(stream) => head.kind == record::DERIVED && head.stream == stream,
            Self::Forward => head.kind == record::REQUEST,
        }
    }

    fn news(self, journal: &Journal) -> watch::Receiver<u64> {
        match self {
            Self::Derived(stream) => journal.derived(stream),
            Self::Forward => journal.durable(),
        }
    }

    /// The sequence below which records may be sent. What is new from now on is news.
    fn below(self, journal: &Journal, news: &mut watch::Receiver<u64>) -> u64 {
        let told = *news.borrow_and_update();
        match self {
            Self::Derived(_) => journal.end(),
            Self::Forward => told,
        }
    }
}

async fn changed(news: &mut watch::Receiver<u64>) {
    if news.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The next record for `source` below `below`, and `None` only where there is none.
async fn step(
    journal: &Arc<Journal>,
    reader: &mut Reader,
    below: u64,
    source: Source,
) -> io::Result<Option<Record>> {
    loop {
        let before = reader.next();
        let found = if journal.bytes_since(before) <= INLINE_BYTES {
            journal.read_log(reader, below, |head| source.wants(head))
        } else {
            read_elsewhere(journal, reader, below.min(before.saturating_add(STRIDE)), source).await
        };
        match found {
            Ok(None) if reader.next() < below && reader.next() > before => {}
            other => return other,
        }
    }
}

/// Reads on a thread that may wait for the disk.
async fn read_elsewhere(
    journal: &Arc<Journal>,
    reader: &mut Reader,
    below: u64,
    source: Source,
) -> io::Result<Option<Record>> {
    let next = reader.next();
    let (journal, mut moved) = (Arc::clone(journal), std::mem::take(reader));
    let reading = move || {
        let found = journal.read_log(&mut moved, below, |head| source.wants(head));
        (found, moved)
    };
    match tokio::task::spawn_blocking(reading).await {
        Ok((found, moved)) => {
            *reader = moved;
            found
        }
        Err(_) => {
            *reader = Reader::from(next);
            Err(io::Error::other("reading was given up, since the process ends"))
        }
    }
}
