//! What each hour of the week usually has: mean and standard deviation in 168 buckets.
//!
//! Good at daily and weekly season: a quiet Sunday night is not judged by Monday's rush. Blind to season
//! shorter than an hour or longer than a week, and to daylight saving: hours are UTC. An hour speaks
//! once it has [`MIN_OBSERVATIONS`], and not before a week has passed since the first observation, so
//! that an hour is never judged by its own beginning; until then everything learned speaks for it.
//!
//! 72 bytes per signal, among them the present hour and, in 24 of them, everything, which a bank keeps once for this
//! and for the z-score; 184 with a second hour, and 5 to 8 for each further one where values
//! are counts, decimals or rates of counts and none was ever outside, 11 elsewhere: about 1,100, 1,500 or 2,000 after a
//! week, a year, or off any grid.
//! Source of the running form: see [`moments`](super::detect::moments).

mod frame;
mod rows;
mod week;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::detect::moments::Moments;
use super::detect::{Detector, Verdict};
use crate::series::Sample;
use week::Week;

/// Hours of a week.
pub const HOURS: usize = 168;

/// Fewer observations, of an hour or of everything, are not judged by: of twelve normal values, the
/// standard deviation is known to about a fifth.
pub const MIN_OBSERVATIONS: u32 = 12;

/// An hour does not speak earlier after the first observation, milliseconds.
pub const MIN_HISTORY_MS: i64 = HOURS as i64 * HOUR_MS;

const HOUR_MS: i64 = 3_600_000;

/// The Unix epoch was a Thursday, three days after Monday.
const EPOCH_HOUR: i64 = 72;

/// Means and standard deviations by hour of the week, and of everything.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct HourOfWeek {
    all: Moments,
    hours: Hours,
}

/// The hours without what speaks for all of them, which may be kept for others, too.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Hours {
    /// Earliest observation, milliseconds since the Unix epoch; the end of time before the first.
    since: i64,
    /// Of the hour that was learned last.
    present: Moments,
    hour: u8,
    /// Whether nobody else asks for everything that was learned.
    pub(super) alone: bool,
    /// Of the others; what stands here for the present hour is out of date.
    week: Option<Box<Week>>,
}

impl Default for Hours {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Detector for HourOfWeek {
    /// `None` before [`MIN_OBSERVATIONS`], and while the hour that speaks has only equal values.
    #[inline]
    fn score(&self, sample: Sample) -> Option<Verdict> {
        let moments = self.hours.speaking(sample.timestamp).unwrap_or(self.all);
        if moments.count < MIN_OBSERVATIONS {
            return None;
        }
        Some(Verdict::of(sample.value, moments.band()?))
    }

    #[inline]
    fn learn(&mut self, sample: Sample) {
        self.all.learn(sample.value);
        self.hours.learn(sample, &self.all);
    }
}

impl HourOfWeek {
    /// Moves every mean by `distance`: a new level was accepted.
    pub fn shift(&mut self, distance: f64) {
        self.all.shift(distance);
        self.hours.shift(distance);
    }

    /// Bytes on the heap: those of the hours that were observed, but for the present one.
    pub fn heap_bytes(&self) -> usize {
        self.hours.heap_bytes()
    }

    /// Everything, and the hours.
    pub(super) fn into_parts(self) -> (Moments, Hours) {
        (self.all, self.hours)
    }
}

impl Hours {
    /// Before the first observation.
    pub(super) fn new(alone: bool) -> Self {
        Self { since: i64::MAX, present: Moments::default(), hour: 0, alone, week: None }
    }

    /// Takes a sample into account which `all` has learned.
    #[inline]
    pub(super) fn learn(&mut self, sample: Sample, all: &Moments) {
        self.since = self.since.min(sample.timestamp);
        let hour = hour_of_week(sample.timestamp);
        if hour != usize::from(self.hour) {
            self.turn_to(hour, all);
        }
        self.present.learn(sample.value);
    }

    /// Moves the mean of each hour by `distance`.
    pub(super) fn shift(&mut self, distance: f64) {
        if self.present.count > 0 {
            self.present.shift(distance);
        }
        self.week.iter_mut().for_each(|week| week.shift(distance));
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.week.as_ref().map_or(0, |week| size_of::<Week>() + week.heap_bytes())
    }

    /// The hour of `timestamp`, where it may speak; else everything does, once there are [`MIN_OBSERVATIONS`].
    #[inline]
    pub(super) fn speaking(&self, timestamp: i64) -> Option<Moments> {
        if timestamp.saturating_sub(self.since) < MIN_HISTORY_MS {
            return None;
        }
        self.known(hour_of_week(timestamp)).filter(|moments| moments.count >= MIN_OBSERVATIONS)
    }

