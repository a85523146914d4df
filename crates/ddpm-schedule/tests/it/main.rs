//! The integration tests: each formula against an independent computation.
#![allow(
    clippy::doc_markdown,
    reason = "the underscores of formulas are subscripts, not identifiers"
)]
#![allow(clippy::float_cmp, reason = "limits such as zero signal are exact")]

mod bound;
mod cases;
mod entropy;
mod errors;
mod golden;
mod grids;
mod importance;
mod laws;
mod learned_variance;
mod levels;
mod methods;
mod objectives;
mod peers;
mod preconditioning;
mod processes;
mod properties;
mod range;
mod samplers;
mod scalars;
mod schedules;
mod solvers;
mod torch;
mod training_levels;
mod trajectories;
mod weightings;

use std::ops::Range;

use ddpm_schedule::NoiseLevel;
use ddpm_schedule::solver::{Ddim, Ddpm, Eta, Exponential, Interpolant, Variance, Weights};
use proptest::prelude::*;

/// The whole part of a number that is not negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index into a list"
)]
fn whole(x: f64) -> usize {
    x as usize
}

const DDIM: Ddim = Ddim { eta: Eta::ZERO };
const SMALL: Ddpm = Ddpm {
    variance: Variance::Small,
};
const LARGE: Ddpm = Ddpm {
    variance: Variance::Large,
};
const LEARNED: Ddpm = Ddpm {
    variance: Variance::Learned,
};
const DPMPP_2M: Exponential = Exponential {
    interpolant: Interpolant::X0,
    order: 2,
    weights: Weights::Midpoint,
    noise: 0.0,
    lower_order_final: false,
};

/// |actual − expected| ≤ tolerance.
#[track_caller]
fn assert_close(actual: f64, expected: f64, tolerance: f64) {
    let error = (actual - expected).abs();
    assert!(
        error <= tolerance,
        "{actual} is not {expected}: off by {error:e}, more than {tolerance:e}"
    );
}

/// The same, relative to |expected|.
#[track_caller]
fn assert_relative(actual: f64, expected: f64, tolerance: f64) {
    assert_close(actual, expected, tolerance * expected.abs());
}

/// A kind of process, with a level at each x ∈ [−1, 1], noisier as x grows.
#[derive(Clone, Copy, Debug)]
enum Process {
    VariancePreserving,
    VarianceExploding,
    RectifiedFlow,
    /// Not a published one: the signal grows along with the noise.
    Growing,
}

impl Process {
    const ALL: [Self; 4] = [
        Self::VariancePreserving,
        Self::VarianceExploding,
        Self::RectifiedFlow,
        Self::Growing,
    ];

    fn level(self, x: f64) -> NoiseLevel {
        match self {
            // 1−ᾱ from 10⁻⁴ to 1 − 10⁻¹¹.
            Self::VariancePreserving => NoiseLevel::from_ln_alpha_bar(-(6.2 * x - 3.0).exp()),
            Self::VarianceExploding => NoiseLevel::variance_exploding((5.0 * x).exp()),
            Self::RectifiedFlow => NoiseLevel::rectified_flow(0.5 + 0.499 * x),
            Self::Growing => NoiseLevel::new(x.exp(), (4.0 * x).exp()),
        }
        .expect("a level of the process")
    }
}

/// `N` ≤ 3 levels of one process, the least noisy first. Neighbours are at least 0.005 apart in x,
/// so that Δ = λ_t − λ_s keeps twelve of its digits.
fn levels<const N: usize>() -> impl Strategy<Value = [NoiseLevel; N]> {
    let span: Range<f64> = 0.01..1.0;
    let gaps = proptest::collection::vec(span, N + 1);
    (proptest::sample::select(&Process::ALL[..]), gaps).prop_map(|(process, gaps)| {
        // Together with one gap after the last level, they fill [−1, 1].
        let scale = 2.0 / gaps.iter().sum::<f64>();
        let mut x = -1.0;
        std::array::from_fn(|i| {
            x += gaps[i] * scale;
            process.level(x)
        })
    })
}
