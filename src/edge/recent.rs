//! What was judged lately, in memory, for the page and for queries.
//!
//! One part per shard, each under its own lock, taken once per batch. Bounded: the first 2,048 signals keep
//! their last 240 observations (about 14 KiB each), and the last 1,000 episodes of a raised flag are kept
//! whatever their signal.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::engine::decide::Decided;
use crate::engine::forecast::linear::Line;
use crate::engine::monitor::Monitor;
use crate::engine::sink::Judgement;
use crate::series::{HashedAlready, LabelRun};

/// Signals whose observations are kept, over all shards.
pub const SIGNALS_MAX: usize = 2048;
/// Observations that are kept of each.
pub const POINTS_MAX: usize = 240;
/// Episodes that are kept, over all shards.
pub const EPISODES_MAX: usize = 1000;

/// One judged observation.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Point {
    /// Unix milliseconds.
    pub timestamp: i64,
    /// What was observed.
    pub value: f64,
    /// What was expected; absent while nothing is known.
    pub expected: Option<f32>,
    /// Lower edge of normal.
    pub lower: Option<f32>,
    /// Upper edge of normal.
    pub upper: Option<f32>,
    /// Score on the common scale.
    pub score: Option<f32>,
    /// The flag.
    pub flag: bool,
}

/// Labels of a signal's derived series, without a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Labels(Box<[u8]>);

impl Labels {
    /// As a canonical run.
    pub fn run(&self) -> LabelRun<'_> {
        LabelRun::from_canonical(&self.0)
    }

    /// Those of what was judged.
    pub fn of(judgement: &Judgement<'_>) -> Self {
        Self(judgement.labels.to_run())
    }
}

impl Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.run().iter().map(|label| (label.name, label.value)))
    }
}

/// A signal and its last observations.
#[derive(Clone, Debug)]
pub struct SignalView {
    /// Labels of its derived series, without a name.
    pub labels: Labels,
    /// How many observations were judged.
    pub observations: u32,
    /// The last ones, oldest first.
    pub points: VecDeque<Point>,
    /// Timestamp of the stale markers that ended its derived series, until it is seen again.
    pub ended: Option<i64>,
    /// The line that forecasts are read from, where the monitor asks for them.
    pub line: Option<Line>,
    /// The monitor it belongs to.
    pub monitor: Arc<Monitor>,
}

/// From the moment a flag rose until it fell: what was seen and why.
#[derive(Clone, Debug, Serialize)]
pub struct Episode {
    /// Labels of the derived series, without a name.
    pub labels: Labels,
    /// When the flag rose, Unix milliseconds of event time.
    pub since: i64,
    /// When it fell or its source ended; absent while it is raised.
    pub until: Option<i64>,
    /// What was observed when it rose.
    pub value: f64,
    /// What was expected then.
    pub expected: f64,
    /// Lower edge of normal then.
    pub lower: f64,
    /// Upper edge of normal then.
    pub upper: f64,
    /// Score then.
    pub score: f64,
    /// Greatest score since.
    pub peak_score: f64,
    /// The method that spoke.
    pub by: &'static str,
    /// Each method's score when the flag rose, signed: negative is below.
    pub votes: Vec<(&'static str, f64)>,
    /// Whether it ended because the level was accepted as the new normal.
    pub accepted: bool,
    #[serde(skip)]
    signal: u64,
}

/// All parts.
#[derive(Clone, Debug)]
pub struct Recent {
    parts: Vec<Arc<Mutex<Part>>>,
}

/// The part of one shard.
#[derive(Debug)]
pub struct Part {
    /// Places of signals among the views. Apart, since most signals that are looked for have none, and a table of
    /// 32 KiB is at hand where one of views is not.
    places: HashMap<u64, u32, HashedAlready>,
    views: Vec<SignalView>,
    views_max: usize,
    shown: Shown,
    /// Whether a signal that is not shown would be.
    has_room: bool,
    /// Those of the signals that ended, the oldest end first.
    ended: BTreeSet<(i64, u64)>,
    episodes: VecDeque<Episode>,
    episodes_max: usize,
    /// Numbers of the episodes that are still open, by signal.
    open: HashMap<u64, u64>,
    /// Number of the episode at the front.
    first: u64,
}

/// Which signals are shown, or were, in 4 KiB: of those that are not, it says so of 7 in 8 or more.
///
/// A filter as in: B. H. Bloom, Space/time trade-offs in hash coding with allowable errors, Communications of the ACM 13
/// (1970), of one hash.
#[derive(Debug)]
struct Shown {
    bits: Box<[u64; 512]>,
    added: usize,
}

impl Default for Shown {
    fn default() -> Self {
        Self { bits: Box::new([0; 512]), added: 0 }
    }
}

impl Shown {
    /// Where the bit of a signal, which is a hash, stands.
    #[inline]
    fn place(signal: u64) -> (usize, u64) {
        ((signal >> 55) as usize, 1 << (signal >> 49 & 63))
    }

