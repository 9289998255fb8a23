//! Randomness from a seed: the same seed, the same throws.

/// `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice that fall as `seed` wants.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Other dice, that fall independently of these.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.throw() ^ 0xA5A5_5A5A_0F0F_F0F0)
    }

    /// Any number.
    pub(crate) fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, 0 where `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.throw() % (end as u64).max(1)) as usize
    }

    /// True once in so many throws.
    pub(crate) fn once_in(&mut self, throws: usize) -> bool {
        self.below(throws) == 0
    }
}
