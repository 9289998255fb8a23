//! The hours of a week that are not the present one, each in some bytes.
//!
//! An hour goes in and out once a week, so what rounding costs is not repeated with each observation. It is kept as
//! three whole numbers: its count, its mean, and its sum of squares. [`Rows`] keep of these what the hours differ by.
//!
//! Most metrics stand on a grid: counts, decimals, rates of counts. There the mean is kept as the sum of the values
//! in lines of the grid, and the squares as theirs: whole numbers, and small ones. What comes out is what the
//! values say, but for what floats round. Whether an hour is on a grid is asked of its moments alone, not of values: one
//! that is not so to within rounding is off the grid, and then all are.
//!
//! Elsewhere a mean is counted in units, up to 47 bits of them. In either form, squares have 33 significant bits, and a
//! count 16.
//!
//! | hours | bytes an hour | bytes a week | exact to |
//! |---|---|---|---|
//! | on a grid, two decimals, a daily rhythm, a week of 60 | 5.4 | 903 | what floats round |
//! | the same, 52 weeks of 240 | 7.9 | 1,323 | the same, and 6e-11 of a deviation |
//! | others | 11 | 1,850 | 1e-13 of the distance between hours, 6e-11 of a deviation |

use serde::{Deserialize, Deserializer, Serialize};

use super::super::detect::moments::Moments;
use super::HOURS;
use super::frame::Frame;
use super::rows::{Row, Rows};

/// An hour weighs no more than so many observations: those of five years at one every 15 seconds. After them, old
/// ones fade.
pub(super) const COUNT_MAX: u32 = u16::MAX as u32;

/// Hours of a week.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
pub(super) struct Week {
    frame: Frame,
    /// A bit for each hour that stands here.
    hours: [u8; HOURS / 8],
    /// Of the hours that stand here, ascending.
    rows: Rows,
}

impl Week {
    /// What is known of `hour`, which is below [`HOURS`].
    pub(super) fn get(&self, hour: usize) -> Option<Moments> {
        self.has(hour).then(|| self.frame.moments(self.rows.get(self.place(hour))))
    }

    /// Remembers `moments`, of at least one observation, for `hour`, which is below [`HOURS`]. `spread` is the
    /// deviation of everything: the first unit is a small part of it.
    ///
    /// What no unit reaches, beyond about 1e134, is not remembered.
    pub(super) fn set(&mut self, hour: usize, moments: Moments, spread: f64) {
        let moments = faded(moments);
        let place = self.place(hour);
        match self.frame.row(moments).filter(|_| self.rows.len() > 0) {
            Some(row) if self.has(hour) => self.rows.set(place, row),
            Some(row) => self.rows.insert(place, row),
            None => {
                let mut all: Vec<_> = self.rows.iter().map(|row| self.frame.moments(row)).collect();
                all.splice(place..place + usize::from(self.has(hour)), [moments]);
                let Some((frame, rows)) = self.frame.wider(&all, spread) else { return };
                self.frame = frame;
                self.rows.pack(&rows);
            }
        }
        self.hours[hour / 8] |= 1 << (hour % 8);
    }

