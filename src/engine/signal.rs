//! One signal: a stream of observations that a monitor draws from a series, and all that is known of it.

mod several;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bank::{Bank, Named};
use super::decide::{Decided, Decision, Lesson, Votes};
use super::derive::{DerivedLabels, Origin, Output, Scratch};
use super::forecast::linear::{Line, LinearTrend};
use super::forecast::{Breach, Confidence};
use super::monitor::{Emit, ForecastSpec, Monitor};
use super::sink::{Judgement, Sink};
use super::transform::{Skip, Transform};
use crate::series::{Sample, stale_marker};

pub(super) use several::Signals;

/// What judging did, for the counts of a batch.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Effect {
    /// Derived samples made.
    pub(super) derived: u64,
    /// What seldom happens.
    pub(super) news: Option<News>,
}

/// That the flag is another than before, or what normal is.
#[derive(Clone, Copy, Debug)]
pub(super) struct News {
    /// 1 when the flag rose, −1 when it fell, else 0.
    pub(super) flagged: i64,
    /// Whether a new level was accepted.
    pub(super) shifted: bool,
}

impl News {
    fn of(decided: &Decided) -> Option<Self> {
        let &Decided { flag, changed, shift, .. } = decided;
        let flagged = if flag { 1 } else { -1 };
        let news = Self { flagged: if changed { flagged } else { 0 }, shifted: shift.is_some() };
        (changed || news.shifted).then_some(news)
    }
}

/// State of one signal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Signal {
    /// Index of its monitor in the plan.
    pub(super) monitor: u32,
    seen: Seen,
    /// Hash of the labels that its derived series share.
    id: u64,
    pub(super) transform: Transform,
    bank: Bank,
    decision: Decision,
    trend: Option<Box<LinearTrend>>,
    /// Timestamp of the newest judgement.
    judged: i64,
}

/// How many observations there were, up to [`Seen::MOST`], and two marks, in 4 bytes.
#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
struct Seen(u32);

impl Seen {
    /// Whether the signal was judged and has not ended since.
    const LIVES: u32 = 1 << 31;
    /// Whether derived series live.
    const WRITTEN: u32 = 1 << 30;
    const MOST: u32 = Self::WRITTEN - 1;

    fn observations(self) -> u32 {
        self.0 & Self::MOST
    }

    fn observe(&mut self) {
        self.0 += u32::from(self.observations() < Self::MOST);
    }

    fn set(&mut self, mark: u32) {
        self.0 |= mark;
    }

    /// Takes a mark away; whether it was there.
    fn take(&mut self, mark: u32) -> bool {
        let was = self.0 & mark > 0;
        self.0 &= !mark;
        was
    }
}

impl Signal {
    pub(super) fn new(index: u32, monitor: &Monitor, origin: Origin<'_>, transform: Transform) -> Self {
        Self {
            monitor: index,
            seen: Seen::default(),
            id: DerivedLabels::new(origin, &monitor.name, transform.stat()).id(),
            transform,
            bank: Bank::new(monitor),
            decision: Decision::default(),
            trend: monitor.forecast.as_ref().map(|_| Box::default()),
            judged: i64::MIN,
        }
    }

    pub(super) fn is_flagged(&self) -> bool {
        self.decision.is_flagged()
    }

    /// Whether its monitor stands in `monitors` and asks for what it keeps.
    pub(super) fn is_of(&self, monitors: &[Arc<Monitor>]) -> bool {
        let monitor = monitors.get(self.monitor as usize);
        monitor.is_some_and(|it| self.bank.is_for(it) && self.trend.is_some() == it.forecast.is_some())
    }

    /// Asks for the memory that judging needs.
    pub(super) fn prefetch(&self) {
        self.bank.prefetch();
    }

