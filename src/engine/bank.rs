//! The detectors of one signal, asked together and taught together.
//!
//! Rolling z-score, MAD and IQR read one window of observations, kept once. A method that a monitor does
//! not name costs nothing.
//!
//! A signal that only ever had one value has no spread, so no method knows how far is far. Where the z-score
//! or a method of the window is asked it is judged all the same, since `up` is such a signal until the day that
//! counts: normal is then one percent around the value, and any departure from a constant zero, which has no
//! percent, is at the edge.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::baseline::{self, HourOfWeek, Hours};
use super::decide::Votes;
use super::detect::moments::Moments;
use super::detect::short_memory::ShortMemory;
use super::detect::summary::{MIN_OBSERVATIONS, Summary};
use super::detect::zscore::ZScore;
use super::detect::{Band, Detector, DetectorKind, Verdict, iqr, mad, rolling_zscore, static_limits};
use super::monitor::Monitor;
use super::prefetch::prefetch;
use crate::series::Sample;

/// Half width of the band around a constant value, as a share of it.
const CONSTANT_WIDTH: f64 = 0.01;

/// Detector state of one signal.
#[derive(Clone, Debug)]
pub struct Bank {
    /// Everything learned, for the z-score and the baseline, where one of them is asked.
    all: Option<Moments>,
    window: Option<ShortMemory>,
    baseline: Option<Box<Hours>>,
}

impl Bank {
    /// Makes room for the methods of `monitor`.
    pub fn new(monitor: &Monitor) -> Self {
        let [zscore, window, baseline] = rooms(monitor);
        Self {
            all: (zscore || baseline).then(Moments::default),
            window: window.then(ShortMemory::default),
            baseline: baseline.then(|| Box::new(Hours::new(!zscore))),
        }
    }

    /// Whether there is room for the methods of `monitor` and for no others.
    pub fn is_for(&self, monitor: &Monitor) -> bool {
        [self.zscore().is_some(), self.window.is_some(), self.baseline.is_some()] == rooms(monitor)
    }

    /// Asks every method of `monitor`.
    pub fn score(&self, sample: Sample, monitor: &Monitor) -> Votes {
        let mut votes = Votes::default();
        self.ask(sample, (monitor, Named::by(monitor)), &mut votes);
        votes
    }

    /// Asks every method of `monitor`, which are those `named`. There are no votes yet, and they are put where they will
    /// be read: they are not copied.
    #[inline(always)]
    pub(super) fn ask(&self, sample: Sample, (monitor, named): (&Monitor, Named), votes: &mut Votes) {
        let window = self.window.as_ref().filter(|_| named.windowed()).and_then(ShortMemory::summary);
        match (&self.all, &window) {
            // Where most values are one, MAD says nothing.
            (Some(all), Some(window))
                if named.all_of_first() && window.mad > 0.0 && votes.set_first(sample.value, all, window) => {
            }
            _ => self.ask_each(sample, named, window.as_ref(), votes),
        }
        if let (Some(hours), Some(all)) = (&self.baseline, &self.all) {
            let of = |moments: &Moments| Some(Verdict::of(sample.value, moments.band()?));
            let verdict = match hours.speaking(sample.timestamp) {
                Some(hour) => of(&hour),
                None if all.count < baseline::MIN_OBSERVATIONS => None,
                // Of everything the z-score has just said the same.
                None if named.has(DetectorKind::ZScore) => votes.said(DetectorKind::ZScore),
                None => of(all),
            };
            votes.set(DetectorKind::Baseline, verdict);
        }
        if named.has(DetectorKind::Static) {
            votes.set(DetectorKind::Static, static_limits::score(monitor.static_limits, sample.value));
        }
        if !votes.any_learned()
            && let Some((kind, constant)) = self.constant(monitor)
        {
            votes.set(kind, Some(around_constant(sample.value, constant)));
        }
    }

    /// Asks z-score and the methods of the window one by one.
    #[inline(never)]
    fn ask_each(&self, sample: Sample, named: Named, window: Option<&Summary>, votes: &mut Votes) {
        if let Some(window) = window {
            if named.has(DetectorKind::RollingZScore) {
                votes.set(DetectorKind::RollingZScore, rolling_zscore::judge(window, sample.value));
            }
            if named.has(DetectorKind::Mad) {
                votes.set(DetectorKind::Mad, mad::judge(window, sample.value));
            }
            if named.has(DetectorKind::Iqr) {
                votes.set(DetectorKind::Iqr, iqr::judge(window, sample.value));
            }
        }
        if let Some(all) = self.all
            && named.has(DetectorKind::ZScore)
        {
            votes.set(DetectorKind::ZScore, ZScore::from(all).score(sample));
        }
    }

