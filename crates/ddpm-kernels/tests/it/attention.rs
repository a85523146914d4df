//! Attention and its gradient against their definitions in f64.

use ddpm_kernels::cpu::Isa;
use ddpm_kernels::cpu::attention::{Attention, backward, forward};

use crate::reference::{Data, assert_near, assert_same_on_any_threads, bits, wide};

/// The sizes and inputs of an attention.
struct Case {
    attention: Attention,
    inputs: [Vec<f32>; 3],
    dout: Vec<f32>,
}

impl Case {
    fn new(seed: u64, [batch, tokens, heads, dim]: [usize; 4]) -> Self {
        let mut data = Data::new(seed);
        let mut tensor = || data.values(batch * tokens * heads * dim);
        Self {
            attention: Attention {
                batch,
                tokens,
                heads,
                dim,
            },
            inputs: [tensor(), tensor(), tensor()],
            dout: tensor(),
        }
    }

    /// out, lse, dq, dk, dv; all are NaN before the kernels write them.
    fn run(&self, isa: Isa) -> [Vec<f32>; 5] {
        let Attention {
            batch,
            tokens,
            heads,
            ..
        } = self.attention;
        let poison = || vec![f32::NAN; self.dout.len()];
        let (mut out, mut lse) = (poison(), vec![f32::NAN; batch * tokens * heads]);
        let qkv = self.inputs.each_ref().map(Vec::as_slice);
        forward(isa, &self.attention, qkv, &mut out, &mut lse);
        let mut gradients = [poison(), poison(), poison()];
        let to = gradients.each_mut().map(Vec::as_mut_slice);
        backward(isa, &self.attention, qkv, (&out, &lse), &self.dout, to);
        let [dq, dk, dv] = gradients;
        [out, lse, dq, dk, dv]
    }

    /// The same in f64, with the whole weight matrix.
    fn exact(&self) -> [Vec<f64>; 5] {
        let Attention {
            batch,
            tokens: n,
            heads,
            dim,
        } = self.attention;
        let [q, k, v] = self.inputs.each_ref().map(|x| wide(x));
        let dout = wide(&self.dout);
        let zeros = || vec![0.0; q.len()];
        let (mut out, mut lse) = (zeros(), vec![0.0; batch * n * heads]);
        let (mut dq, mut dk, mut dv) = (zeros(), zeros(), zeros());
        let scale = 1.0 / (dim as f64).sqrt();
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            let at = |i: usize| (b * n + i) * heads * dim + h * dim;
            let dot = |x: &[f64], i: usize, y: &[f64], j: usize| -> f64 {
                (0..dim).map(|c| x[at(i) + c] * y[at(j) + c]).sum()
            };
            for i in 0..n {
                let scores: Vec<f64> = (0..n).map(|j| scale * dot(&q, i, &k, j)).collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                lse[(b * n + i) * heads + h] = max + sum.ln();
                let p: Vec<f64> = scores.iter().map(|s| (s - max).exp() / sum).collect();
                let dp: Vec<f64> = (0..n).map(|j| dot(&dout, i, &v, j)).collect();
                let delta: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                for j in 0..n {
                    let ds = p[j] * (dp[j] - delta) * scale;
                    for c in 0..dim {
                        out[at(i) + c] += p[j] * v[at(j) + c];
                        dq[at(i) + c] += ds * k[at(j) + c];
                        dk[at(j) + c] += ds * q[at(i) + c];
                        dv[at(j) + c] += p[j] * dout[at(i) + c];
                    }
                }
            }
        }
        [out, lse, dq, dk, dv]
    }
}

#[track_caller]
fn assert_exact(case: &Case, tolerance: f64) {
    let exact = case.exact();
    for isa in Isa::available() {
        let out = case.run(isa);
        for (i, name) in ["out", "lse", "dq", "dk", "dv"].into_iter().enumerate() {
            let what = format!("{isa:?} {:?} {name}", case.attention);
            assert_near(&what, &out[i], &exact[i], tolerance);
        }
    }
}

/// Small enough for Miri.
#[test]
fn tiny() {
    assert_exact(&Case::new(1, [1, 3, 2, 2]), 3e-6);
}

/// One token, one channel, sizes around those of tiles and strips, several heads.
#[test]
fn all_sizes_match_the_definition() {
    let shapes = [
        [1, 1, 1, 1],
        [2, 1, 3, 5],
        [1, 2, 1, 8],
        [2, 7, 2, 3],
        [1, 16, 4, 16],
        [1, 49, 1, 64],
        [1, 97, 2, 33],
        [2, 196, 1, 40],
        [1, 300, 1, 8],
        [1, 20, 1, 512],
    ];
    for (seed, shape) in shapes.into_iter().enumerate() {
        // Sums of up to 512 terms of size 1 and exponentials of them: 50 times the f32 rounding error.
        assert_exact(&Case::new(seed as u64, shape), 3e-6);
    }
}

/// Scores in the hundreds: the exponential of a score would overflow.
#[test]
fn large_scores_neither_overflow_nor_vanish() {
    let mut case = Case::new(1, [1, 60, 1, 16]);
    for x in &mut case.inputs[0] {
        *x *= 200.0;
    }
    // The rounding error of a score of 500 is 3e-5, and so is the relative error of its exponential.
    assert_exact(&case, 2e-4);
}

/// 274177·67280421310721 = 2⁶⁴ + 1: with wrapping arithmetic, a slice of one float would match.
#[test]
#[should_panic = "attention: memory cannot hold a tensor of [274177, 67280421310721, 1, 1]"]
fn sizes_that_overflow_panic() {
    let attention = Attention {
        batch: 274_177,
        tokens: 67_280_421_310_721,
        heads: 1,
        dim: 1,
    };
    let x = [1.0];
    let (mut out, mut lse) = ([0.0], [0.0]);
    forward(Isa::Portable, &attention, [&x; 3], &mut out, &mut lse);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let case = Case::new(2, [3, 150, 2, 24]);
    assert_same_on_any_threads(|| {
        let out = case.run(Isa::detect());
        bits(&out.each_ref().map(Vec::as_slice))
    });
}
