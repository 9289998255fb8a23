//! The hours of a week that are not the present one, in 13 bytes each.
//!
//! An hour goes in and out once a week, so what rounding costs is not repeated with each observation. A mean is
//! a whole number of 48 bits, counted from a base in units that all hours share; the sum of squares has
//! 33 significant bits, the count 16. That is exact to about 1e-13 of the distance between hours, and to 6e-11 of
//! a deviation.
//!
//! | bytes an hour | mean | squares | count | bytes a week | exact to |
//! |---|---|---|---|---|---|
//! | 20 | 8 | 8 | 4 | 3,391 | everything |
//! | 13 | 6 | 5 | 2 | 2,215 | 6e-11 of a deviation |
//! | 10 | 4 | 4 | 2 | 1,711 | 2e-8 of a deviation, 2e-9 of the distance between hours |
//! | 8 | 4 | 3 | 1 | 1,375 | 4e-6 of a deviation; counts rounded |

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::detect::moments::Moments;
use super::HOURS;

/// Base of means, exponent of their unit, and a bit for each hour that stands here.
const HEAD: usize = BASE + EXPONENT + HOURS / 8;
const BASE: usize = 8;
const EXPONENT: usize = 2;

/// Bytes of an hour: mean, squares, count.
const HOUR: usize = MEAN + SQUARES + COUNT;
const MEAN: usize = 6;
const SQUARES: usize = 5;
const COUNT: usize = 2;

/// An hour weighs no more than so many observations: those of five years at one every 15 seconds. After them, old
/// ones fade.
pub(super) const COUNT_MAX: u32 = u16::MAX as u32;

/// Means reach so many units from the base.
const REACH: f64 = (1_u64 << 47) as f64 - 1.0;

/// Squares keep this many bits of a float's fraction less.
const SQUARES_CUT: u32 = 20;

/// The exponent of the smallest sum of squares, in units squared. A smaller one counts as none.
const SQUARES_LEAST: u64 = 1023 - 100;

/// Hours of a week.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Week {
    /// A head, then the hours that stand here, ascending; nothing before the first.
    bytes: Vec<u8>,
}

impl Week {
    /// What is known of `hour`, which is below [`HOURS`].
    pub(super) fn get(&self, hour: usize) -> Option<Moments> {
        self.has(hour).then(|| self.read(self.place(hour)))
    }

    /// Remembers `moments`, of at least one observation, for `hour`, which is below [`HOURS`]. `spread` is the
    /// deviation of everything: the first unit is a small part of it.
    ///
    /// What no unit reaches, beyond about 1e134, is not remembered.
    pub(super) fn set(&mut self, hour: usize, moments: Moments, spread: f64) {
        if self.bytes.is_empty() {
            self.bytes = vec![0; HEAD];
            self.set_frame(moments.mean, first_exponent(moments.mean, spread));
        }
        if !self.reach(moments.mean) {
            return;
        }
        let place = self.place(hour);
        if !self.has(hour) {
            self.bytes[BASE + EXPONENT + hour / 8] |= 1 << (hour % 8);
            self.bytes.reserve_exact(HOUR);
            self.bytes.splice(place..place, [0; HOUR]);
        }
        self.write(place, moments);
    }

