//! What the whole numbers that are kept of an hour mean: sums on a grid, or units.

use serde::{Deserialize, Serialize};

use super::super::detect::moments::Moments;
use super::rows::{NUMBER_MAX, Row};
use super::week::COUNT_MAX;

/// Lines per unit of the grids that are tried: kibibytes, counts, decimals, and rates of counts.
const GRIDS: [f64; 11] = [1.0 / 1024.0, 1.0, 10.0, 60.0, 100.0, 300.0, 1e3, 1e4, 1e5, 1e6, 3e6];

/// Means on a grid are near its origin by so many lines.
const LINES_MAX: f64 = (1_u64 << 36) as f64;

/// Other means reach so many units from theirs.
const REACH: f64 = (1_u64 << 47) as f64 - 1.0;

/// Squares keep this many bits of a float's fraction less.
const SQUARES_CUT: u32 = 20;

/// Below this, squares are kept as they are: they have no more bits.
const SQUARES_WHOLE: f64 = (1_u64 << 33) as f64;

/// What is above them is numbered on: one power of two after the other has 2^32 numbers.
const SQUARES_LEAST: i64 = (1023 + 33 - 2) << 32;

/// Off a grid, squares are counted by 2^-100 of a squared unit.
const FINE: f64 = (1_u128 << 100) as f64;

/// A unit is a power of two whose square, times that of any mean, is a float.
const EXPONENT_MAX: i16 = 400;
const EXPONENT_MIN: i16 = -400;

/// How sums and means follow from the numbers of a row: its count, its mean, and its squares.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Frame {
    /// Lines, or units, per one.
    per_one: f64,
    /// The line that values are counted from; 0 off a grid.
    origin: i64,
    /// Is added to every mean.
    pub(super) offset: f64,
    on_grid: bool,
}

impl Default for Frame {
    fn default() -> Self {
        Self { per_one: GRIDS[0], origin: 0, offset: 0.0, on_grid: true }
    }
}

impl Frame {
    pub(super) fn moments(&self, [count, mean, squares]: Row) -> Moments {
        let squares = squares_of(squares) - self.lost(count, mean);
        let weight = if self.on_grid { count } else { 1 };
        let lines = (i128::from(self.origin) * i128::from(weight) + i128::from(mean)) as f64;
        let m2 = (squares / self.fine() / self.per_one / self.per_one).clamp(0.0, f64::MAX);
        Moments::of(count as u32, self.offset + lines / (self.per_one * weight as f64), m2)
    }

    /// The numbers for an hour; `None` where it is not on the grid, or out of reach.
    pub(super) fn row(&self, moments: Moments) -> Option<Row> {
        let weight = if self.on_grid { f64::from(moments.count) } else { 1.0 };
        let count = i64::from(moments.count);
        let mean = ((moments.mean - self.offset) * self.per_one - self.origin as f64) * weight;
        if mean.is_nan() || mean.abs() > if self.on_grid { LINES_MAX * weight } else { REACH } {
            return None;
        }
        let mean = mean.round_ties_even() as i64;
        let squares = moments.m2 * self.per_one * self.per_one * self.fine();
        let row = [count, mean, squares_number(squares + self.lost(count, mean))];
        (!self.on_grid || self.is_exact(row, moments)).then_some(row)
    }

    /// A frame that takes in `all`, and their rows: of a finer grid, or of larger units. `None` where no unit reaches
    /// the farthest.
    pub(super) fn wider(&self, all: &[Moments], spread: f64) -> Option<(Self, Vec<Row>)> {
        let first = all.first()?.mean;
        let grids = GRIDS.iter().filter(|&&per_one| self.on_grid && per_one >= self.per_one);
        let grids = grids.filter_map(|&per_one| {
            let origin = ((first - self.offset) * per_one).round_ties_even();
            (origin.abs() < LINES_MAX).then_some(Self { per_one, origin: origin as i64, ..*self })
        });
        grids.chain(self.reaching(all, spread)).find_map(|frame| {
            let rows: Option<Vec<_>> = all.iter().map(|&moments| frame.row(moments)).collect();
            Some((frame, rows?))
        })
    }

    /// The frame off the grid whose units reach `all`.
    fn reaching(&self, all: &[Moments], spread: f64) -> Option<Self> {
        let first = all.first()?.mean;
        let offset = if self.on_grid { first } else { self.offset };
        let mut exponent =
            if self.on_grid { first_exponent(first, spread) } else { -exponent_of(self.per_one) };
        for moments in all {
            let units = (moments.mean - offset).abs() * power(-exponent);
            if !units.is_finite() {
                return None;
            }
            if units > REACH {
                exponent = exponent.saturating_add(exponent_of(units / REACH) + 1);
            }
            if exponent > EXPONENT_MAX {
                return None;
            }
        }
        Some(Self { per_one: power(-exponent), origin: 0, offset, on_grid: false })
    }

    /// What the whole number of squares is too large by. On a grid, squares are those of lines from the origin, whose sum is
    /// whole, less the whole part of what the mean takes away.
    fn lost(&self, count: i64, mean: i64) -> f64 {
        if !self.on_grid {
            return 0.0;
        }
        let mean = i128::from(mean);
        (mean * mean % i128::from(count.max(1))) as f64 / count.max(1) as f64
    }

    /// Whether a row says the same as `moments`, but for what so many observations round.
    fn is_exact(&self, row: Row, moments: Moments) -> bool {
        let found = self.moments(row);
        let rounding = |bits: i32| 2.0_f64.powi(-bits) * (moments.mean.abs() + moments.std());
        (found.mean - moments.mean).abs() <= rounding(52) * f64::from(moments.count).sqrt()
            && (found.m2 - moments.m2).abs() <= 1.2e-10 * moments.m2 + rounding(48) * moments.m2.sqrt()
    }

    fn fine(&self) -> f64 {
        if self.on_grid { 1.0 } else { FINE }
    }

    /// Whether a frame can be this one.
    pub(super) fn is_sound(&self) -> bool {
        let exponents = EXPONENT_MIN..=EXPONENT_MAX;
        self.offset.is_finite()
            && self.per_one > 0.0
            && exponents.contains(&exponent_of(self.per_one))
            && self.origin.unsigned_abs() <= LINES_MAX as u64
            && (self.on_grid || self.per_one == power(exponent_of(self.per_one)))
    }

    /// Whether a row can be one of a frame.
    pub(super) fn holds([count, mean, squares]: Row) -> bool {
        (1..=i64::from(COUNT_MAX)).contains(&count)
            && mean.unsigned_abs() <= NUMBER_MAX.unsigned_abs()
            && (0..=squares_number(f64::MAX)).contains(&squares)
    }
}

/// Numbers what is not below 0, ascending: whole numbers up to 33 bits by themselves, greater ones by their first 33 bits.
fn squares_number(squares: f64) -> i64 {
    if squares < SQUARES_WHOLE {
        return squares.round_ties_even() as i64;
    }
    let bits = squares.min(f64::MAX / 2.0).to_bits();
    ((bits + (1 << (SQUARES_CUT - 1))) >> SQUARES_CUT) as i64 - SQUARES_LEAST
}

fn squares_of(number: i64) -> f64 {
    if number < SQUARES_WHOLE as i64 {
        return number as f64;
    }
    f64::from_bits(((number + SQUARES_LEAST) as u64) << SQUARES_CUT)
}

/// Two to the power of `exponent`, which is within the limits of units.
fn power(exponent: i16) -> f64 {
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
