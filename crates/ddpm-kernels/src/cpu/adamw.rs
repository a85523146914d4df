//! One step of AdamW with clipping and the moving average, in one pass over the parameters.
//!
//! ```text
//! g ← clip·g
//! p ← p − lr·λ·p
//! m ← m + (1 − β₁)(g − m)
//! v ← β₂·v + (1 − β₂)·g²
//! p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)
//! ema ← ema + (1 − d)(p − ema)
//! ```
//!
//! (Loshchilov & Hutter 2019, in PyTorch's order of operations.)

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::isa::Isa;
use super::vector::{self, rounded};

/// Elements of a task.
const TASK: usize = 16 * 1024;
/// Elements that are summed in f32 before the sum is converted to f64.
const RUN: usize = 1024;

/// The settings of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate.
    pub lr: f64,
    /// Decay of the gradients' mean, β₁.
    pub beta1: f64,
    /// Decay of the mean of their squares, β₂.
    pub beta2: f64,
    /// Added to the root, ε.
    pub eps: f64,
    /// Decay of the parameters, λ, not scaled by the gradient (decoupled).
    pub weight_decay: f64,
    /// The number of the step, t, counted from 1.
    pub step: u64,
    /// Decay of the moving average, d.
    pub ema_decay: f64,
    /// Factor that clips the gradients; 1 does not change them.
    pub clip: f64,
}

/// A parameter with its gradient and its averages, all of one length.
#[derive(Debug)]
pub struct ParameterSlices<'a> {
    /// The values, p.
    pub value: &'a mut [f32],
    /// Their gradient, g.
    pub gradient: &'a [f32],
    /// Mean of the gradients, m.
    pub exp_avg: &'a mut [f32],
    /// Mean of their squares, v.
    pub exp_avg_sq: &'a mut [f32],
    /// Moving average of the values.
    pub ema: &'a mut [f32],
}

/// Takes a step.
///
/// # Panics
///
/// If the parameter's slices differ in length.
#[allow(
    clippy::needless_pass_by_value,
    reason = "the parameter is borrowed already"
)]
pub fn update(isa: Isa, adamw: &AdamW, parameter: ParameterSlices<'_>) {
    let coefficients = Coefficients::new(adamw);
    let len = parameter.value.len();
    for (name, other) in [
        ("gradient", parameter.gradient.len()),
        ("mean of the gradients", parameter.exp_avg.len()),
        ("mean of their squares", parameter.exp_avg_sq.len()),
        ("moving average", parameter.ema.len()),
    ] {
        assert_eq!(other, len, "AdamW: length of the {name}");
    }
    (parameter.value.par_chunks_mut(TASK))
        .zip(parameter.gradient.par_chunks(TASK))
        .zip(parameter.exp_avg.par_chunks_mut(TASK))
        .zip(parameter.exp_avg_sq.par_chunks_mut(TASK))
        .zip(parameter.ema.par_chunks_mut(TASK))
        .for_each(|((((value, gradient), exp_avg), exp_avg_sq), ema)| {
            let parameter = ParameterSlices {
                value,
                gradient,
                exp_avg,
                exp_avg_sq,
                ema,
            };
            isa.dispatch(Update(&coefficients, parameter));
        });
}

/// The factors of the formulas, computed in f64 and rounded to f32.
struct Coefficients {
    clip: f32,
    keep: f32,
    mean: f32,
    beta2: f32,
    square: f32,
    root: f32,
    eps: f32,
    rate: f32,
    ema: f32,
}

impl Coefficients {
    fn new(a: &AdamW) -> Self {
        let t = a.step as f64;
        Self {
            clip: rounded(a.clip),
            keep: rounded(1.0 - a.lr * a.weight_decay),
            mean: rounded(1.0 - a.beta1),
            beta2: rounded(a.beta2),
            square: rounded(1.0 - a.beta2),
            root: rounded((1.0 - a.beta2.powf(t)).sqrt().recip()),
            eps: rounded(a.eps),
            rate: rounded(-a.lr / (1.0 - a.beta1.powf(t))),
            ema: rounded(1.0 - a.ema_decay),
        }
    }
}

struct Update<'a>(&'a Coefficients, ParameterSlices<'a>);

/// (p, m, v) after the step.
#[inline(always)]
fn step<S: Simd>(simd: S, c: &Coefficients, [g, p, m, v]: [S::f32s; 4]) -> [S::f32s; 3] {
    let g = simd.mul_f32s(g, simd.splat_f32s(c.clip));
    let p = simd.mul_f32s(p, simd.splat_f32s(c.keep));
    let m = simd.mul_add_e_f32s(simd.sub_f32s(g, m), simd.splat_f32s(c.mean), m);
    let g2 = simd.mul_f32s(simd.mul_f32s(g, g), simd.splat_f32s(c.square));
    let v = simd.mul_add_e_f32s(v, simd.splat_f32s(c.beta2), g2);
    let root = simd.mul_f32s(simd.sqrt_f32s(v), simd.splat_f32s(c.root));
    let ratio = simd.div_f32s(m, simd.add_f32s(root, simd.splat_f32s(c.eps)));
    let p = simd.mul_add_e_f32s(ratio, simd.splat_f32s(c.rate), p);
    [p, m, v]
}

impl WithSimd for Update<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(c, parameter) = self;
        let (p, g) = (parameter.value, parameter.gradient);
        let (m, v, ema) = (parameter.exp_avg, parameter.exp_avg_sq, parameter.ema);
        let state = [p, m, v, ema];
        vector::zip!(S, simd, [g], over state, into [], |[g], [p, m, v, ema]| {
            let [p, m, v] = step(simd, c, [g, p, m, v]);
            let toward = simd.sub_f32s(p, ema);
            let ema = simd.mul_add_e_f32s(toward, simd.splat_f32s(c.ema), ema);
            ([p, m, v, ema], [])
        });
    }
}

/// Σx²: sums of runs in f32, added in f64 in order.
pub fn square_sum(isa: Isa, x: &[f32]) -> f64 {
    struct Squares<'a>(&'a [f32]);
    impl WithSimd for Squares<'_> {
        type Output = f64;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f64 {
            let mut total = 0.0;
            for run in self.0.chunks(RUN) {
                let (vectors, tail) = S::as_simd_f32s(run);
                let mut sums = [simd.splat_f32s(0.0); 4];
                let (blocks, rest) = vectors.as_chunks::<4>();
                for block in blocks {
                    for (sum, &x) in sums.iter_mut().zip(block) {
                        *sum = simd.mul_add_e_f32s(x, x, *sum);
                    }
                }
                for (sum, &x) in sums.iter_mut().zip(rest) {
                    *sum = simd.mul_add_e_f32s(x, x, *sum);
                }
                let [a, b, c, d] = sums;
                let sum = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
                let tail: f32 = tail.iter().map(|x| x * x).sum();
                total += f64::from(simd.reduce_sum_f32s(sum)) + f64::from(tail);
            }
            total
        }
    }
    let sums: Vec<f64> = x
        .par_chunks(TASK)
        .map(|x| isa.dispatch(Squares(x)))
        .collect();
    sums.iter().sum()
}
