//! Numbers to choose instants, bits and pixels by: SplitMix64 (Steele et al. 2014).

/// A sequence that its seed determines.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
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

    /// One of 0, 1, …, n − 1, for n ≥ 1 that is far below 2⁵³.
    pub(super) fn below(&mut self, n: usize) -> usize {
        // The remainder's bias is n / 2⁶⁴, and the value fits where n does.
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs for seed 1234567, as the algorithm's own test program prints them.
    #[test]
    fn it_is_splitmix64() {
        let mut random = Random::new(1_234_567);
        let found: Vec<_> = (0..3).map(|_| random.next()).collect();
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
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