    /// Judges a sample that the series, with the labels of `origin`, admitted, by the methods that `monitor` names.
    #[inline(always)]
    pub(super) fn judge(
        &mut self,
        sample: Sample,
        (origin, monitor, named): (Origin<'_>, &Arc<Monitor>, Named),
        scratch: &mut Scratch,
        sink: &mut impl Sink,
    ) -> Result<Effect, Skip> {
        let sample = self.transform.observe(sample)?;
        let labels = DerivedLabels::new(origin, &monitor.name, self.transform.stat());
        let mut votes = Votes::default();
        self.bank.ask(sample, (monitor, named), &mut votes);
        let (decided, lesson) = self.decision.decide(sample, &votes, &monitor.policy);
        self.learn(sample, decided.and_then(|it| it.shift), lesson);
        let line = self.trend.as_ref().and_then(|trend| trend.fit());
        sink.judged(&Judgement {
            signal: self.id,
            labels: &labels,
            sample,
            decided,
            votes: &votes,
            observations: self.seen.observations(),
            line,
            monitor,
        });
        self.seen.observe();
        let mut writer = Writer { labels: &labels, timestamp: sample.timestamp, scratch, sink, written: 0 };
        if let Some(decided) = &decided {
            writer.verdict(decided, &votes, monitor);
        }
        if let (Some(spec), Some(line)) = (&monitor.forecast, &line)
            && monitor.emit.forecast
        {
            writer.forecast(spec, line);
        }
        let derived = writer.written;
        self.judged = sample.timestamp;
        self.seen.set(Seen::LIVES | if derived > 0 { Seen::WRITTEN } else { 0 });
        Ok(Effect { derived, news: decided.as_ref().and_then(News::of) })
    }

    #[inline(always)]
    fn learn(&mut self, sample: Sample, shift: Option<f64>, lesson: Lesson) {
        if let Some(distance) = shift {
            self.bank.shift(distance);
        }
        if let Lesson::Learn(value) = lesson {
            self.bank.learn(Sample { value, ..sample });
        }
        if let Some(trend) = &mut self.trend {
            trend.learn(sample);
        }
    }

    /// Ends the derived series at `timestamp`, or just after what was written last; they begin anew with
    /// the next observation. What was learned stays.
    pub(super) fn end(
        &mut self,
        timestamp: i64,
        (origin, monitor): (Origin<'_>, &Monitor),
        scratch: &mut Scratch,
        sink: &mut impl Sink,
    ) -> u64 {
        self.transform.end();
        self.decision.end();
        if !self.seen.take(Seen::LIVES) {
            return 0;
        }
        let timestamp = timestamp.max(self.judged.saturating_add(1));
        let labels = DerivedLabels::new(origin, &monitor.name, self.transform.stat());
        let mut writer = Writer { labels: &labels, timestamp, scratch, sink, written: 0 };
        if self.seen.take(Seen::WRITTEN) {
            writer.stale(monitor);
        }
        let derived = writer.written;
        sink.ended(self.id, timestamp);
        derived
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bank.heap_bytes()
            + self.decision.heap_bytes()
            + self.trend.as_ref().map_or(0, |it| size_of::<LinearTrend>() + it.heap_bytes())
    }
}

/// Names of the outputs without labels of their own, in the order in which they are written.
const PLAIN: [&[u8]; 6] = [
    Output::Score.name_label(),
    Output::Flag.name_label(),
    Output::Direction.name_label(),
    Output::Expected.name_label(),
    Output::ExpectedLower.name_label(),
    Output::ExpectedUpper.name_label(),
];

/// Writes the outputs of one instant.
struct Writer<'a, S> {
    labels: &'a DerivedLabels<'a>,
    timestamp: i64,
    scratch: &'a mut Scratch,
    sink: &'a mut S,
    written: u64,
}

impl<S: Sink> Writer<'_, S> {
    fn put(&mut self, output: Output<'_>, value: f64) {
        let sample = Sample { timestamp: self.timestamp, value };
        self.labels.splice(output, sample, self.scratch, |derived| self.sink.derived(derived));
        self.written += 1;
    }

    /// Puts those of [`PLAIN`] that are wanted.
    #[inline(always)]
    fn put_plain(&mut self, emit: &Emit, values: [f64; PLAIN.len()]) {
        const NONE: (&[u8], f64) = (&[], 0.0);
        let mut outputs = [NONE; PLAIN.len()];
        let mut count = 0;
        for (index, wanted) in [emit.score, emit.flag, emit.direction].into_iter().enumerate() {
            // What is not wanted is overwritten, or left behind: that costs less than to ask.
            outputs[count] = (PLAIN[index], values[index]);
            count += usize::from(wanted);
        }
        if emit.expected {
            for index in 3..PLAIN.len() {
                outputs[count] = (PLAIN[index], values[index]);
                count += 1;
            }
        }
        if count > 0 {
            let outputs = &outputs[..count];
            self.labels.plain(outputs, self.timestamp, self.scratch, |derived| self.sink.derived(derived));
            self.written += count as u64;
        }
    }

    fn verdict(&mut self, decided: &Decided, votes: &Votes, monitor: &Monitor) {
        let flag = f64::from(u8::from(decided.flag));
        let band = decided.band;
        let values =
            [decided.score, flag, f64::from(decided.direction), band.expected, band.lower, band.upper];
        self.put_plain(&monitor.emit, values);
        if monitor.emit.detectors {
            for (kind, verdict) in votes.iter() {
                self.put(Output::Detector(kind), verdict.score.abs());
            }
        }
    }

    fn forecast(&mut self, spec: &ForecastSpec, line: &Line) {
        let now = self.timestamp;
        for horizon in &spec.horizons {
            let band = line.at(now.saturating_add(horizon.ms));
            self.put(Output::Forecast(&horizon.label), band.expected);
            self.put(Output::ForecastLower(&horizon.label), band.lower);
            self.put(Output::ForecastUpper(&horizon.label), band.upper);
        }
        let farthest = spec.farthest_ms();
        for (limit, threshold) in spec.sides() {
            let Breach { seconds, confidence } = line.breach(limit, now, farthest);
            self.put(Output::BreachSeconds(threshold), seconds);
            let is = |wanted| f64::from(u8::from(confidence == Some(wanted)));
            self.put(Output::BreachHigh(threshold), is(Confidence::High));
            self.put(Output::BreachMedium(threshold), is(Confidence::Medium));
        }
    }

    /// Puts a stale marker on everything that the monitor writes.
    #[inline(never)]
    fn stale(&mut self, monitor: &Monitor) {
        let stale = stale_marker();
        let emit = &monitor.emit;
        self.put_plain(emit, [stale; PLAIN.len()]);
        if emit.detectors {
            monitor.detectors.iter().for_each(|&kind| self.put(Output::Detector(kind), stale));
        }
        let Some(spec) = monitor.forecast.as_ref().filter(|_| emit.forecast) else { return };
        for horizon in &spec.horizons {
            self.put(Output::Forecast(&horizon.label), stale);
            self.put(Output::ForecastLower(&horizon.label), stale);
            self.put(Output::ForecastUpper(&horizon.label), stale);
        }
        for (_, threshold) in spec.sides() {
            self.put(Output::BreachSeconds(threshold), stale);
            self.put(Output::BreachHigh(threshold), stale);
            self.put(Output::BreachMedium(threshold), stale);
        }
    }
}
