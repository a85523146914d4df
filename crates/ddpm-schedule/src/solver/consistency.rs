//! Samplers of consistency models: every step goes to clean data and adds noise again.

use super::{Position, Row, Solver, Step};
use crate::NoiseLevel;

/// Multistep consistency sampling (Song et al. 2023, algorithm 1; Luo et al. 2023, "LCM",
/// algorithm 3).
///
/// x̂₀ is taken for a sample of the level `floor`, and x_s ~ q(x_s | x_floor = x̂₀). A step to
/// `floor`, or below it, is x̂₀ itself. One evaluation a step.
///
/// The denoiser is the consistency function: what keeps it the identity at `floor` (c_skip and
/// c_out, eq. 5) is part of the denoiser.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Consistency {
    /// The level of σ_min in a consistency model; [`NoiseLevel::CLEAN`] in LCM.
    pub floor: NoiseLevel,
}

impl Solver for Consistency {
    fn step(&self, at: &Position) -> Step {
        Step::one(at.t, renoised(Row::x0(0), self.floor, at.s))
    }
}

/// Trajectory consistency sampling (Zheng et al. 2024, "TCD").
///
/// A step of [`Euler`](super::Euler) from t to a level of less noise than s, then noise up to s:
/// x_s ~ q(x_s | x_below). One evaluation a step.
///
/// γ is the paper's amount of noise, with `below` the level of the time (1 − γ)·s. γ = 0 is
/// DDIM, and γ = 1 is [`Consistency`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tcd<B> {
    /// The level of the time (1 − γ)·s, from the level of s.
    pub below: B,
}

impl<B: Fn(NoiseLevel) -> NoiseLevel> Solver for Tcd<B> {
    fn step(&self, at: &Position) -> Step {
        let below = (self.below)(at.s);
        let there = super::sigma::euler(at.t, below);
        Step::one(at.t, renoised(there, below, at.s))
    }
}

/// q(x_s | x_from = `x`): the mean, and noise of its standard deviation.
fn renoised(x: Row, from: NoiseLevel, s: NoiseLevel) -> Row {
    if s.log_snr() >= from.log_snr() {
        return x;
    }
    let transition = s.transition(from);
    transition.signal * x + transition.variance.sqrt() * Row::z(0)
}