    /// The only value that a known signal ever had, by the method that knows it.
    #[inline(never)]
    fn constant(&self, monitor: &Monitor) -> Option<(DetectorKind, f64)> {
        if let Some(zscore) = self.zscore() {
            return Some((DetectorKind::ZScore, zscore.constant(MIN_OBSERVATIONS)?));
        }
        let window = self.window.as_ref().filter(|window| window.len() >= MIN_OBSERVATIONS)?;
        let (low, high) = window.extremes()?;
        let windowed = [DetectorKind::RollingZScore, DetectorKind::Mad, DetectorKind::Iqr];
        let kind = monitor.detectors.iter().find(|kind| windowed.contains(kind))?;
        (low == high).then_some((*kind, low))
    }

    /// Teaches every method.
    #[inline]
    pub fn learn(&mut self, sample: Sample) {
        if let Some(window) = &mut self.window {
            window.learn(sample.value);
        }
        if let Some(all) = &mut self.all {
            all.learn(sample.value);
            if let Some(hours) = &mut self.baseline {
                hours.learn(sample, all);
            }
        }
    }

    /// Moves everything learned by `distance`: a new level was accepted, its spread is taken to be the
    /// old one.
    #[cold]
    pub fn shift(&mut self, distance: f64) {
        if let Some(all) = &mut self.all {
            all.shift(distance);
        }
        if let Some(window) = &mut self.window {
            window.shift(distance);
        }
        if let Some(baseline) = &mut self.baseline {
            baseline.shift(distance);
        }
    }

    /// Asks for the memory that scoring and learning need.
    pub(super) fn prefetch(&self) {
        if let Some(window) = &self.window {
            window.prefetch();
        }
        if let Some(baseline) = &self.baseline {
            prefetch(&**baseline);
        }
    }

    /// What the z-score knows, where it is asked.
    fn zscore(&self) -> Option<ZScore> {
        let alone = self.baseline.as_ref().is_some_and(|hours| hours.alone);
        self.all.filter(|_| !alone).map(ZScore::from)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.window.as_ref().map_or(0, ShortMemory::heap_bytes)
            + self.baseline.as_ref().map_or(0, |it| size_of::<Hours>() + it.heap_bytes())
    }
}

impl Serialize for Bank {
    /// Z-score and baseline each with everything that was learned.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let baseline = self.baseline.as_ref().zip(self.all).map(|(hours, all)| hours.saved(all));
        (self.zscore(), &self.window, baseline).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Bank {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        type Saved = (Option<ZScore>, Option<ShortMemory>, Option<HourOfWeek>);
        let (zscore, window, baseline) = Saved::deserialize(from)?;
        let zscore = zscore.map(Moments::from);
        let (everything, mut hours) = baseline.map(HourOfWeek::into_parts).unzip();
        if zscore.is_some() && everything.is_some_and(|all| zscore != Some(all)) {
            return Err(serde::de::Error::custom("z-score and baseline learned different values"));
        }
        hours.iter_mut().for_each(|hours| hours.alone = zscore.is_none());
        Ok(Self { all: zscore.or(everything), window, baseline: hours.map(Box::new) })
    }
}

/// The methods that a monitor names, a bit for each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named(u8);

impl Named {
    pub(super) fn by(monitor: &Monitor) -> Self {
        Self(monitor.detectors.iter().fold(0, |named, &kind| named | 1 << kind as u8))
    }

    fn has(self, kind: DetectorKind) -> bool {
        self.0 >> kind as u8 & 1 != 0
    }

    /// The z-score and all that share the window.
    fn all_of_first(self) -> bool {
        self.has(DetectorKind::ZScore)
            && self.has(DetectorKind::RollingZScore)
            && self.has(DetectorKind::Mad)
            && self.has(DetectorKind::Iqr)
    }

    fn windowed(self) -> bool {
        self.has(DetectorKind::RollingZScore) || self.has(DetectorKind::Mad) || self.has(DetectorKind::Iqr)
    }
}

/// Whether the methods of `monitor` need a z-score, a window and a baseline.
fn rooms(monitor: &Monitor) -> [bool; 3] {
    let named = Named::by(monitor);
    [named.has(DetectorKind::ZScore), named.windowed(), named.has(DetectorKind::Baseline)]
}

