//! The few values of a window that stand between the lines of its grid.
//!
//! An edge that is learned in place of an outlier is one, and a decimal that was computed and is off by a bit.
//! Which ranks they have, their mean and their spread are kept at hand, 32 bytes; the values themselves have 56
//! bytes of their own while there are any, and are asked for only where one of them is a quartile or next to one.

/// So many values may stand between lines.
pub(super) const ODD_MAX: usize = 7;

/// Values between lines, by rank.
///
/// Invariant: `values` has as many as `ranks` has bits, ascending, then zeros; `mean` and `squares` are theirs.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Odd {
    /// A bit for each rank of such a value.
    ranks: u64,
    mean: f64,
    /// Sum of the squares of their distances from the mean.
    squares: f64,
    values: Option<Box<[f64; ODD_MAX]>>,
}

impl Odd {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ranks == 0
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ranks.count_ones() as usize
    }

    /// Whether one has this rank.
    pub(super) fn is_at(&self, rank: usize) -> bool {
        self.ranks >> rank & 1 != 0
    }

    /// Whether one has any of these ranks, or of those that follow.
    #[inline(always)]
    pub(super) fn is_in_pairs(&self, ranks: &[usize]) -> bool {
        let asked = ranks.iter().fold(0, |asked, rank| asked | 3 << rank);
        self.ranks & asked != 0
    }

    /// The one of `rank`. There is one.
    #[cold]
    pub(super) fn at(&self, rank: usize) -> f64 {
        let values = self.values.as_ref().expect("a rank between lines has a value");
        values[self.below(rank)]
    }

    /// Ranks and values, ascending.
    pub(super) fn by_rank(&self) -> impl Iterator<Item = (usize, f64)> {
        let mut left = self.ranks;
        let ranks = std::iter::from_fn(move || {
            let rank = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(rank)
        });
        ranks.zip(self.values.iter().flat_map(|values| values.iter().copied()))
    }

    /// Whether one had this rank, from which the observation is taken.
    #[inline]
    pub(super) fn remove(&mut self, rank: usize) -> bool {
        let is_odd = self.is_at(rank);
        if is_odd {
            self.forget(rank);
        }
        is_odd
    }

    /// Closes the gap at rank `from`, and opens one at rank `to`.
    #[inline]
    pub(super) fn turn(&mut self, from: usize, to: usize) {
        let closed = self.ranks & up_to(from) | self.ranks >> 1 & !up_to(from);
        self.ranks = closed & up_to(to) | (closed & !up_to(to)) << 1;
    }

    /// Puts `value` into the gap at `rank`. There are fewer than [`ODD_MAX`].
    #[cold]
    pub(super) fn insert(&mut self, rank: usize, value: f64) {
        let index = self.below(rank);
        let values = self.values.get_or_insert_default();
        values.copy_within(index..ODD_MAX - 1, index + 1);
        values[index] = value;
        self.ranks |= 1 << rank;
        self.sum_up();
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.values.as_ref().map_or(0, |values| size_of_val(&**values))
    }

    /// Mean and standard deviation of these and of `count` others: of those the mean is given, and the sum of their
    /// squared distances from it, in lines of which there are `per_unit`, times `count`.
    ///
    /// Where there are none of these it is what the others have, to the last bit. Source of the joint form: T. F.
    /// Chan, G. H. Golub and R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    /// Variances", 1979.
    pub(super) fn join(&self, count: usize, per_unit: f64, (mean, squares): (f64, f64)) -> (f64, f64) {
        let (some, others) = (self.len() as f64, count as f64);
        let all = some + others;
        let distance = self.mean - mean;
        let apart = self.squares * all + distance * distance * (some * others);
        let squares = squares * (all / others) + apart * (per_unit * per_unit);
        (mean + distance * (some / all), squares.sqrt() / (all * per_unit))
    }

    #[cold]
    fn forget(&mut self, rank: usize) {
        let index = self.below(rank);
        if let Some(values) = &mut self.values {
            values.copy_within(index + 1.., index);
            values[ODD_MAX - 1] = 0.0;
        }
        self.ranks &= !(1 << rank);
        self.sum_up();
    }

    fn sum_up(&mut self) {
        let len = self.len();
        let known = self.values.as_ref().map_or(&[][..], |values| &values[..len]);
        let mean = known.iter().sum::<f64>() / len.max(1) as f64;
        let squares = known.iter().map(|value| (value - mean).powi(2)).sum();
        (self.mean, self.squares) = (mean, squares);
        self.values.take_if(|_| len == 0);
    }

    /// How many have a rank below this one.
    fn below(&self, rank: usize) -> usize {
        (self.ranks & up_to(rank)).count_ones() as usize
    }
}

/// A bit for each rank below this one.
fn up_to(rank: usize) -> u64 {
    (1 << rank) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values by rank among ten, `.` for one on a line.
    fn written(odd: &Odd) -> String {
        let at = |rank| if odd.is_at(rank) { odd.at(rank).to_string() } else { ".".to_owned() };
        (0..10).map(at).collect()
    }

    #[test]
    fn ranks_follow_whatever_leaves_and_comes() {
        let mut odd = Odd::default();
        odd.insert(5, 5.0);
        odd.insert(2, 2.0);
        assert_eq!(written(&odd), "..2..5....");
        odd.turn(9, 0);
        assert_eq!(written(&odd), "...2..5...");
        odd.turn(4, 8);
        assert_eq!(written(&odd), "...2.5....");
        odd.turn(4, 4);
        assert_eq!(written(&odd), "...2.5....");
        assert!(!odd.remove(4) && odd.remove(3));
        odd.turn(3, 9);
        assert_eq!(written(&odd), "....5.....");
        assert!(odd.remove(4) && odd == Odd::default());
    }

    #[test]
    fn they_are_joined_as_if_all_were_summed_at_once() {
        // 1, 3 and 8 on lines; 2.5 and 5.5 between.
        let mut odd = Odd::default();
        let lines = (4.0, 3.0 * 26.0);
        assert_eq!(odd.join(3, 1.0, lines), (4.0, 78.0_f64.sqrt() / 3.0));
        odd.insert(3, 5.5);
        odd.insert(1, 2.5);
        assert_eq!(odd.join(3, 1.0, lines), (4.0, (30.5_f64 / 5.0).sqrt()));
        assert_eq!(odd.join(3, 10.0, (4.0, 7800.0)), (4.0, (30.5_f64 / 5.0).sqrt()));
    }
}
