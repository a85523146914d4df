//! Samplers of consistency models: every step goes to clean data and adds noise again.

use super::{Position, Row, Solver, Step};
use crate::NoiseLevel;

/// Multistep consistency sampling (Song et al. 2023, algorithm 1; Luo et al. 2023, "LCM",
/// algorithm 3).
///
/// x̂₀ is treated as a sample at the level `floor`, and x_s ~ q(x_s | x_floor = x̂₀). A step to
/// `floor` or below returns x̂₀. One evaluation per step.
///
/// The denoiser is the consistency function, including c_skip and c_out, which make it the identity
/// at `floor` (eq. 5).
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Consistency, Position, Row, Solver};
///
/// let lcm = Consistency { floor: NoiseLevel::CLEAN };
/// let [t, s] = [2.0, 1.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// let step = lcm.step(&Position { past: &[], t, s, left: None });
/// assert_eq!(step.last, Row::x0(0) + Row::z(0)); // x̂₀ + σ_s·z
/// ```
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
/// An [`Euler`](super::Euler) step from t to a less noisy level than s, then noise up to s: x_s ~
/// q(x_s | x_below). One evaluation per step.
///
/// `below` is the level of the time (1 − γ)·s, where γ is the paper's amount of noise. γ = 0 is
/// DDIM, and γ = 1 is [`Consistency`].
///
/// ```
/// use ddpm_schedule::solver::Tcd;
/// use ddpm_schedule::{NoiseLevel, NoiseSchedule, Process};
///
/// let process = Process::from(NoiseSchedule::scaled_linear(1000, 0.00085, 0.012)?);
/// let below = move |s: NoiseLevel| match s {
///     NoiseLevel::CLEAN => s,
///     _ => process.level(0.7 * process.time(s)).unwrap(), // γ = 0.3
/// };
/// let tcd = Tcd { below };
/// # Ok::<(), ddpm_schedule::ScheduleError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tcd<B> {
    /// Maps the level of s to that of the time (1 − γ)·s.
    pub below: B,
}

impl<B: Fn(NoiseLevel) -> NoiseLevel> Solver for Tcd<B> {
    fn step(&self, at: &Position) -> Step {
        let below = (self.below)(at.s);
        let there = super::sigma::euler(at.t, below);
        Step::one(at.t, renoised(there, below, at.s))
    }
}

/// A draw from q(x_s | x_from = `x`): the mean, plus noise of its standard deviation.
fn renoised(x: Row, from: NoiseLevel, s: NoiseLevel) -> Row {
    if s.log_snr() >= from.log_snr() {
        return x;
    }
    let transition = s.transition(from);
    transition.signal * x + transition.variance.sqrt() * Row::z(0)
}