    /// As it is serialised beside `all`: as [`HourOfWeek`] is.
    pub(super) fn saved(&self, all: Moments) -> impl Serialize {
        (all, self.since, self.present, self.hour, &self.week)
    }

    fn known(&self, hour: usize) -> Option<Moments> {
        if hour == usize::from(self.hour) { Some(self.present) } else { self.put_away(hour) }
    }

    /// Puts the present hour away and takes another out.
    #[cold]
    #[inline(never)]
    fn turn_to(&mut self, hour: usize, all: &Moments) {
        if self.present.count > 0 {
            let week = self.week.get_or_insert_default();
            week.set(self.hour.into(), self.present, all.std());
        }
        self.present = self.put_away(hour).unwrap_or_default();
        self.hour = hour as u8;
    }

    #[cold]
    #[inline(never)]
    fn put_away(&self, hour: usize) -> Option<Moments> {
        self.week.as_ref()?.get(hour)
    }
}

/// What a baseline is serialised as: everything, the earliest observation, the present hour and which one it is, and
/// the others.
type Saved = (Moments, i64, Moments, u8, Option<Box<Week>>);

impl Serialize for HourOfWeek {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.hours.saved(self.all).serialize(to)
    }
}

impl<'de> Deserialize<'de> for HourOfWeek {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (all, since, present, hour, week) = Saved::deserialize(from)?;
        if usize::from(hour) >= HOURS {
            return Err(serde::de::Error::custom("no week has such an hour"));
        }
        Ok(Self { all, hours: Hours { since, present, hour, week, alone: false } })
    }
}

/// The hour of the week of `timestamp`, milliseconds since the Unix epoch: 0 is Monday 00:00 UTC, 167 is
/// Sunday 23:00 UTC.
#[inline]
pub fn hour_of_week(timestamp: i64) -> usize {
    match u64::try_from(timestamp) {
        // Without a sign, divisions by what is known take half as long.
        Ok(since) => ((since / HOUR_MS as u64 + EPOCH_HOUR as u64) % HOURS as u64) as usize,
        Err(_) => hour_before_epoch(timestamp),
    }
}