    /// Never false of one that was added and is among those that were said to be left.
    #[inline]
    fn may_have(&self, signal: u64) -> bool {
        let (word, bit) = Self::place(signal);
        self.bits[word] & bit > 0
    }

    /// Adds a signal; now and then, all that are `left`, and forgets the others.
    fn add<I: Iterator<Item = u64>>(&mut self, signal: u64, left: impl Fn() -> I) {
        self.added += 1;
        if self.added > 2 * SIGNALS_MAX {
            (*self.bits, self.added) = ([0; 512], 1);
            left().for_each(|signal| {
                self.set(signal);
                self.added += 1;
            });
        }
        self.set(signal);
    }

    fn set(&mut self, signal: u64) {
        let (word, bit) = Self::place(signal);
        self.bits[word] |= bit;
    }
}

impl Recent {
    /// Makes room for `shards` shards.
    pub fn new(shards: usize) -> Self {
        let part = || Part {
            places: HashMap::default(),
            views: Vec::new(),
            views_max: SIGNALS_MAX.div_ceil(shards),
            shown: Shown::default(),
            has_room: true,
            ended: BTreeSet::new(),
            open: HashMap::new(),
            first: 0,
            episodes: VecDeque::new(),
            episodes_max: EPISODES_MAX.div_ceil(shards),
        };
        Self { parts: (0..shards).map(|_| Arc::new(Mutex::new(part()))).collect() }
    }