fn around_constant(value: f64, constant: f64) -> Verdict {
    match Band::around(constant, CONSTANT_WIDTH * constant.abs()) {
        Some(band) => Verdict::of(value, band),
        None => {
            let band = Band { expected: constant, lower: constant, upper: constant };
            let score = if value == constant { 0.0 } else { (value - constant).signum() };
            Verdict { score, band }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::monitor::{Direction, Emit, Policy, StaticLimits, TransformChoice};
    use crate::engine::select::Matchers;

    const HOUR_MS: i64 = 3_600_000;

    fn monitor(detectors: &[DetectorKind]) -> Monitor {
        Monitor {
            name: "m".into(),
            select: Matchers::parse("{}").unwrap(),
            transform: TransformChoice::Value,
            detectors: detectors.to_vec(),
            static_limits: StaticLimits::default(),
            policy: Policy {
                direction: Direction::Both,
                min_deviation_absolute: 0.0,
                min_deviation_relative: 0.0,
                warm_up: 0,
                trigger_ms: 0,
                fraction: 1.0,
                recovery_ms: 0,
                accept_after_ms: HOUR_MS,
            },
            forecast: None,
            emit: Emit {
                score: true,
                flag: true,
                direction: false,
                detectors: false,
                expected: false,
                forecast: false,
            },
        }
    }

    fn bits(it: Verdict) -> [u64; 4] {
        [it.score, it.band.expected, it.band.lower, it.band.upper].map(f64::to_bits)
    }

    /// Teaches two weeks to a bank and to z-score and baseline on their own, and compares what these say, bit by bit,
    /// and how they are serialised.
    #[track_caller]
    fn check(detectors: &[DetectorKind]) {
        let monitor = monitor(detectors);
        let named = |kind| detectors.contains(&kind);
        let mut bank = Bank::new(&monitor);
        let mut zscore = named(DetectorKind::ZScore).then(ZScore::default);
        let mut baseline = named(DetectorKind::Baseline).then(HourOfWeek::default);
        for step in 0..2 * 168 * 30 {
            let value = 50.0 + f64::from(step % 7) + f64::from(step / 30 % 24).sqrt();
            let sample = Sample { timestamp: i64::from(step) * HOUR_MS / 30, value };
            if step == 5000 {
                bank.shift(7.3);
                zscore.iter_mut().for_each(|it| it.shift(7.3));
                baseline.iter_mut().for_each(|it| it.shift(7.3));
            }
            let votes = bank.score(sample, &monitor);
            let alone = zscore.as_ref().and_then(|it| it.score(sample));
            assert_eq!(votes.said(DetectorKind::ZScore).map(bits), alone.map(bits), "{step}");
            let alone = baseline.as_ref().and_then(|it| it.score(sample));
            assert_eq!(votes.said(DetectorKind::Baseline).map(bits), alone.map(bits), "{step}");
            if step == 9000 {
                bank = postcard::from_bytes(&postcard::to_allocvec(&bank).unwrap()).unwrap();
            }
            bank.learn(sample);
            zscore.iter_mut().for_each(|it| it.learn(sample));
            baseline.iter_mut().for_each(|it| it.learn(sample));
        }
        let bytes = postcard::to_allocvec(&bank).unwrap();
        assert_eq!(bytes, postcard::to_allocvec(&(zscore, &bank.window, baseline)).unwrap());
        let read: Bank = postcard::from_bytes(&bytes).unwrap();
        assert!(read.is_for(&monitor));
        assert_eq!(postcard::to_allocvec(&read).unwrap(), bytes);
    }

    #[test]
    fn what_is_kept_once_is_said_and_serialised_as_if_each_had_its_own() {
        let [zscore, baseline] = [DetectorKind::ZScore, DetectorKind::Baseline];
        check(&[zscore, baseline]);
        check(&[zscore]);
        check(&[baseline]);
        check(&[zscore, DetectorKind::RollingZScore, DetectorKind::Mad, DetectorKind::Iqr, baseline]);
    }

    #[test]
    fn a_zscore_and_a_baseline_of_different_values_are_not_read_back() {
        let (mut zscore, window) = (ZScore::default(), None::<ShortMemory>);
        let baseline = HourOfWeek::default();
        let read = |saved: &(Option<ZScore>, Option<ShortMemory>, Option<HourOfWeek>)| {
            postcard::from_bytes::<Bank>(&postcard::to_allocvec(saved).unwrap()).is_ok()
        };
        assert!(read(&(Some(zscore), window.clone(), Some(baseline.clone()))));
        zscore.learn(Sample { timestamp: 0, value: 1.0 });
        assert!(!read(&(Some(zscore), window, Some(baseline))));
    }
}