#[cold]
#[inline(never)]
fn hour_before_epoch(timestamp: i64) -> usize {
    (timestamp.div_euclid(HOUR_MS) + EPOCH_HOUR).rem_euclid(HOURS as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONDAY: i64 = 1_767_571_200_000;
    const MINUTE: i64 = 60_000;

    /// Twelve observations around `level`, from `start` on, one a minute; their deviation is 1.
    fn visit(baseline: &mut HourOfWeek, start: i64, level: f64) {
        for minute in 0..12 {
            let value = level + if minute % 2 == 0 { 1.0 } else { -1.0 };
            baseline.learn(Sample { timestamp: start + minute * MINUTE, value });
        }
    }

    /// What is expected at `timestamp`, to nine places.
    fn expected(baseline: &HourOfWeek, timestamp: i64) -> Option<f64> {
        let verdict = baseline.score(Sample { timestamp, value: 0.0 });
        verdict.map(|verdict| (verdict.band.expected * 1e9).round() / 1e9)
    }

    #[test]
    fn a_week_begins_on_monday_at_midnight_utc() {
        let check = |timestamp, hour| assert_eq!(hour_of_week(timestamp), hour, "{timestamp}");
        check(0, 72);
        check(-1, 71);
        check(4 * 24 * HOUR_MS, 0);
        check(4 * 24 * HOUR_MS - 1, 167);
        check(-3 * 24 * HOUR_MS, 0);
        check(-3 * 24 * HOUR_MS - 1, 167);
        check(MONDAY, 0);
        check(MONDAY + 25 * HOUR_MS, 25);
        assert!(hour_of_week(i64::MIN) < HOURS && hour_of_week(i64::MAX) < HOURS);
    }

    #[test]
    fn everything_speaks_for_an_hour_that_has_too_little() {
        let mut baseline = HourOfWeek::default();
        assert_eq!(expected(&baseline, MONDAY), None);
        baseline.learn(Sample { timestamp: MONDAY, value: 99.0 });
        assert_eq!(expected(&baseline, MONDAY), None);
        let mut baseline = HourOfWeek::default();
        visit(&mut baseline, MONDAY, 10.0);
        visit(&mut baseline, MONDAY + HOUR_MS, 30.0);
        assert_eq!(expected(&baseline, MONDAY + MIN_HISTORY_MS + 5 * HOUR_MS), Some(20.0));
    }

    #[test]
    fn an_hour_speaks_for_itself_from_the_second_week_on() {
        let mut baseline = HourOfWeek::default();
        visit(&mut baseline, MONDAY, 10.0);
        visit(&mut baseline, MONDAY + HOUR_MS, 30.0);
        assert_eq!(expected(&baseline, MONDAY + HOUR_MS - 1), Some(20.0));
        assert_eq!(expected(&baseline, MONDAY + MIN_HISTORY_MS), Some(10.0));
        assert_eq!(expected(&baseline, MONDAY + MIN_HISTORY_MS + HOUR_MS), Some(30.0));
        let verdict = baseline.score(Sample { timestamp: MONDAY + MIN_HISTORY_MS, value: 16.0 });
        assert!((verdict.unwrap().score - 2.0).abs() < 1e-12);
    }

    #[test]
    fn an_hour_that_never_changes_is_not_judged_by_the_others() {
        let mut baseline = HourOfWeek::default();
        visit(&mut baseline, MONDAY, 10.0);
        (0..12).for_each(|minute| {
            baseline.learn(Sample { timestamp: MONDAY + HOUR_MS + minute * MINUTE, value: 0.0 });
        });
        assert_eq!(expected(&baseline, MONDAY + MIN_HISTORY_MS + HOUR_MS), None);
    }

    #[test]
    fn times_before_the_epoch_and_at_the_ends_of_time_are_hours_too() {
        let mut baseline = HourOfWeek::default();
        visit(&mut baseline, -52 * MIN_HISTORY_MS, 10.0);
        let last_hour = i64::MAX / HOUR_MS * HOUR_MS - HOUR_MS;
        visit(&mut baseline, last_hour, 60.0);
        visit(&mut baseline, i64::MIN, 50.0);
        assert_eq!(expected(&baseline, -51 * MIN_HISTORY_MS), Some(10.0));
        assert_eq!(expected(&baseline, i64::MIN), Some(40.0));
        assert_eq!(expected(&baseline, last_hour), Some(60.0));
    }

    #[test]
    fn history_that_comes_after_the_present_counts_from_its_own_time() {
        let mut baseline = HourOfWeek::default();
        visit(&mut baseline, MONDAY + MIN_HISTORY_MS + HOUR_MS, 30.0);
        visit(&mut baseline, MONDAY, 10.0);
        assert_eq!(expected(&baseline, MONDAY + MIN_HISTORY_MS), Some(10.0));
    }

    #[test]
    fn hours_are_as_large_as_stated() {
        let mut baseline = HourOfWeek::default();
        let taken = |baseline: &HourOfWeek| size_of::<HourOfWeek>() + baseline.heap_bytes();
        visit(&mut baseline, MONDAY + 5 * HOUR_MS, 10.0);
        assert_eq!(taken(&baseline), 72);
        (0..2 * HOURS as i64).for_each(|hour| visit(&mut baseline, MONDAY + hour * HOUR_MS, 10.0));
        assert_eq!(taken(&baseline), 72 + size_of::<Week>() + 210);
    }

    #[test]
    fn a_baseline_that_is_read_back_is_the_same() {
        let mut baseline = HourOfWeek::default();
        let read = |bytes: &[u8]| postcard::from_bytes::<HourOfWeek>(bytes);
        let written = |baseline: &HourOfWeek| postcard::to_allocvec(baseline).unwrap();
        assert_eq!(read(&written(&baseline)), Ok(baseline.clone()));
        for hour in [0, 167, 3, 100, 0] {
            visit(&mut baseline, MONDAY + hour * HOUR_MS, hour as f64 / 3.0);
            baseline.shift(5.0);
            assert_eq!(read(&written(&baseline)), Ok(baseline.clone()));
        }
        let bytes = written(&baseline);
        (0..bytes.len()).for_each(|end| assert!(read(&bytes[..end]).is_err(), "{end}"));
    }

    #[test]
    fn an_hour_that_no_week_has_is_not_read_back() {
        let check = |hour: u8, fits: bool| {
            let saved: Saved = (Moments::default(), 0, Moments::default(), hour, None);
            let bytes = postcard::to_allocvec(&saved).unwrap();
            assert_eq!(postcard::from_bytes::<HourOfWeek>(&bytes).is_ok(), fits, "{hour}");
        };
        check(167, true);
        check(168, false);
    }
}
