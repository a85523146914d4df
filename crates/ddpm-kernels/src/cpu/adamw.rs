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

use super::Isa;
use super::vector::{self, rounded};

/// Elements a task works on.
const TASK: usize = 16 * 1024;
/// Elements that are summed in f32 before the sum is widened.
const RUN: usize = 1024;

/// The step's numbers.
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
    /// Decay of the parameters, λ, not scaled by the gradient's size.
    pub weight_decay: f64,
    /// Which step this is, t, from 1.
    pub step: u64,
    /// Decay of the moving average, d.
    pub ema_decay: f64,
    /// Factor of the gradients, as [`clip_scale`] gives it.
    pub clip: f64,
}

/// A parameter and what belongs to it, all of one length.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// The values, p.
    pub value: &'a mut [f32],
    /// Their gradient, g.
    pub gradient: &'a [f32],
    /// Mean of the gradients, m.
    pub mean: &'a mut [f32],
    /// Mean of their squares, v.
    pub square: &'a mut [f32],
    /// Moving average of the values, where there is one.
    pub ema: Option<&'a mut [f32]>,
}

impl Parameter<'_> {
    /// The first `len` elements and the others.
    fn split_at(self, len: usize) -> (Self, Self) {
        let (value, values) = self.value.split_at_mut(len);
        let (gradient, gradients) = self.gradient.split_at(len);
        let (mean, means) = self.mean.split_at_mut(len);
        let (square, squares) = self.square.split_at_mut(len);
        let (ema, emas) = self.ema.map(|ema| ema.split_at_mut(len)).unzip();
        (
            Self {
                value,
                gradient,
                mean,
                square,
                ema,
            },
            Self {
                value: values,
                gradient: gradients,
                mean: means,
                square: squares,
                ema: emas,
            },
        )
    }

    fn check(&self) {
        let n = self.value.len();
        let lengths = [self.gradient.len(), self.mean.len(), self.square.len()];
        assert!(
            lengths == [n; 3] && self.ema.as_ref().is_none_or(|ema| ema.len() == n),
            "AdamW: {n} parameters with {lengths:?} gradients, means and squares"
        );
    }
}

/// Takes the step, for all parameters of a model.
///
/// # Panics
///
/// If a parameter's slices differ in length.
pub fn update(isa: Isa, adamw: &AdamW, parameters: Vec<Parameter<'_>>) {
    let mut tasks = Vec::new();
    for mut rest in parameters {
        rest.check();
        while rest.value.len() > TASK {
            let (task, others) = rest.split_at(TASK);
            tasks.push(task);
            rest = others;
        }
        tasks.push(rest);
    }
    let coefficients = Coefficients::new(adamw);
    tasks.into_par_iter().for_each(|parameter| {
        isa.dispatch(Update(&coefficients, parameter));
    });
}

/// The factors of the formulas, rounded to f32 at last.
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

struct Update<'a>(&'a Coefficients, Parameter<'a>);

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
        let (m, v) = (parameter.mean, parameter.square);
        let Some(ema) = parameter.ema else {
            vector::zip!(S, simd, [g], [p, m, v], |[g], [p, m, v]| {
                step(simd, c, [g, p, m, v])
            });
            return;
        };
        vector::zip!(S, simd, [g], [p, m, v, ema], |[g], [p, m, v, ema]| {
            let [p, m, v] = step(simd, c, [g, p, m, v]);
            let toward = simd.sub_f32s(p, ema);
            let ema = simd.mul_add_e_f32s(toward, simd.splat_f32s(c.ema), ema);
            [p, m, v, ema]
        });
    }
}

/// √Σg² over all gradients: runs of f32 sums, added in f64 in the order of the slices.
pub fn global_norm(isa: Isa, gradients: &[&[f32]]) -> f64 {
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
                    for (sum, &g) in sums.iter_mut().zip(block) {
                        *sum = simd.mul_add_e_f32s(g, g, *sum);
                    }
                }
                for (sum, &g) in sums.iter_mut().zip(rest) {
                    *sum = simd.mul_add_e_f32s(g, g, *sum);
                }
                let [a, b, c, d] = sums;
                let sum = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
                let tail: f32 = tail.iter().map(|g| g * g).sum();
                total += f64::from(simd.reduce_sum_f32s(sum)) + f64::from(tail);
            }
            total
        }
    }
    let tasks: Vec<&[f32]> = gradients.iter().flat_map(|g| g.chunks(TASK)).collect();
    let squares: Vec<f64> = (tasks.into_par_iter())
        .map(|g| isa.dispatch(Squares(g)))
        .collect();
    squares.iter().sum::<f64>().sqrt()
}

/// The factor that brings gradients of this norm down to at most `max_norm`, as PyTorch's
/// `clip_grad_norm_` has it: min(1, max_norm/(norm + 1e-6)).
pub fn clip_scale(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}
