//! What methods ask of a window: mean, quartiles and deviations, computed once for all of them.
//!
//! These are inlined where the number of observations is known to be all that a window keeps, as it is nearly
//! always: then ranks are constants, and the search is a straight line of code.

/// Fewer observations than this are not judged by.
///
/// With ten, two values lie outside each quartile, so a single outlier among the first ones cannot
/// become the quartile that it is judged by.
pub const MIN_OBSERVATIONS: usize = 10;

/// A window with at least [`MIN_OBSERVATIONS`], as methods see it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Summary {
    /// Mean; not finite where the sum overflows.
    pub mean: f64,
    /// Standard deviation of the population; not finite where squares overflow.
    pub std: f64,
    /// First quartile.
    pub q1: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub q3: f64,
    /// Median of the absolute deviations from the median.
    pub mad: f64,
}

/// Observations that can be asked for by rank.
pub(super) trait Ascending {
    /// How many there are.
    fn len(&self) -> usize;

    /// The observation of `rank`, 0 for the smallest. `rank` is below `len`.
    fn at(&self, rank: usize) -> f64;

    /// The observations of these ranks, each with the next one, in a loop since that of an array's `map` is not
    /// inlined. Ranks are below that of the last.
    fn pairs<const N: usize>(&self, ranks: [usize; N]) -> [[f64; 2]; N]
    where
        Self: Sized,
    {
        let mut pairs = [[0.0; 2]; N];
        for (pair, rank) in pairs.iter_mut().zip(ranks) {
            *pair = [self.at(rank), self.at(rank + 1)];
        }
        pairs
    }

    /// Mean and standard deviation of the population; both 0 when empty, not finite where sums overflow.
    fn mean_and_std(&self) -> (f64, f64);

    /// How many of the half that is nearest to the `median` lie before it in rank, where there is a cheaper way than a
    /// search: a guess.
    fn guess_below(&self, _median: f64) -> Option<usize> {
        None
    }
}

/// All that methods ask for of `known`; `None` below [`MIN_OBSERVATIONS`].
#[inline(always)]
pub(super) fn summary(known: &impl Ascending) -> Option<Summary> {
    if known.len() < MIN_OBSERVATIONS {
        return None;
    }
    let last = known.len() - 1;
    let (first, third) = (Quantile::of(0.25, last), Quantile::of(0.75, last));
    let [[one, two], [low, next], [five, six]] = known.pairs([first.rank, last / 2, third.rank]);
    let median = f64::midpoint(low, if last.is_multiple_of(2) { low } else { next });
    let (mean, std) = known.mean_and_std();
    Some(Summary {
        mean,
        std,
        q1: first.between(one, two),
        median,
        q3: third.between(five, six),
        mad: mad(known, median)?,
    })
}

/// Where a quantile stands: between two neighbours, or on the first of them.
struct Quantile {
    rank: usize,
    next: usize,
    /// Share of the way from the first to the second.
    share: f64,
}

impl Quantile {
    /// The `q`-quantile, `q` in [0, 1], of observations of which `last` is the last rank.
    #[inline(always)]
    fn of(q: f64, last: usize) -> Self {
        let position = q.clamp(0.0, 1.0) * last as f64;
        let rank = position as usize;
        Self { rank, next: last.min(rank + 1), share: position - rank as f64 }
    }

    #[inline(always)]
    fn between(&self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share
    }
}

/// The `q`-quantile of `known`, `q` in [0, 1], interpolated linearly between the two nearest ranks; `None`
/// when empty.
///
/// Type 7 of R. J. Hyndman and Y. Fan, "Sample Quantiles in Statistical Packages", The American
/// Statistician 50(4), 1996.
#[inline(always)]
pub(super) fn quantile(known: &(impl Ascending + ?Sized), q: f64) -> Option<f64> {
    let quantile = Quantile::of(q, known.len().checked_sub(1)?);
    Some(quantile.between(known.at(quantile.rank), known.at(quantile.next)))
}

/// The middle value of `known`, or the mean of the two middle ones; `None` when empty.
#[inline(always)]
pub(super) fn median(known: &(impl Ascending + ?Sized)) -> Option<f64> {
    let last = known.len().checked_sub(1)?;
    Some(f64::midpoint(known.at(last / 2), known.at(last.div_ceil(2))))
}

/// Median of the absolute deviations of `known` from its `median`; `None` when empty.
///
/// Deviations grow on both sides of the median, so their median is found where the nearest half of
/// all observations ends.
#[inline(always)]
pub(super) fn mad(known: &impl Ascending, median: f64) -> Option<f64> {
    let last = known.len().checked_sub(1)?;
    let guess = known.guess_below(median).map(|below| around_end(known, median, below));
    // Rounding may have put deviations that are equal but for it in another order.
    let (low, high) = match guess {
        Some((low, high)) if low <= high => (low, high),
        _ => around_end(
            known,
            median,
            search(known.len(), |below, above| median - known.at(below) < known.at(above) - median),
        ),
    };
    Some(if last % 2 == 0 { low } else { f64::midpoint(low, high) })
}

/// How many of the nearest half of `len` observations lie before the median in rank: a search of five steps.
/// `is_nearer` compares an observation before the median with one after it, by rank.
#[inline(always)]
pub(super) fn search(len: usize, is_nearer: impl Fn(usize, usize) -> bool) -> usize {
    let (before, nearest) = (len / 2, len.div_ceil(2));
    let (mut taken, mut most) = (0, before);
    while taken < most {
        let middle = (taken + most) / 2;
        let nearer = is_nearer(before - middle - 1, before + nearest - middle - 1);
        taken = if nearer { middle + 1 } else { taken };
        most = if nearer { most } else { middle };
    }
    taken
}

/// The greatest deviation within the nearest half of `known`, and the smallest outside of it, where `taken` of that
/// half lie before the `median` in rank.
#[inline(always)]
fn around_end(known: &impl Ascending, median: f64, taken: usize) -> (f64, f64) {
    let len = known.len();
    let (first, end) = (len / 2 - taken, len / 2 + len.div_ceil(2) - taken);
    if first == 0 || end == len {
        return around_all_of_a_side(known, median, (first, end));
    }
    let [[left, below], [above, right]] = known.pairs([first - 1, end - 1]);
    let (left, below) = (median - left, median - below);
    let (above, right) = (above - median, right - median);
    (if below > above { below } else { above }, if left < right { left } else { right })
}

/// The same, where all before the median are among the nearest half, or all after it.
#[cold]
#[inline(never)]
fn around_all_of_a_side(known: &impl Ascending, median: f64, (first, end): (usize, usize)) -> (f64, f64) {
    let (len, middle) = (known.len(), known.len() / 2);
    let (below, above) = (median - known.at(first.min(len - 1)), known.at(end - 1) - median);
    let low = match (middle - first, end - middle) {
        (0, _) => above,
        (_, 0) => below,
        _ if below > above => below,
        _ => above,
    };
    let left = if first > 0 { median - known.at(first - 1) } else { f64::INFINITY };
    let right = if end < len { known.at(end) - median } else { f64::INFINITY };
    (low, if left < right { left } else { right })
}
