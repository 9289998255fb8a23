//! What two texts have in common.

/// How many bytes both begin with.
pub fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let whole = 8 * words.take_while(|(one, other)| one == other).count();
    let rest = one[whole..].iter().zip(&other[whole..]);
    whole + rest.take_while(|(one, other)| one == other).count()
}

/// How many bytes both end with.
pub fn common_suffix(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_rchunks::<8>().1.iter().rev().zip(other.as_rchunks::<8>().1.iter().rev());
    let whole = 8 * words.take_while(|(one, other)| one == other).count();
    let rest = one[..one.len() - whole].iter().rev().zip(other[..other.len() - whole].iter().rev());
    whole + rest.take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_compared_to_the_first_byte_that_differs() {
        for length in 0..40 {
            let one = vec![7; length];
            assert_eq!((common_prefix(&one, &one), common_suffix(&one, &one)), (length, length));
            let longer = vec![7; length + 9];
            assert_eq!((common_prefix(&one, &longer), common_suffix(&longer, &one)), (length, length));
            for at in 0..length {
                let mut other = one.clone();
                other[at] = 8;
                assert_eq!((common_prefix(&one, &other), common_suffix(&one, &other)), (at, length - at - 1));
            }
        }
    }
}
