//! Verdicts of all kinds side by side, and those of the first four at once.
//!
//! Number by number, since a processor that reads two together waits until both are written; and two together are
//! computed in the time of one.

use super::iqr::FENCE;
use super::mad::{CONSISTENCY, THRESHOLD};
use super::moments::{Moments, NOISE, SIGMAS};
use super::summary::Summary;
use super::{Band, DetectorKind, Verdict};

const KINDS: usize = DetectorKind::ALL.len();

/// So many kinds come first: z-score, rolling z-score, MAD and IQR.
const FIRST: usize = 4;

/// A verdict for each kind.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(in crate::engine) struct Verdicts {
    score: [f64; KINDS],
    expected: [f64; KINDS],
    lower: [f64; KINDS],
    upper: [f64; KINDS],
}

impl Verdicts {
    /// Sets the verdict of `kind`.
    #[inline]
    pub(in crate::engine) fn put(&mut self, kind: DetectorKind, Verdict { score, band }: Verdict) {
        let place = kind as usize;
        self.score[place] = score;
        (self.expected[place], self.lower[place], self.upper[place]) =
            (band.expected, band.lower, band.upper);
    }

    /// The verdict of `kind`.
    #[inline]
    pub(in crate::engine) fn of(&self, kind: DetectorKind) -> Verdict {
        let place = kind as usize;
        let (expected, lower, upper) = (self.expected[place], self.lower[place], self.upper[place]);
        Verdict { score: self.score[place], band: Band { expected, lower, upper } }
    }

    /// The score of `kind`.
    #[inline]
    pub(in crate::engine) fn score(&self, kind: DetectorKind) -> f64 {
        self.score[kind as usize]
    }

    /// Sets the verdicts on `value` of the first four, which judge by the moments of `all` and by the `window`: to the
    /// last bit what each says alone. Whether it could: not where one of them says nothing, or edges are so far that
    /// their sum is not finite; then they are to be asked alone.
    // Among much else it would not be compiled to steps that take two at once.
    #[inline(never)]
    pub(in crate::engine) fn judge_first(&mut self, value: f64, all: &Moments, window: &Summary) -> bool {
        let &Summary { mean, std, q1, median, q3, mad } = window;
        let (low, high) = ([all.mean, mean, median, q1], [all.mean, mean, median, q3]);
        let expected = [all.mean, mean, median, median];
        let spread = [all.std(), std, mad, q3 - q1];
        let reach =
            [SIGMAS * spread[0], SIGMAS * spread[1], THRESHOLD * mad / CONSISTENCY, FENCE * spread[3]];
        let (mut lower, mut upper, mut score) = ([0.0; FIRST], [0.0; FIRST], [0.0; FIRST]);
        let (mut is_spread, mut farthest) = (true, 0.0);
        for place in 0..FIRST {
            let (below, above) = (low[place].abs(), high[place].abs());
            is_spread &= spread[place] > NOISE * if below > above { below } else { above };
            (lower[place], upper[place]) = (low[place] - reach[place], high[place] + reach[place]);
            farthest += lower[place].abs() + upper[place].abs();
            // With 0 added, a distance is never −0.
            let distance = value - expected[place] + 0.0;
            let edge = if distance >= 0.0 { upper[place] } else { lower[place] };
            score[place] = distance / (edge - expected[place]).abs();
        }
        self.score[..FIRST].copy_from_slice(&score);
        self.expected[..FIRST].copy_from_slice(&expected);
        self.lower[..FIRST].copy_from_slice(&lower);
        self.upper[..FIRST].copy_from_slice(&upper);
        is_spread & (farthest <= f64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::detect::window::Window;
    use crate::engine::detect::{iqr, mad, rolling_zscore};

    /// Compares, bit by bit, what the first four say together of `value` after `past` with what each says alone, and
    /// whether they say anything together.
    #[track_caller]
    fn check(past: impl IntoIterator<Item = f64>, value: f64, together: bool) {
        let (mut window, mut all) = (Window::default(), Moments::default());
        past.into_iter().for_each(|value| {
            window.learn(value);
            all.learn(value);
        });
        let summary = window.summary().unwrap();
        let mut verdicts = Verdicts::default();
        assert_eq!(verdicts.judge_first(value, &all, &summary), together);
        let alone = [
            all.band().map(|band| Verdict::of(value, band)),
            rolling_zscore::judge(&summary, value),
            mad::judge(&summary, value),
            iqr::judge(&summary, value),
        ];
        let bits = |it: Verdict| [it.score, it.band.expected, it.band.lower, it.band.upper].map(f64::to_bits);
        for (kind, alone) in DetectorKind::ALL.into_iter().zip(alone).filter(|_| together) {
            assert_eq!(bits(verdicts.of(kind)), bits(alone.unwrap()), "{kind:?} {value}");
        }
    }

    #[test]
    fn the_first_four_say_together_what_each_says_alone() {
        let noise = |step: u32| f64::from(step.wrapping_mul(2_654_435_761) >> 12) / 1e6;
        for value in [0.0, -0.0, 0.5, -3.25, 1e9, 0.1 + 0.2, f64::MIN_POSITIVE] {
            check((0..90).map(noise), value, true);
            check((0..90).map(|step| -noise(step).sqrt()), value, true);
            check((0..75).map(|step| noise(step) * 1e-140), value, true);
            check([-0.0, 1.0, -1.0].repeat(30), value, true);
            check((0..11).map(f64::from), value, true);
        }
    }

    #[test]
    fn they_say_nothing_together_where_one_says_nothing() {
        check([5.0; 60], 5.0, false);
        check([5.0, 5.0, 9.0].repeat(20), 5.0, false);
        check((0..60).map(|step| f64::from(step) * 1e306), 1.0, false);
    }
}
