//! A straight line through the last 100 observations, by least squares.
//!
//! Good at what fills or drains steadily: disks, queues, quotas. Blind to season and to bends, which the
//! line cuts through. 32 bytes per signal, and 16 more for each observation, up to 1,632. A fit costs about 300
//! additions, an evaluation two.
//!
//! The band is two standard deviations of the residuals (of the population) on each side: it says how
//! far the observations lay off the line, not how sure the slope is, and does not widen with the horizon.

use serde::{Deserialize, Deserializer, Serialize};

use super::{Breach, Confidence, Limit};
use crate::engine::detect::Band;
use crate::series::Sample;

/// How many observations are kept.
pub const CAPACITY: usize = 100;

/// Fewer observations make no line worth following.
pub const MIN_OBSERVATIONS: usize = 10;

/// Half width of the band, standard deviations of the residuals.
pub const SIGMAS: f64 = 2.0;

/// The last [`CAPACITY`] observations of a signal.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
pub struct LinearTrend {
    /// In the order of slots, which is that of learning until all are taken.
    points: Vec<Sample>,
    /// The slot that is written next; once full, the oldest.
    next: u8,
}

/// A fitted line.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Line {
    /// Mean time of the observations, as milliseconds since the Unix epoch and seconds after them: a
    /// time near the observations keeps its precision.
    origin_ms: i64,
    centre: f64,
    /// Mean of the observations: the line's value at the centre.
    mean: f64,
    slope: f64,
    /// Standard deviation of the residuals.
    sigma: f64,
}

impl<'de> Deserialize<'de> for LinearTrend {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (points, next) = <(Vec<Sample>, u8)>::deserialize(from)?;
        let slot = usize::from(next);
        let learned = if points.len() == CAPACITY { slot < CAPACITY } else { slot == points.len() };
        let trend = (points.len() <= CAPACITY && learned).then_some(Self { points, next });
        trend.ok_or_else(|| serde::de::Error::custom("points contradict the slot that is next"))
    }
}

impl LinearTrend {
    /// Takes a finite observation in; the one that was learned first leaves once [`CAPACITY`] are known.
    pub fn learn(&mut self, sample: Sample) {
        debug_assert!(sample.value.is_finite(), "transform keeps {} away from forecasts", sample.value);
        let slot = usize::from(self.next);
        match self.points.get_mut(slot) {
            Some(oldest) => *oldest = sample,
            None => self.grow(sample),
        }
        self.next = if slot + 1 == CAPACITY { 0 } else { self.next + 1 };
    }

    /// Doubles the room where there is none, to [`CAPACITY`] at most.
    fn grow(&mut self, sample: Sample) {
        let len = self.points.len();
        if len == self.points.capacity() {
            self.points.reserve_exact(len.max(4).min(CAPACITY - len));
        }
        self.points.push(sample);
    }

    /// How many observations are known, at most [`CAPACITY`].
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether nothing was learned yet.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.points.capacity() * size_of::<Sample>()
    }

    /// The line that is nearest to the observations. It serves for all horizons.
    ///
    /// `None` below [`MIN_OBSERVATIONS`], while all of them have one timestamp, and where their squares
    /// overflow.
    pub fn fit(&self) -> Option<Line> {
        if self.len() < MIN_OBSERVATIONS {
            return None;
        }
        let points = &self.points;
        let origin_ms = points[0].timestamp;
        let (centre, mean) = average(points.iter().map(|point| (elapsed(origin_ms, point), point.value)));
        let around = points.iter().map(|point| (elapsed(origin_ms, point) - centre, point.value - mean));
        let (square, product) = average(around.clone().map(|(time, value)| (time * time, time * value)));
        let slope = product / square;
        let (residual, _) = average(around.map(|(time, value)| ((value - slope * time).powi(2), 0.0)));
        let line = Line { origin_ms, centre, mean, slope, sigma: residual.sqrt() };
        // Without two times the slope is 0 / 0, and whatever is not finite leaves residuals that are not.
        line.sigma.is_finite().then_some(line)
    }

    /// What is foreseen for `horizon_ms` after `now_ms`; `None` where there is no [line](Self::fit). For
    /// more than one horizon, fit once.
    pub fn forecast(&self, now_ms: i64, horizon_ms: i64) -> Option<Band> {
        Some(self.fit()?.at(now_ms.saturating_add(horizon_ms)))
    }
}

impl Line {
    /// Units of the signal per second.
    pub fn slope(&self) -> f64 {
        self.slope
    }

