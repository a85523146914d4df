//! Random instants, bits and pixels: SplitMix64 (Steele et al. 2014).

/// A sequence of random numbers that its seed determines.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in 0..n, for n ≥ 1 far below 2⁵³.
    pub(super) fn below(&mut self, n: usize) -> usize {
        // The remainder's bias is n / 2⁶⁴. The value is below n, so it fits.
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

pub(super) mod tests {
    use super::Random;

    /// The first outputs for seed 1234567, as the algorithm's own test program prints them.
    pub(in super::super) fn splitmix64() {
        let mut random = Random::new(1_234_567);
        let found: Vec<_> = (0..3).map(|_| random.next()).collect();
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(found, expected);
    }

    pub(in super::super) fn ranges() {
        let mut random = Random::new(0);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.unit())));
        let mut counts = [0; 3];
        (0..3000).for_each(|_| counts[random.below(3)] += 1);
        // 1000 each; the standard deviation is 26.
        assert!(
            counts.iter().all(|&n| (870..1130).contains(&n)),
            "{counts:?}"
        );
    }
}
