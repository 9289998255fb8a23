//! What each method said, and who of them speaks for what was learned.

use crate::engine::detect::moments::Moments;
use crate::engine::detect::summary::Summary;
use crate::engine::detect::{Band, DetectorKind, Verdict, Verdicts};

/// The methods that share the window.
const WINDOWED: [DetectorKind; 3] = [DetectorKind::RollingZScore, DetectorKind::Mad, DetectorKind::Iqr];

const WINDOWED_BITS: u8 = bit(WINDOWED[0]) | bit(WINDOWED[1]) | bit(WINDOWED[2]);

/// What each method said.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Votes {
    verdicts: Verdicts,
    /// A bit for each that said something; the numbers of the others are 0.
    said: u8,
}

impl Votes {
    /// Sets what `kind` said.
    #[inline]
    pub fn set(&mut self, kind: DetectorKind, verdict: Option<Verdict>) {
        match verdict {
            Some(verdict) => {
                self.verdicts.put(kind, verdict);
                self.said |= bit(kind);
            }
            None if self.has(kind) => {
                let band = Band { expected: 0.0, lower: 0.0, upper: 0.0 };
                self.verdicts.put(kind, Verdict { score: 0.0, band });
                self.said &= !bit(kind);
            }
            None => {}
        }
    }

    /// Sets what z-score, rolling z-score, MAD and IQR say, where all do: whether they did. There are no votes yet.
    #[inline(always)]
    pub(in crate::engine) fn set_first(&mut self, value: f64, all: &Moments, window: &Summary) -> bool {
        const FIRST: u8 = bit(DetectorKind::ZScore) | WINDOWED_BITS;
        let known = self.verdicts.judge_first(value, all, window);
        if known {
            self.said = FIRST;
        } else {
            self.verdicts = Verdicts::default();
        }
        known
    }

    /// Those that said something, in order.
    pub fn iter(&self) -> impl Iterator<Item = (DetectorKind, Verdict)> {
        DetectorKind::ALL.into_iter().filter(|&kind| self.has(kind)).map(|kind| (kind, self.of(kind)))
    }

    /// Whether a method other than the static limits said something.
    #[inline]
    pub fn any_learned(&self) -> bool {
        self.said & !bit(DetectorKind::Static) != 0
    }

    /// What `kind` said, if anything.
    #[inline]
    pub(in crate::engine) fn said(&self, kind: DetectorKind) -> Option<Verdict> {
        self.has(kind).then(|| self.of(kind))
    }

    /// What `kind` said, who said something.
    #[inline]
    pub(super) fn of(&self, kind: DetectorKind) -> Verdict {
        self.verdicts.of(kind)
    }

    /// The score of `kind`, who said something.
    #[inline]
    pub(super) fn score(&self, kind: DetectorKind) -> f64 {
        self.verdicts.score(kind)
    }

    /// Who speaks for what was learned: the calmer of the short memory and the long one.
    ///
    /// The short memory is the median of the methods that share the window. The long one is the baseline, and
    /// the z-score only where there is none: it takes the daily rhythm for spread.
    #[inline]
    pub(super) fn learned(&self) -> Option<DetectorKind> {
        let said = |kind| Some(kind).filter(|&kind| self.has(kind));
        let long = said(DetectorKind::Baseline).or(said(DetectorKind::ZScore));
        self.calmer(self.middle(), long)
    }

    /// Who speaks for all: the static limits where they are crossed or nothing is learned, else `learned`.
    #[inline]
    pub(super) fn speaking(&self, learned: Option<DetectorKind>) -> Option<DetectorKind> {
        let limits = Some(DetectorKind::Static).filter(|&kind| self.has(kind));
        match limits {
            Some(kind) if self.verdicts.score(kind).abs() > 1.0 => limits,
            _ => learned.or(limits),
        }
    }

    /// Of those that share the window, the one with the middle score; of two, the calmer one.
    #[inline]
    fn middle(&self) -> Option<DetectorKind> {
        if self.said & WINDOWED_BITS != WINDOWED_BITS {
            let said = WINDOWED.into_iter().map(|kind| Some(kind).filter(|&kind| self.has(kind)));
            return said.reduce(|one, other| self.calmer(one, other)).flatten();
        }
        let [a, b, c] = WINDOWED.map(|kind| self.verdicts.score(kind));
        let least = |one: f64, other: f64| usize::from(one.total_cmp(&other).is_le());
        // Whether a ≤ b, b ≤ c and a ≤ c: any order is as likely, so this is looked up rather than asked for.
        const MIDDLE: [u8; 8] = [1, 0, 2, 1, 1, 2, 0, 1];
        let order = least(a, b) | least(b, c) << 1 | least(a, c) << 2;
        Some(WINDOWED[usize::from(MIDDLE[order])])
    }

    /// The one nearer to what it expected; the first of equals.
    fn calmer(&self, one: Option<DetectorKind>, other: Option<DetectorKind>) -> Option<DetectorKind> {
        let (Some(first), Some(second)) = (one, other) else { return one.or(other) };
        let distance = |kind: DetectorKind| self.verdicts.score(kind).abs();
        Some(if distance(first).total_cmp(&distance(second)).is_gt() { second } else { first })
    }

    fn has(&self, kind: DetectorKind) -> bool {
        self.said & bit(kind) != 0
    }
}

const fn bit(kind: DetectorKind) -> u8 {
    1 << kind as u8
}