    /// Moves every mean by `distance`, unless they would not be finite.
    pub(super) fn shift(&mut self, distance: f64) {
        if self.rows.len() > 0 && (self.frame.offset + distance).is_finite() {
            self.frame.offset += distance;
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.rows.heap_bytes()
    }

    fn has(&self, hour: usize) -> bool {
        self.hours[hour / 8] >> (hour % 8) & 1 == 1
    }

    /// Where `hour` stands, or would.
    fn place(&self, hour: usize) -> usize {
        let count = |(bits, first): (&u8, usize)| {
            let asked = hour.saturating_sub(first).min(8) as u32;
            (u32::from(*bits) & ((1 << asked) - 1)).count_ones() as usize
        };
        self.hours.iter().zip((0..).step_by(8)).map(count).sum()
    }

    /// Whether these bytes say what can be read: all hours there, each with an observation and finite.
    fn is_sound(&self) -> bool {
        let hours = (0..HOURS).filter(|&hour| self.has(hour)).count();
        let finite = |it: Moments| it.count > 0 && it.mean.is_finite() && it.m2.is_finite();
        let sound = |row: Row| Frame::holds(row) && finite(self.frame.moments(row));
        self.frame.is_sound()
            && self.rows.is_sound()
            && self.rows.len() == hours
            && self.rows.iter().all(sound)
    }
}

/// No more than [`COUNT_MAX`] observations, that weigh as much less.
fn faded(moments: Moments) -> Moments {
    let count = moments.count.min(COUNT_MAX);
    Moments::of(count, moments.mean, moments.m2 * (f64::from(count) / f64::from(moments.count)))
}

impl<'de> Deserialize<'de> for Week {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (frame, hours, rows) = Deserialize::deserialize(from)?;
        let week = Self { frame, hours, rows };
        week.is_sound().then_some(week).ok_or_else(|| serde::de::Error::custom("a week contradicts itself"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts `hours` away, then takes them out: they are the same to `tolerance` of `spread`.
    #[track_caller]
    fn check(hours: &[(usize, Moments)], spread: f64, tolerance: f64) {
        let mut week = Week::default();
        hours.iter().for_each(|&(hour, moments)| week.set(hour, moments, spread));
        for &(hour, moments) in hours {
            let found = week.get(hour).unwrap();
            assert_eq!(found.count, moments.count);
            assert!((found.mean - moments.mean).abs() <= tolerance * spread, "{found:?} {moments:?}");
            assert!((found.m2 - moments.m2).abs() <= 1.2e-10 * moments.m2, "{found:?} {moments:?}");
        }
        let read = postcard::from_bytes::<Week>(&postcard::to_allocvec(&week).unwrap());
        assert_eq!(read, Ok(week));
    }

    fn moments(count: u32, mean: f64, m2: f64) -> Moments {
        Moments::of(count, mean, m2)
    }

    #[test]
    fn an_hour_comes_out_as_it_went_in() {
        check(&[(0, moments(1, 0.1, 0.0))], 0.0, 0.0);
        check(&[(5, moments(240, 1e9 + 0.1, 99.0)), (4, moments(7, 1e9 - 3.3, 0.01))], 2.0, 1e-13);
        check(&[(167, moments(65_535, -3.3, 1e-9)), (0, moments(1, 5.5, 1e9))], 3.0, 1e-13);
    }

    #[test]
    fn an_hour_far_away_makes_units_larger_for_all() {
        let near = (9, moments(3, 1.0 / 3.0, 1.0 / 7.0));
        check(&[near, (8, moments(3, 1e6 / 3.0, 1.0 / 3.0))], 1.0, 1e-8);
        check(&[near, (8, moments(3, 1e6 / 3.0, 1.0 / 3.0)), (7, moments(2, -1e9, 1.0))], 1.0, 1e-5);
    }

    #[test]
    fn what_no_unit_reaches_is_not_remembered() {
        let mut week = Week::default();
        week.set(3, moments(2, 1.0, 1.0), 1.0);
        week.set(4, moments(2, f64::MAX, 1.0), 1.0);
        assert_eq!(week.get(3), Some(moments(2, 1.0, 1.0)));
        assert_eq!(week.get(4), None);
        let mut week = Week::default();
        week.set(5, moments(1, -1e30, 0.0), 0.0); // No grid has so distant a line.
        assert_eq!(week.get(5), Some(moments(1, -1e30, 0.0)));
    }

    #[test]
    fn old_observations_fade_where_the_count_ends() {
        let mut week = Week::default();
        week.set(3, moments(4 * COUNT_MAX, 2.0, 4.0), 1.0);
        assert_eq!(week.get(3), Some(moments(COUNT_MAX, 2.0, 1.0)));
    }

    #[test]
    fn each_hour_has_its_own_place() {
        let mut week = Week::default();
        let order = (0..HOURS).map(|step| step * 101 % HOURS);
        for hour in order.clone().chain(order) {
            week.set(hour, moments(1 + hour as u32, hour as f64, 0.0), 1.0);
        }
        for hour in 0..HOURS {
            assert_eq!(week.get(hour), Some(moments(1 + hour as u32, hour as f64, 0.0)));
        }
    }

    /// So many weeks of `count` values an hour, which `value` makes of the hour and of noise below 1000.
    fn taught(weeks: usize, count: usize, value: impl Fn(usize, f64) -> f64) -> (Week, Vec<Moments>) {
        let (mut week, mut state) = (Week::default(), 1_u64);
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as f64 % 1000.0
        };
        let mut all = vec![Moments::default(); HOURS];
        for hour in (0..HOURS * weeks).map(|hour| hour % HOURS) {
            let mut moments = week.get(hour).unwrap_or_default();
            for _ in 0..count {
                let value = value(hour, noise());
                moments.learn(value);
                all[hour].learn(value);
            }
            week.set(hour, moments, 300.0);
        }
        (week, all)
    }

    #[test]
    fn hours_on_a_grid_come_out_as_they_went_in_and_take_little() {
        let check = |weeks, count, per_one: f64, most: usize| {
            let daily = |hour: usize| 10_000.0 * (hour as f64 * std::f64::consts::TAU / 24.0).sin().round();
            let (week, hours) =
                taught(weeks, count, |hour, noise| (20_000.0 + daily(hour) + noise) / per_one);
            assert!(week.heap_bytes() <= most, "{} bytes for {per_one}", week.heap_bytes());
            for (hour, moments) in hours.into_iter().enumerate() {
                let found = week.get(hour).unwrap();
                assert!(
                    (found.mean - moments.mean).abs() <= 1e-13 * moments.mean.abs(),
                    "{found:?} {moments:?}"
                );
                assert!((found.m2 - moments.m2).abs() <= 1.2e-10 * moments.m2, "{found:?} {moments:?}");
            }
        };
        check(1, 60, 1.0, 1000);
        check(1, 60, 100.0, 1000);
        check(1, 240, 15.0, 1200);
        check(52, 240, 100.0, 1500);
        check(1, 60, 1.0 / 4096.0, 1200);
    }

    #[test]
    fn hours_off_any_grid_take_more() {
        let (week, _) = taught(2, 60, |hour, noise| (hour as f64).sqrt() + noise.sqrt());
        assert!((1500..1950).contains(&week.heap_bytes()), "{}", week.heap_bytes());
    }

    #[test]
    fn only_a_week_that_can_be_read_is_read_back() {
        let mut week = Week::default();
        week.set(3, moments(2, 1.0, 1.0), 1.0);
        let check = |change: fn(&mut Week), fits: bool| {
            let mut week = week.clone();
            change(&mut week);
            let read = postcard::from_bytes::<Week>(&postcard::to_allocvec(&week).unwrap());
            assert_eq!(read.is_ok(), fits, "{week:?}");
        };
        check(|_| {}, true);
        check(|week| *week = Week::default(), true);
        check(|week| week.rows = Rows::default(), false);
        check(|week| week.hours[0] |= 2, false); // An hour too many.
        check(|week| week.frame.offset = f64::INFINITY, false);
        check(|week| week.frame.offset = f64::NAN, false);
        check(|week| week.rows.pack(&[[0, 2, 2]]), false); // No observation.
        check(|week| week.rows.pack(&[[2, 2, -1]]), false); // No spread is below 0.
    }
}
