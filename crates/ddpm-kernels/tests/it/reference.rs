//! Random data and comparisons, for all tests.

/// A generator of test data (SplitMix64, Steele et al. 2014).
pub(crate) struct Data(u64);

impl Data {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (−1, 1).
    #[allow(clippy::cast_possible_truncation, reason = "twenty-four bits fit")]
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    /// Values of unit variance, nearly normal: a sum of three uniforms.
    pub(crate) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| self.unit() + self.unit() + self.unit())
            .collect()
    }
}

pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Asserts `|out − exact| ≤ tolerance·max(1, largest |exact|)`; fails for NaN, which marks an element
/// that was not written.
#[track_caller]
pub(crate) fn assert_near(what: &str, out: &[f32], exact: &[f64], tolerance: f64) {
    assert_eq!(out.len(), exact.len(), "{what}: length");
    let scale = exact.iter().fold(1.0f64, |m, e| m.max(e.abs()));
    for (i, (&out, &exact)) in out.iter().zip(exact).enumerate() {
        let error = (f64::from(out) - exact).abs();
        assert!(
            error <= tolerance * scale,
            "{what}[{i}] = {out}, exactly {exact}; error {error:e} > {tolerance:e}·{scale}"
        );
    }
}

/// The bits of several results.
pub(crate) fn bits(results: &[&[f32]]) -> Vec<u32> {
    results
        .iter()
        .copied()
        .flatten()
        .map(|x| x.to_bits())
        .collect()
}

/// Asserts that `f` gives the same bits on 1, 2 and 3 threads.
#[track_caller]
pub(crate) fn assert_same_on_any_threads(f: impl Fn() -> Vec<u32> + Sync) {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads start").install(&f)
    };
    let one = on(1);
    for threads in [2, 3] {
        assert!(one == on(threads), "{threads} threads changed the result");
    }
}
