//! Randomness that is the same on every machine: a generator, normal noise, and noise with a memory.

use std::f64::consts::TAU;

/// SplitMix64: every seed gives another stream of full period.
///
/// Source: G. Steele, D. Lea and C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
#[derive(Clone, Debug)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in [0, 1).
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normal with mean 0 and standard deviation 1, by Box and Muller.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }
}

/// Noise that remembers a share of what it was a step before: AR(1) with standard deviation 1.
#[derive(Clone, Debug)]
pub(super) struct Autoregressive {
    memory: f64,
    last: f64,
}

impl Autoregressive {
    /// `memory` is the correlation of neighbours, in [0, 1).
    pub(super) fn new(memory: f64) -> Self {
        Self { memory, last: 0.0 }
    }

    pub(super) fn next(&mut self, random: &mut SplitMix64) -> f64 {
        let fresh = (1.0 - self.memory * self.memory).sqrt();
        self.last = self.memory * self.last + fresh * random.normal();
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_and_std(values: &[f64]) -> (f64, f64) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, square.sqrt())
    }

    #[test]
    fn the_generator_is_the_published_one() {
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn noise_has_the_moments_it_promises() {
        let mut random = SplitMix64::new(1);
        let plain: Vec<_> = (0..20_000).map(|_| random.normal()).collect();
        let mut slow = Autoregressive::new(0.6);
        let slow: Vec<_> = (0..20_000).map(|_| slow.next(&mut random)).collect();
        for values in [&plain, &slow] {
            let (mean, std) = mean_and_std(values);
            assert!(mean.abs() < 0.04 && (std - 1.0).abs() < 0.03, "{mean} ± {std}");
        }
        let neighbours = slow.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / slow.len() as f64;
        assert!((neighbours - 0.6).abs() < 0.03, "{neighbours}");
    }
}