    /// Moves every mean by `distance`, unless the base would not be finite.
    pub(super) fn shift(&mut self, distance: f64) {
        if !self.bytes.is_empty() && (self.base() + distance).is_finite() {
            self.set_frame(self.base() + distance, self.exponent());
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    fn has(&self, hour: usize) -> bool {
        self.bytes.get(BASE + EXPONENT + hour / 8).is_some_and(|bits| bits >> (hour % 8) & 1 == 1)
    }

    /// Where `hour` stands, or would.
    fn place(&self, hour: usize) -> usize {
        let before = self.bytes.iter().take(HEAD).skip(BASE + EXPONENT).zip((0..).step_by(8));
        let count = |(bits, first): (&u8, usize)| {
            let asked = hour.saturating_sub(first).min(8) as u32;
            (u32::from(*bits) & ((1 << asked) - 1)).count_ones() as usize
        };
        HEAD + HOUR * before.map(count).sum::<usize>()
    }

    /// Makes units large enough for `mean`; whether there are such.
    fn reach(&mut self, mean: f64) -> bool {
        let units = (mean - self.base()).abs() / unit(self.exponent());
        if units <= REACH {
            return true;
        }
        let exponent = self.exponent().saturating_add(exponent_of(units / REACH) + 1);
        if !units.is_finite() || exponent > EXPONENT_MAX {
            return false;
        }
        let (coarse, places) = (self.clone(), (HEAD..self.bytes.len()).step_by(HOUR));
        self.set_frame(self.base(), exponent);
        places.for_each(|place| self.write(place, coarse.read(place)));
        true
    }

    fn read(&self, place: usize) -> Moments {
        let unit = unit(self.exponent());
        let (mean, squares) = (self.whole::<MEAN>(place), self.whole::<SQUARES>(place + MEAN));
        // The sign stands in the highest of the six bytes.
        let mean = (mean << 16) as i64 >> 16;
        let squares = if squares == 0 { 0 } else { (squares + (SQUARES_LEAST << 32)) << SQUARES_CUT };
        Moments {
            count: self.whole::<COUNT>(place + MEAN + SQUARES) as u32,
            mean: self.base() + mean as f64 * unit,
            m2: f64::from_bits(squares) * unit * unit,
        }
    }

    /// Writes what [`Self::reach`] made room for.
    fn write(&mut self, place: usize, moments: Moments) {
        let unit = unit(self.exponent());
        let count = moments.count.min(COUNT_MAX);
        let fading = f64::from(count) / f64::from(moments.count);
        let mean = ((moments.mean - self.base()) / unit).round_ties_even() as i64;
        let bits = (moments.m2 * fading / unit / unit).to_bits();
        let squares = (bits + (1 << (SQUARES_CUT - 1))) >> SQUARES_CUT;
        let squares = squares.saturating_sub(SQUARES_LEAST << 32).min((1 << 40) - 1);
        self.set_whole::<MEAN>(place, mean as u64);
        self.set_whole::<SQUARES>(place + MEAN, squares);
        self.set_whole::<COUNT>(place + MEAN + SQUARES, count.into());
    }

    fn base(&self) -> f64 {
        f64::from_bits(self.whole::<BASE>(0))
    }

    fn exponent(&self) -> i16 {
        self.whole::<EXPONENT>(BASE) as i16
    }

    fn set_frame(&mut self, base: f64, exponent: i16) {
        self.set_whole::<BASE>(0, base.to_bits());
        self.set_whole::<EXPONENT>(BASE, exponent as u64);
    }

    /// The number in the `N` bytes from `place` on, lowest first.
    fn whole<const N: usize>(&self, place: usize) -> u64 {
        let mut whole = [0; 8];
        whole[..N].copy_from_slice(&self.bytes[place..place + N]);
        u64::from_le_bytes(whole)
    }

    fn set_whole<const N: usize>(&mut self, place: usize, whole: u64) {
        self.bytes[place..place + N].copy_from_slice(&whole.to_le_bytes()[..N]);
    }

    /// Whether these bytes say what can be read: all hours there, each with an observation and finite.
    fn is_sound(&self) -> bool {
        let places = HEAD + HOUR * (0..HOURS).filter(|&hour| self.has(hour)).count();
        let finite = |it: Moments| it.count > 0 && it.mean.is_finite() && it.m2.is_finite();
        self.bytes.is_empty()
            || self.bytes.len() == places
                && self.base().is_finite()
                && (EXPONENT_MIN..=EXPONENT_MAX).contains(&self.exponent())
                && (HEAD..places).step_by(HOUR).all(|place| finite(self.read(place)))
    }
}

/// A unit is a power of two whose square, times that of any mean, is a float.
const EXPONENT_MAX: i16 = 400;
const EXPONENT_MIN: i16 = -400;

/// Two to the power of `exponent`, which is within the limits of units.
fn unit(exponent: i16) -> f64 {
    f64::from_bits(((1023 + i64::from(exponent)) as u64) << 52)
}

/// The exponent of the power of two at or below a positive `value`.
fn exponent_of(value: f64) -> i16 {
    (value.to_bits() >> 52) as i16 - 1023
}

/// The first unit: means within eight deviations are in reach of it, and as exact as that allows.
fn first_exponent(mean: f64, spread: f64) -> i16 {
    let scale = if spread > 0.0 { spread } else { mean.abs() };
    (exponent_of(scale).saturating_add(4 - 47)).clamp(EXPONENT_MIN, EXPONENT_MAX)
}

impl Serialize for Week {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.bytes.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Week {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let week = Self { bytes: Vec::deserialize(from)? };
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
        Moments { count, mean, m2 }
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
        assert_eq!(week.heap_bytes(), 31 + 13 * HOURS);
    }

    #[test]
    fn only_a_week_that_can_be_read_is_read_back() {
        let mut week = Week::default();
        week.set(3, moments(2, 1.0, 1.0), 1.0);
        let check = |change: fn(&mut Vec<u8>), fits: bool| {
            let mut bytes = week.bytes.clone();
            change(&mut bytes);
            let read = postcard::from_bytes::<Week>(&postcard::to_allocvec(&bytes).unwrap());
            assert_eq!(read.is_ok(), fits, "{bytes:?}");
        };
        check(|_| {}, true);
        check(Vec::clear, true);
        check(|bytes| bytes.truncate(30), false);
        check(|bytes| bytes.push(0), false);
        check(|bytes| bytes[BASE + EXPONENT] |= 2, false); // An hour too many.
        check(|bytes| bytes[BASE - 1] = 0x7f, false); // An infinite base.
        check(|bytes| bytes[..BASE].copy_from_slice(&f64::NAN.to_le_bytes()), false);
        check(|bytes| bytes[BASE + 1] = 0x7f, false); // No unit is so large.
        check(|bytes| bytes[HEAD + MEAN + SQUARES..].fill(0), false); // No observation.
    }
}
