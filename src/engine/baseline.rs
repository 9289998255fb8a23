//! What each hour of the week usually has: mean and standard deviation in 168 buckets.
//!
//! Good at daily and weekly season: a quiet Sunday night is not judged by Monday's rush. Blind to season
//! shorter than an hour or longer than a week, and to daylight saving: hours are UTC. An hour speaks
//! once it has [`MIN_OBSERVATIONS`], and not before a week has passed since the first observation, so
//! that an hour is never judged by its own beginning; until then everything learned speaks for it.
//!
//! 88 bytes per signal, and 480 more for each day of the week that was ever observed: 568 after the first hour, 3,448
//! after a week. Source of the running form: see [`moments`](super::detect::moments).

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::detect::moments::Moments;
use super::detect::{Detector, Verdict};
use crate::series::Sample;

/// Hours of a week.
pub const HOURS: usize = 168;

/// Fewer observations, of an hour or of everything, are not judged by: of twelve normal values, the
/// standard deviation is known to about a fifth.
pub const MIN_OBSERVATIONS: u32 = 12;

/// An hour does not speak earlier after the first observation, milliseconds.
pub const MIN_HISTORY_MS: i64 = HOURS as i64 * HOUR_MS;

const HOUR_MS: i64 = 3_600_000;

const DAYS: usize = 7;
const DAY_HOURS: usize = HOURS / DAYS;

/// The Unix epoch was a Thursday, three days after Monday.
const EPOCH_HOUR: i64 = 72;

/// Means and standard deviations by hour of the week, and of everything.
#[derive(Clone, PartialEq, Debug)]
pub struct HourOfWeek {
    all: Moments,
    /// Earliest observation, milliseconds since the Unix epoch; the end of time before the first.
    since: i64,
    days: [Option<Box<Day>>; DAYS],
}

/// The buckets of one day. Means stand beside their squares, counts apart, which saves 96 bytes of padding.
#[derive(Clone, PartialEq, Default, Debug)]
struct Day {
    /// Mean and sum of squared distances of each hour.
    means: [(f64, f64); DAY_HOURS],
    counts: [u32; DAY_HOURS],
}

impl Default for HourOfWeek {
    fn default() -> Self {
        Self { all: Moments::default(), since: i64::MAX, days: Default::default() }
    }
}

impl Detector for HourOfWeek {
    /// `None` before [`MIN_OBSERVATIONS`], and while the hour that speaks has only equal values.
    fn score(&self, sample: Sample) -> Option<Verdict> {
        let moments = self.speaking(sample.timestamp).unwrap_or(self.all);
        if moments.count < MIN_OBSERVATIONS {
            return None;
        }
        Some(Verdict::of(sample.value, moments.band()?))
    }

    fn learn(&mut self, sample: Sample) {
        self.all.learn(sample.value);
        self.since = self.since.min(sample.timestamp);
        let (day, hour) = split(hour_of_week(sample.timestamp));
        let day = self.days[day].get_or_insert_default();
        let mut moments = day.hour(hour);
        moments.learn(sample.value);
        day.set(hour, moments);
    }
}

impl HourOfWeek {
    /// Moves every mean by `distance`: a new level was accepted.
    pub fn shift(&mut self, distance: f64) {
        self.all.shift(distance);
        self.days.iter_mut().flatten().for_each(|day| day.shift(distance));
    }

    /// Bytes on the heap: those of the days that were observed.
    pub fn heap_bytes(&self) -> usize {
        self.days.iter().flatten().count() * size_of::<Day>()
    }

    /// The hour of `timestamp`, where it may speak.
    fn speaking(&self, timestamp: i64) -> Option<Moments> {
        let (day, hour) = split(hour_of_week(timestamp));
        let hour = self.days[day].as_ref()?.hour(hour);
        let old_enough = timestamp.saturating_sub(self.since) >= MIN_HISTORY_MS;
        (old_enough && hour.count >= MIN_OBSERVATIONS).then_some(hour)
    }

    /// Hours that were observed, ascending.
    fn observed(&self) -> impl Iterator<Item = (u8, Moments)> {
        let days = self.days.iter().zip(0..).filter_map(|(day, index)| Some((day.as_ref()?, index)));
        let hours = days.flat_map(|(day, index)| {
            (0..DAY_HOURS).map(move |hour| ((index * DAY_HOURS + hour) as u8, day.hour(hour)))
        });
        hours.filter(|(_, moments)| moments.count > 0)
    }
}