    /// The value at `time_ms`, milliseconds since the Unix epoch, and the band around it, which has no
    /// width where the observations lie on the line. Finite at any time: what can be fitted is below 1e155,
    /// and its slope below 1e160 a second.
    pub fn at(&self, time_ms: i64) -> Band {
        let expected = self.mean + self.slope * (seconds_between(self.origin_ms, time_ms) - self.centre);
        let half = SIGMAS * self.sigma;
        Band { expected, lower: expected - half, upper: expected + half }
    }

    /// Seconds from `now_ms` until the line is over `limit`: 0 where it is now, infinite where it never
    /// will be.
    pub fn breach_seconds(&self, limit: Limit, now_ms: i64) -> f64 {
        let room = limit.room(self.at(now_ms).expected);
        let approach = match limit {
            Limit::Upper(_) => self.slope,
            Limit::Lower(_) => -self.slope,
        };
        match room {
            room if room <= 0.0 => 0.0,
            room if approach > 0.0 => room / approach,
            _ => f64::INFINITY,
        }
    }

    /// When `limit` will be crossed, and what crosses it within `horizon_ms` after `now_ms`.
    ///
    /// The edges of the band run beside the line, so an edge that crosses within the horizon is over the
    /// limit at its beginning or at its end.
    pub fn breach(&self, limit: Limit, now_ms: i64, horizon_ms: i64) -> Breach {
        let seconds = self.breach_seconds(limit, now_ms);
        let over = |time_ms| limit.room(edge(self.at(time_ms), limit)) <= 0.0;
        let confidence = if seconds * 1e3 <= horizon_ms as f64 {
            Some(Confidence::High)
        } else if over(now_ms) || over(now_ms.saturating_add(horizon_ms)) {
            Some(Confidence::Medium)
        } else {
            None
        };
        Breach { seconds, confidence }
    }
}

/// The edge of `band` that meets `limit` first.
fn edge(band: Band, limit: Limit) -> f64 {
    match limit {
        Limit::Upper(_) => band.upper,
        Limit::Lower(_) => band.lower,
    }
}

/// Seconds from `origin_ms` to `point`.
fn elapsed(origin_ms: i64, point: &Sample) -> f64 {
    seconds_between(origin_ms, point.timestamp)
}

/// Exact to the millisecond for times within 285,000 years of each other; never overflows.
fn seconds_between(from_ms: i64, to_ms: i64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / 1e3
}

