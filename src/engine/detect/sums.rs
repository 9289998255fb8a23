//! Sum of small integers, and sum of their squares: exact, whatever comes and goes.

/// Of the keys of at most 60 observations.
pub(super) trait Sums: Copy + PartialEq + Default + std::fmt::Debug {
    /// Takes a key in.
    fn add(&mut self, key: i64);

    /// Takes out a key that was taken in.
    fn remove(&mut self, key: i64);

    /// Sum of the keys.
    fn sum(&self) -> i64;

    /// Sum of the squared distances of these `count` keys from their mean, times `count`. It is a difference of two
    /// whole numbers, so it is exact up to the last rounding.
    fn around_mean(&self, count: usize) -> f64;
}

/// Of keys up to 2^15, both in one word: 2^24 times the sum of squares, and the sum, which is less than 2^23 and may be
/// below zero.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Small(i64);

const SUM_BITS: u32 = 24;

impl Small {
    fn term(key: i64) -> i64 {
        ((key * key) << SUM_BITS) + key
    }
}

impl Sums for Small {
    fn add(&mut self, key: i64) {
        self.0 += Self::term(key);
    }

    fn remove(&mut self, key: i64) {
        self.0 -= Self::term(key);
    }

    fn sum(&self) -> i64 {
        self.0 << (i64::BITS - SUM_BITS) >> (i64::BITS - SUM_BITS)
    }

    fn around_mean(&self, count: usize) -> f64 {
        let sum = self.sum();
        let squares = (self.0 - sum) >> SUM_BITS;
        (squares * count as i64 - sum * sum) as f64
    }
}

/// Of keys up to 2^29.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Large {
    sum: i64,
    squares: u64,
}

impl Sums for Large {
    fn add(&mut self, key: i64) {
        self.sum += key;
        self.squares += key.unsigned_abs().pow(2);
    }

    fn remove(&mut self, key: i64) {
        self.sum -= key;
        self.squares -= key.unsigned_abs().pow(2);
    }

    fn sum(&self) -> i64 {
        self.sum
    }

    fn around_mean(&self, count: usize) -> f64 {
        let squares = u128::from(self.squares) * count as u128 - u128::from(self.sum.unsigned_abs()).pow(2);
        i64::try_from(squares).map_or_else(|_| squares as f64, |squares| squares as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `keys` in, then the last one out, and compares with sums of wide integers.
    #[track_caller]
    fn check<S: Sums>(keys: &[i64]) {
        let mut sums = S::default();
        keys.iter().for_each(|&key| sums.add(key));
        let (&last, rest) = keys.split_last().unwrap();
        for keys in [keys, rest] {
            let count = keys.len() as i128;
            let wide = |term: fn(i128) -> i128| keys.iter().map(|&key| term(key.into())).sum::<i128>();
            let (sum, squares) = (wide(|key| key), wide(|key| key * key));
            assert_eq!(i128::from(sums.sum()), sum, "{keys:?}");
            assert_eq!(sums.around_mean(keys.len()), (squares * count - sum * sum) as f64, "{keys:?}");
            sums.remove(last);
        }
    }

    #[test]
    fn keys_of_any_size_and_sign_have_exact_sums() {
        let (short, long) = ((1 << 15) - 2, (1 << 29) - 1);
        for least in [-short, -1, 0, 1, short] {
            let keys: Vec<_> = (0..60).map(|slot| if slot % 7 == 0 { short } else { least }).collect();
            check::<Small>(&keys);
            check::<Large>(&keys);
        }
        check::<Small>(&[-short; 60]);
        check::<Large>(&[-long; 60]);
        check::<Large>(&[[-long; 30], [long; 30]].concat());
    }
}
