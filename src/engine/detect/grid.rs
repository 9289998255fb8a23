//! Grids of equidistant numbers that most metrics stand on: counts, decimals, rates per interval, kibibytes.
//!
//! A number of the line and the grid give back the very bits of the value: each is one correctly rounded
//! division of two numbers that a float holds exactly. Three decimals, a sixtieth (so whatever is counted per
//! 5, 10, 15, 30 or 60 seconds) and a multiple of 1024 are on a grid; a value of full precision is on none.

/// Lines per unit, coarsest first. Each divides the next, so what is on one grid is on all finer ones.
const PER_UNIT: [f64; 9] = [1.0 / 1024.0, 1.0, 10.0, 60.0, 300.0, 3e3, 3e4, 3e5, 3e6];

/// No line has a greater number, above or below zero. Up to here a value and its line differ by less than
/// 1/128 of the distance between two lines, so that neighbours are told apart after a few roundings.
pub(super) const LINE_MAX: i64 = 1 << 46;

/// Its sum with any number that is much smaller has no fraction: it rounds, and its last bits count.
const ROUNDER: f64 = 1.5 * (1_u64 << 52) as f64;

/// One of the grids.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Grid(u8);

impl Grid {
    /// The grid of that place in the table, coarsest first.
    pub(super) fn nth(index: u8) -> Option<Self> {
        (usize::from(index) < PER_UNIT.len()).then_some(Self(index))
    }

    /// Its place in the table.
    pub(super) fn index(self) -> u8 {
        self.0
    }

    /// The next finer one.
    pub(super) fn finer(self) -> Option<Self> {
        Self::nth(self.0 + 1)
    }

    /// The coarsest one, from this on, that has a line at `value`.
    pub(super) fn with(self, value: f64) -> Option<Self> {
        std::iter::successors(Some(self), |grid| grid.finer()).find(|grid| grid.line(value).is_some())
    }

    /// Lines per unit.
    pub(super) fn per_unit(self) -> f64 {
        PER_UNIT[usize::from(self.0)]
    }

    /// What stands at a line.
    pub(super) fn value(self, line: i64) -> f64 {
        line as f64 / self.per_unit()
    }

    /// The line at `value`, to the last bit; `None` between lines, beyond [`LINE_MAX`], and for −0.0.
    pub(super) fn line(self, value: f64) -> Option<i64> {
        self.nearest(value).filter(|&line| self.value(line).to_bits() == value.to_bits())
    }

    /// The last line at or below `value`; `None` beyond [`LINE_MAX`].
    pub(super) fn line_below(self, value: f64) -> Option<i64> {
        let line = self.nearest(value)?;
        Some(line - i64::from(value < self.value(line)))
    }

    fn nearest(self, value: f64) -> Option<i64> {
        let scaled = value * self.per_unit();
        let rounded = (scaled + ROUNDER).to_bits() as i64;
        (scaled.abs() < LINE_MAX as f64).then(|| rounded.wrapping_sub(ROUNDER.to_bits() as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which grid is the first with a line at `value`, in lines per unit; 0 for none.
    #[track_caller]
    fn check(value: f64, per_unit: f64) {
        let grid = Grid::default().with(value);
        assert_eq!(grid.map_or(0.0, Grid::per_unit), per_unit, "{value}");
        if let Some(grid) = grid {
            let line = grid.line(value).unwrap();
            assert_eq!(grid.value(line).to_bits(), value.to_bits());
            assert_eq!(grid.line_below(value), Some(line));
        }
    }

    #[test]
    fn counts_decimals_rates_and_kibibytes_have_a_grid() {
        check(0.0, 1.0 / 1024.0);
        check(16_777_216.0 * 1024.0, 1.0 / 1024.0);
        check(-3.0, 1.0);
        check(0.1, 10.0);
        check(7.0 / 15.0, 60.0);
        check(13.37, 300.0);
        check(99.999, 3e3);
        check(-0.000_001, 3e6);
    }

    #[test]
    fn full_precision_the_huge_and_minus_zero_have_none() {
        check(0.1 + 0.2, 0.0);
        check(std::f64::consts::PI, 0.0);
        check(-0.0, 0.0);
        check(1e300, 0.0);
        check(f64::MIN_POSITIVE, 0.0);
        check(f64::MAX, 0.0);
    }

    #[test]
    fn each_grid_divides_the_next() {
        for pair in PER_UNIT.windows(2) {
            assert_eq!((pair[1] / pair[0]).fract(), 0.0, "{pair:?}");
        }
    }

    #[test]
    fn the_line_below_is_below_by_less_than_one() {
        let check = |value: f64, per_unit: u8, line| {
            assert_eq!(Grid::nth(per_unit).unwrap().line_below(value), line, "{value}");
        };
        check(0.75, 1, Some(0));
        check(-0.25, 1, Some(-1));
        check(-0.75, 1, Some(-1));
        check(3.0_f64.next_down(), 1, Some(2));
        check(3.0, 1, Some(3));
        check(0.3_f64.next_up(), 2, Some(3));
        check(0.3_f64.next_down(), 2, Some(2));
        check(1e14, 1, None);
        check(-1e14, 1, None);
    }
}