    /// Locks the part of one shard, for a batch.
    pub fn part(&self, shard: usize) -> MutexGuard<'_, Part> {
        self.parts[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, where there is such a shard.
    pub fn get(&self, shard: usize) -> Option<MutexGuard<'_, Part>> {
        self.parts.get(shard).map(|part| part.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All episodes, the latest first.
    pub fn episodes(&self) -> Vec<Episode> {
        let mut all: Vec<_> =
            (0..self.parts.len()).flat_map(|shard| self.part(shard).episodes.clone()).collect();
        all.sort_by(|a, b| b.since.cmp(&a.since).then_with(|| a.labels.cmp(&b.labels)));
        all
    }

    /// How many signals `wanted` wants by their labels, and those at `page` in the order of their labels.
    ///
    /// Only they are copied: engines wait for the lock meanwhile.
    pub fn signals(
        &self,
        wanted: impl Fn(LabelRun<'_>) -> bool,
        page: Range<usize>,
    ) -> (usize, Vec<SignalView>) {
        let mut matched = Vec::new();
        for shard in 0..self.parts.len() {
            let part = self.part(shard);
            let views = part.places.iter().map(|(signal, at)| (signal, &part.views[*at as usize]));
            let views = views.filter(|(_, view)| wanted(view.labels.run()));
            matched.extend(views.map(|(signal, view)| (view.labels.clone(), shard, *signal)));
        }
        matched.sort();
        let paged = matched.iter().skip(page.start).take(page.len());
        let views = paged.filter_map(|(_, shard, signal)| self.part(*shard).get(*signal).cloned());
        (matched.len(), views.collect())
    }
}

impl Part {
    /// Takes one judged observation.
    ///
    /// Costs next to nothing where the signal is not shown and no flag is raised, which is what most are.
    #[inline]
    pub fn observe(&mut self, judgement: &Judgement<'_>) {
        if self.has_room || self.shown.may_have(judgement.signal) {
            self.show(judgement);
        }
        if let Some(decided) = &judgement.decided
            && (decided.flag || decided.changed)
        {
            self.follow(judgement, decided);
        }
    }

    #[inline(never)]
    fn show(&mut self, judgement: &Judgement<'_>) {
        if let Some(view) = self.view(judgement) {
            view.observations = judgement.observations.saturating_add(1);
            view.line = judgement.line;
            if view.points.len() == POINTS_MAX {
                view.points.pop_front();
            }
            view.points.push_back(point(judgement));
        }
        self.has_room = self.views.len() < self.views_max || !self.ended.is_empty();
    }

    /// Takes the end of a signal at `timestamp`: its flag cannot stay raised.
    pub fn ended(&mut self, signal: u64, timestamp: i64) {
        if let Some(&at) = self.places.get(&signal) {
            let view = &mut self.views[at as usize];
            view.ended = Some(timestamp);
            view.line = None;
            self.ended.insert((timestamp, signal));
            self.has_room = true;
        }
        if let Some(episode) = self.close_episode(signal) {
            episode.until = Some(timestamp);
        }
    }

    fn get(&self, signal: u64) -> Option<&SignalView> {
        self.places.get(&signal).map(|at| &self.views[*at as usize])
    }

    /// The view of a signal; a new one where there is room, or where an ended one makes room.
    fn view(&mut self, judgement: &Judgement<'_>) -> Option<&mut SignalView> {
        let Some(&at) = self.places.get(&judgement.signal) else { return self.begin_view(judgement) };
        let view = &mut self.views[at as usize];
        if let Some(end) = view.ended.take() {
            self.ended.remove(&(end, judgement.signal));
            // A signal that begins anew may be another monitor's of the same name.
            view.monitor = Arc::clone(judgement.monitor);
        }
        Some(view)
    }

    fn begin_view(&mut self, judgement: &Judgement<'_>) -> Option<&mut SignalView> {
        let new = || SignalView {
            labels: Labels::of(judgement),
            observations: 0,
            points: VecDeque::with_capacity(POINTS_MAX),
            ended: None,
            line: None,
            monitor: Arc::clone(judgement.monitor),
        };
        let at = match self.views.len() < self.views_max {
            true => {
                self.views.push(new());
                self.views.len() - 1
            }
            false => {
                let (_, oldest) = self.ended.pop_first()?;
                let at = self.places.remove(&oldest)? as usize;
                self.views[at] = new();
                at
            }
        };
        self.places.insert(judgement.signal, at as u32);
        self.shown.add(judgement.signal, || self.places.keys().copied());
        self.views.get_mut(at)
    }

    #[inline(never)]
    fn follow(&mut self, judgement: &Judgement<'_>, decided: &Decided) {
        if !decided.changed {
            if let Some(episode) = self.open_episode(judgement.signal) {
                episode.peak_score = episode.peak_score.max(decided.score);
            }
        } else if decided.flag {
            self.begin_episode(begin(judgement, decided));
        } else if let Some(episode) = self.close_episode(judgement.signal) {
            episode.until = Some(judgement.sample.timestamp);
            episode.accepted = decided.shift.is_some();
        }
    }

    fn begin_episode(&mut self, episode: Episode) {
        if self.episodes.len() >= self.episodes_max
            && let Some(oldest) = self.episodes.pop_front()
        {
            if self.open.get(&oldest.signal) == Some(&self.first) {
                self.open.remove(&oldest.signal);
            }
            self.first += 1;
        }
        self.open.insert(episode.signal, self.first + self.episodes.len() as u64);
        self.episodes.push_back(episode);
    }

    fn open_episode(&mut self, signal: u64) -> Option<&mut Episode> {
        let number = *self.open.get(&signal)?;
        self.episodes.get_mut((number - self.first) as usize)
    }

    fn close_episode(&mut self, signal: u64) -> Option<&mut Episode> {
        let number = self.open.remove(&signal)?;
        self.episodes.get_mut((number - self.first) as usize)
    }
}

fn begin(judgement: &Judgement<'_>, decided: &Decided) -> Episode {
    Episode {
        labels: Labels::of(judgement),
        since: judgement.sample.timestamp,
        until: None,
        value: judgement.sample.value,
        expected: decided.band.expected,
        lower: decided.band.lower,
        upper: decided.band.upper,
        score: decided.score,
        peak_score: decided.score,
        by: decided.by.name(),
        votes: judgement.votes.iter().map(|(kind, verdict)| (kind.name(), verdict.score)).collect(),
        accepted: false,
        signal: judgement.signal,
    }
}

fn point(judgement: &Judgement<'_>) -> Point {
    let decided = judgement.decided;
    Point {
        timestamp: judgement.sample.timestamp,
        value: judgement.sample.value,
        expected: decided.map(|it| it.band.expected as f32),
        lower: decided.map(|it| it.band.lower as f32),
        upper: decided.map(|it| it.band.upper as f32),
        score: decided.map(|it| it.score as f32),
        flag: decided.is_some_and(|it| it.flag),
    }
}

#[cfg(test)]
mod tests;