/// Means of both parts; not a number without any.
fn average(pairs: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (mut count, mut sums) = (0.0, (0.0, 0.0));
    for (first, second) in pairs {
        count += 1.0;
        sums = (sums.0 + first, sums.1 + second);
    }
    (sums.0 / count, sums.1 / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_767_571_200_000;

    /// Observations at a step of one second, `value(second)` each.
    fn taught(seconds: i64, value: impl Fn(f64) -> f64) -> LinearTrend {
        let mut trend = LinearTrend::default();
        for second in 0..seconds {
            trend.learn(Sample { timestamp: START + second * 1000, value: value(second as f64) });
        }
        trend
    }

    fn close(one: f64, other: f64) -> bool {
        one == other || (one - other).abs() <= 1e-9 * other.abs().max(1.0)
    }

    /// `noise` of ±1 in pairs that cancel, so that neither slope nor level moves: + − − + + − − +.
    fn noise(second: f64) -> f64 {
        if matches!(second as i64 % 4, 0 | 3) { 1.0 } else { -1.0 }
    }

    #[test]
    fn a_line_is_found_and_followed() {
        let trend = taught(250, |second| 7.0 - 0.5 * second);
        assert_eq!(trend.len(), 100);
        assert!(close(trend.fit().unwrap().slope(), -0.5));
        let band = trend.forecast(START + 249_000, 3_600_000).unwrap();
        assert!(close(band.expected, 7.0 - 0.5 * 3849.0), "{band:?}");
        assert!(close(band.upper, band.lower));
    }

    #[test]
    fn the_band_is_two_deviations_of_the_residuals_wide() {
        let band = taught(100, |second| 3.0 * second + noise(second)).forecast(START, 0).unwrap();
        assert!(close(band.expected, 0.0) && close(band.upper, 2.0) && close(band.lower, -2.0), "{band:?}");
    }

    #[test]
    fn nothing_is_foreseen_from_too_little() {
        assert!(LinearTrend::default().is_empty());
        assert_eq!(LinearTrend::default().forecast(START, 1000), None);
        assert_eq!(taught(9, |second| second).forecast(START, 1000), None);
        assert!(taught(10, |second| second).forecast(START, 1000).is_some());
        let mut same_time = LinearTrend::default();
        (0..50).for_each(|index| same_time.learn(Sample { timestamp: START, value: f64::from(index) }));
        assert_eq!(same_time.fit(), None);
    }

    #[test]
    fn what_overflows_is_not_foreseen() {
        assert_eq!(taught(20, |second| if second < 9.0 { -1e308 } else { 1e308 }).fit(), None);
        let steep = taught(20, |second| if second < 9.0 { -1e153 } else { 1e153 });
        assert!(steep.forecast(i64::MAX, i64::MAX).unwrap().upper.is_finite());
    }

    #[test]
    fn the_ends_of_time_are_far_apart() {
        let mut ends = LinearTrend::default();
        for index in 0..20 {
            let timestamp = if index % 2 == 0 { i64::MIN } else { i64::MAX };
            ends.learn(Sample { timestamp, value: f64::from(index) });
        }
        let slope = ends.fit().unwrap().slope();
        assert!(slope > 0.0 && slope < 1e-15, "{slope}");
    }

    /// Fits `value` over 100 seconds and compares the breach of `limit` within a minute after the last.
    fn check(value: impl Fn(f64) -> f64, limit: Limit, seconds: f64, confidence: &str) {
        let line = taught(100, value).fit().unwrap();
        let breach = line.breach(limit, START + 99_000, 60_000);
        assert!(close(breach.seconds, seconds), "{breach:?}, not {seconds}");
        assert_eq!(breach.confidence.map_or("none", Confidence::name), confidence, "{limit:?}");
        assert_eq!(line.breach_seconds(limit, START + 99_000), breach.seconds);
    }

    #[test]
    fn an_upper_limit_is_crossed_by_what_rises() {
        check(|second| second, Limit::Upper(129.0), 30.0, "high");
        check(|second| second, Limit::Upper(159.0), 60.0, "high");
        check(|second| second, Limit::Upper(199.0), 100.0, "none");
        check(|second| second, Limit::Upper(90.0), 0.0, "high");
        check(|second| -second, Limit::Upper(1.0), f64::INFINITY, "none");
        check(|second| second + noise(second), Limit::Upper(160.0), 61.0, "medium");
        check(|second| second + noise(second), Limit::Upper(162.0), 63.0, "none");
    }

    #[test]
    fn a_lower_limit_is_crossed_by_what_falls() {
        check(|second| 200.0 - second, Limit::Lower(71.0), 30.0, "high");
        check(|second| 200.0 - second, Limit::Lower(1.0), 100.0, "none");
        check(|second| 200.0 - second, Limit::Lower(101.0), 0.0, "high");
        check(|second| second, Limit::Lower(0.0), f64::INFINITY, "none");
        check(|second| -second + noise(second), Limit::Lower(-160.0), 61.0, "medium");
    }

    #[test]
    fn the_edge_of_a_band_that_moves_away_is_already_over() {
        check(|second| second + noise(second), Limit::Lower(98.0), f64::INFINITY, "medium");
        check(|_| 5.0, Limit::Upper(5.0), 0.0, "high");
        check(|_| 5.0, Limit::Upper(6.0), f64::INFINITY, "none");
        check(|second| 5.0 + noise(second), Limit::Upper(6.0), f64::INFINITY, "medium");
    }

    #[test]
    fn points_take_as_much_as_stated_and_no_more_than_that_with_time() {
        let taken = |seconds| size_of::<LinearTrend>() + taught(seconds, |second| second).heap_bytes();
        assert_eq!([0, 1, 4, 5, 100, 1000].map(taken), [32, 96, 96, 160, 1632, 1632]);
    }

    #[test]
    fn only_points_that_can_be_learned_are_read_back() {
        let check = |count: usize, next: u8, fits: bool| {
            let points = vec![Sample { timestamp: START, value: 1.0 }; count];
            let bytes = postcard::to_allocvec(&LinearTrend { points, next }).unwrap();
            let read = postcard::from_bytes::<LinearTrend>(&bytes);
            assert_eq!(read.is_ok_and(|trend| trend.len() == count), fits, "{count} points, {next} next");
        };
        check(0, 0, true);
        check(0, 1, false);
        check(7, 7, true);
        check(7, 0, false);
        check(99, 100, false);
        check(100, 99, true);
        check(100, 100, false);
        check(101, 1, false);
    }
}