/// What a baseline is serialised as: everything, the earliest observation, and the hours that were observed.
type Saved = (Moments, i64, Vec<(u8, Moments)>);

impl Serialize for HourOfWeek {
    /// At most 19 to 22 bytes for each hour that was observed.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let saved: Saved = (self.all, self.since, self.observed().collect());
        saved.serialize(to)
    }
}

impl<'de> Deserialize<'de> for HourOfWeek {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (all, since, hours) = Saved::deserialize(from)?;
        let mut baseline = Self { all, since, ..Self::default() };
        let mut least = 0;
        for (index, moments) in hours {
            if index < least || usize::from(index) >= HOURS || moments.count == 0 {
                return Err(serde::de::Error::custom("hours of the week are not in order"));
            }
            least = index + 1;
            let (day, hour) = split(usize::from(index));
            baseline.days[day].get_or_insert_default().set(hour, moments);
        }
        Ok(baseline)
    }
}

impl Day {
    fn hour(&self, index: usize) -> Moments {
        let (mean, m2) = self.means[index];
        Moments { count: self.counts[index], mean, m2 }
    }

    fn set(&mut self, index: usize, moments: Moments) {
        self.means[index] = (moments.mean, moments.m2);
        self.counts[index] = moments.count;
    }

    /// Moves the means of hours that were observed.
    fn shift(&mut self, distance: f64) {
        for ((mean, _), _) in self.means.iter_mut().zip(self.counts).filter(|(_, count)| *count > 0) {
            if (*mean + distance).is_finite() {
                *mean += distance;
            }
        }
    }
}

/// Day and hour of an hour of the week.
fn split(hour: usize) -> (usize, usize) {
    (hour / DAY_HOURS, hour % DAY_HOURS)
}

/// The hour of the week of `timestamp`, milliseconds since the Unix epoch: 0 is Monday 00:00 UTC, 167 is
/// Sunday 23:00 UTC.
pub fn hour_of_week(timestamp: i64) -> usize {
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
    fn the_buckets_are_as_large_as_stated() {
        let mut baseline = HourOfWeek::default();
        let taken = |baseline: &HourOfWeek| size_of::<HourOfWeek>() + baseline.heap_bytes();
        assert_eq!(taken(&baseline), 88);
        visit(&mut baseline, MONDAY + 5 * HOUR_MS, 10.0);
        assert_eq!(taken(&baseline), 568);
        (0..2 * HOURS as i64).for_each(|hour| visit(&mut baseline, MONDAY + hour * HOUR_MS, 10.0));
        assert_eq!(taken(&baseline), 3448);
    }

    #[test]
    fn hours_that_were_never_observed_are_not_written() {
        let written = |baseline: &HourOfWeek| postcard::to_allocvec(baseline).unwrap();
        let mut baseline = HourOfWeek::default();
        assert_eq!(written(&baseline).len(), 28);
        visit(&mut baseline, MONDAY, 10.0);
        visit(&mut baseline, MONDAY + 167 * HOUR_MS, 30.0);
        baseline.shift(5.0);
        let bytes = written(&baseline);
        assert_eq!(bytes.len(), 60);
        assert_eq!(postcard::from_bytes::<HourOfWeek>(&bytes).unwrap(), baseline);
    }

    #[test]
    fn only_hours_of_a_week_are_read_back() {
        let hour = Moments { count: 1, mean: 5.0, m2: 0.0 };
        let check = |hours: Vec<(u8, Moments)>, fits: bool| {
            let bytes = postcard::to_allocvec(&(hour, 0_i64, &hours)).unwrap();
            assert_eq!(postcard::from_bytes::<HourOfWeek>(&bytes).is_ok(), fits, "{hours:?}");
        };
        check(vec![(0, hour), (167, hour)], true);
        check(vec![(168, hour)], false);
        check(vec![(3, hour), (3, hour)], false);
        check(vec![(4, hour), (3, hour)], false);
        check(vec![(255, hour)], false);
        check(vec![(0, Moments::default())], false);
        check(vec![(0, Moments { mean: f64::NAN, ..hour })], false);
    }
}
