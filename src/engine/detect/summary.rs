//! What methods ask of a window: mean, quartiles and deviations, computed once for all of them.

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

    /// Mean and standard deviation of the population; both 0 when empty, not finite where sums overflow.
    fn mean_and_std(&self) -> (f64, f64);

    /// Whether the observation of rank `below`, at most the `median`, is nearer to it than that of rank `above`,
    /// at least the median.
    fn is_nearer(&self, below: usize, above: usize, median: f64) -> bool {
        median - self.at(below) < self.at(above) - median
    }

    /// All that methods ask for; `None` below [`MIN_OBSERVATIONS`].
    fn summary(&self) -> Option<Summary> {
        if self.len() < MIN_OBSERVATIONS {
            return None;
        }
        let (mean, std) = self.mean_and_std();
        let median = median(self)?;
        Some(Summary {
            mean,
            std,
            q1: quantile(self, 0.25)?,
            median,
            q3: quantile(self, 0.75)?,
            mad: mad(self, median)?,
        })
    }
}

/// The `q`-quantile of `known`, `q` in [0, 1], interpolated linearly between the two nearest ranks; `None`
/// when empty.
///
/// Type 7 of R. J. Hyndman and Y. Fan, "Sample Quantiles in Statistical Packages", The American
/// Statistician 50(4), 1996.
pub(super) fn quantile(known: &(impl Ascending + ?Sized), q: f64) -> Option<f64> {
    let last = known.len().checked_sub(1)?;
    let position = q.clamp(0.0, 1.0) * last as f64;
    let rank = position as usize;
    let (low, high) = (known.at(rank), known.at(last.min(rank + 1)));
    Some(low + (high - low) * (position - rank as f64))
}

/// The middle value of `known`, or the mean of the two middle ones; `None` when empty.
pub(super) fn median(known: &(impl Ascending + ?Sized)) -> Option<f64> {
    let last = known.len().checked_sub(1)?;
    Some(f64::midpoint(known.at(last / 2), known.at(last.div_ceil(2))))
}

/// Median of the absolute deviations of `known` from its `median`; `None` when empty.
///
/// Deviations grow on both sides of the median, so their median is found where the nearest half of
/// all observations ends: a search of five steps over how many of them lie below.
pub(super) fn mad(known: &(impl Ascending + ?Sized), median: f64) -> Option<f64> {
    let len = known.len();
    let last = len.checked_sub(1)?;
    let (lefts, nearest) = (len / 2, last / 2 + 1);
    let (mut taken, mut most) = (0, lefts);
    while taken < most {
        let middle = (taken + most) / 2;
        let nearer = known.is_nearer(lefts - middle - 1, lefts + nearest - middle - 1, median);
        (taken, most) = if nearer { (middle + 1, most) } else { (taken, middle) };
    }
    let left = |count: usize| match lefts.checked_sub(count) {
        Some(rank) if count > 0 => median - known.at(rank),
        Some(_) => 0.0,
        None => f64::INFINITY,
    };
    let right = |count: usize| match lefts + count {
        _ if count == 0 => 0.0,
        end if end > len => f64::INFINITY,
        end => known.at(end - 1) - median,
    };
    let low = left(taken).max(right(nearest - taken));
    if last % 2 == 0 {
        return Some(low);
    }
    let high = left(taken + 1).min(right(nearest - taken + 1));
    Some(f64::midpoint(low, high))
}
