//! What each hour of the week usually has: mean and standard deviation in 168 buckets.
//!
//! Good at daily and weekly season: a quiet Sunday night is not judged by Monday's rush. Blind to season
//! shorter than an hour or longer than a week, and to daylight saving: hours are UTC. An hour speaks
//! once it has [`MIN_OBSERVATIONS`], and not before a week has passed since the first observation, so
//! that an hour is never judged by its own beginning; until then everything learned speaks for it.
//!
//! 32 bytes per signal, and 3,368 more from the first observation on. Source of the running form: see
//! [`moments`](super::detect::moments).

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

/// The Unix epoch was a Thursday, three days after Monday.
const EPOCH_HOUR: i64 = 72;

/// Means and standard deviations by hour of the week, and of everything.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct HourOfWeek {
    all: Moments,
    hours: Option<Box<Hours>>,
}

/// The buckets. Means stand beside their squares, counts apart, which saves 672 bytes of padding.
#[derive(Clone, PartialEq, Debug)]
struct Hours {
    /// Earliest observation, milliseconds since the Unix epoch.
    since: i64,
    /// Mean and sum of squared distances of each hour.
    means: [(f64, f64); HOURS],
    counts: [u32; HOURS],
}

impl Detector for HourOfWeek {
    /// `None` before [`MIN_OBSERVATIONS`], and while the hour that speaks has only equal values.
    fn score(&self, sample: Sample) -> Option<Verdict> {
        let hour = self.hours.as_ref()?.speaking(sample.timestamp);
        let moments = hour.unwrap_or(self.all);
        if moments.count < MIN_OBSERVATIONS {
            return None;
        }
        Some(Verdict::of(sample.value, moments.band()?))
    }

    fn learn(&mut self, sample: Sample) {
        self.all.learn(sample.value);
        self.hours.get_or_insert_with(|| Box::new(Hours::since(sample.timestamp))).learn(sample);
    }
}

impl HourOfWeek {
    /// Moves every mean by `distance`: a new level was accepted.
    pub fn shift(&mut self, distance: f64) {
        self.all.shift(distance);
        for (mean, _) in self.hours.iter_mut().flat_map(|hours| &mut hours.means) {
            if (*mean + distance).is_finite() {
                *mean += distance;
            }
        }
    }

    /// Bytes on the heap: none before the first observation.
    pub fn heap_bytes(&self) -> usize {
        self.hours.as_ref().map_or(0, |_| size_of::<Hours>())
    }
}

impl Hours {
    fn since(since: i64) -> Self {
        Self { since, means: [(0.0, 0.0); HOURS], counts: [0; HOURS] }
    }

    /// The hour of `timestamp`, where it may speak.
    fn speaking(&self, timestamp: i64) -> Option<Moments> {
        let hour = self.hour(hour_of_week(timestamp));
        let old_enough = timestamp.saturating_sub(self.since) >= MIN_HISTORY_MS;
        (old_enough && hour.count >= MIN_OBSERVATIONS).then_some(hour)
    }

    fn hour(&self, index: usize) -> Moments {
        let (mean, m2) = self.means[index];
        Moments { count: self.counts[index], mean, m2 }
    }

    fn learn(&mut self, sample: Sample) {
        let index = hour_of_week(sample.timestamp);
        let mut hour = self.hour(index);
        hour.learn(sample.value);
        self.means[index] = (hour.mean, hour.m2);
        self.counts[index] = hour.count;
        self.since = self.since.min(sample.timestamp);
    }
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
        assert_eq!(size_of::<Hours>(), 3368);
    }
}
