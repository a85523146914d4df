//! Single-step exponential integrators: every step makes its own evaluations.
//!
//! DPM-Solver-2 and -3, DPM-Solver++(2S), DPM-Solver++ SDE and SEEDS are one scheme, with the
//! integral of [`Exponential`](super::Exponential), h = λ_s − λ_t and 0 < r₁ < r₂ ≤ 1:
//!
//! 1. evaluate at t;
//! 2. take a first-order step to λ_t + r₁·h and evaluate there;
//! 3. take a second-order step to λ_t + r₂·h with both evaluations, and evaluate there;
//! 4. take the whole step with all evaluations.

use super::exponential::{Integral, Interpolant};
use super::sigma::{Ancestral, Churn, Euler};
use super::{Position, Row, Solver, Step};
use crate::NoiseLevel;

/// How the evaluations of a step are weighted in the integral.
///
/// ```
/// use ddpm_schedule::solver::{SingleStep, Slope};
///
/// // The exponential Heun method.
/// let dpm_solver = SingleStep::dpm_solver(2);
/// let heun = SingleStep { slope: Slope::Exact, r: [1.0, 1.0], ..dpm_solver };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slope {
    /// Only the slope between the first and the newest evaluation; at order 2 with half the weight
    /// of the value (Lu et al. 2022, "DPM-Solver", algorithms 1 and 2). Other libraries call it
    /// `midpoint`.
    Chord,
    /// The polynomial through all evaluations, integrated exactly. Other libraries call it `heun`.
    Exact,
}

/// The noise of a single step.
///
/// ```
/// use ddpm_schedule::solver::{SingleStep, StageNoise};
///
/// let seeds_3 = SingleStep::dpm_solver_pp(3, StageNoise::Path(1.0));
/// let dpmpp_sde = SingleStep::dpm_solver_pp(2, StageNoise::Fresh(1.0));
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum StageNoise {
    /// None: the probability flow.
    None,
    /// A Brownian path, shared by all stages, with κ > 0 times the noise of the reverse stochastic
    /// equation (Gonzalez et al. 2023, "SEEDS").
    Path(f64),
    /// New noise at every stage, η ∈ (0, 1] times that of q(x_s | x_t, x₀).
    Fresh(f64),
}

/// A single-step exponential integrator of one to three evaluations.
///
/// | name | of | order | slope | r | noise |
/// |---|---|---|---|---|---|
/// | DPM-Solver-2, -3 | ε̂ | 2, 3 | chord | ½; ⅓, ⅔ | none |
/// | DPM-Solver++(2S) | x̂₀ | 2 | chord | ½ | none, or within [`Ancestral`] |
/// | DPM-Solver++ SDE | x̂₀ | 2 | chord | ½ | fresh |
/// | SEEDS-2, -3 | x̂₀ | 2, 3 | chord | ½; ⅓, ⅔ | path |
/// | exponential Heun | x̂₀ | 2 | exact | 1 | none or path |
///
/// A step from or to an infinite log-SNR has order 1 and one evaluation.
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Position, SingleStep, Solver};
///
/// let [t, s] = [4.0, 1.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// let step = SingleStep::dpm_solver(2).step(&Position { past: &[], t, s, left: None });
/// assert!((step.asks[1].0.sigma() - 2.0).abs() < 1e-12); // halfway in λ
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SingleStep {
    /// What is interpolated; x̂₀ if there is noise.
    pub interpolant: Interpolant,
    /// The order without noise, which is the number of evaluations: 1 to 3.
    pub order: usize,
    /// How.
    pub slope: Slope,
    /// r₁ and r₂ with 0 < r₁ < r₂ ≤ 1. Order 2 uses r₁ ≤ 1 alone.
    pub r: [f64; 2],
    /// The noise.
    pub noise: StageNoise,
}

impl SingleStep {
    /// DPM-Solver of order 1 to 3, with the published r.
    pub fn dpm_solver(order: usize) -> Self {
        let r1 = if order == 2 { 0.5 } else { 1.0 / 3.0 };
        Self {
            interpolant: Interpolant::Epsilon,
            order,
            slope: Slope::Chord,
            r: [r1, 2.0 / 3.0],
            noise: StageNoise::None,
        }
    }

    /// DPM-Solver++ of order 1 to 3, or SEEDS with its noise.
    pub fn dpm_solver_pp(order: usize, noise: StageNoise) -> Self {
        Self {
            interpolant: Interpolant::X0,
            noise,
            ..Self::dpm_solver(order)
        }
    }

    /// The evaluations, the first of them at t: the level, and the row of the input.
    pub(super) fn asks(&self, t: NoiseLevel, s: NoiseLevel) -> Vec<(NoiseLevel, Row)> {
        let h = s.half_log_snr() - t.half_log_snr();
        let mut asks = vec![(t, Row::state())];
        if !h.is_finite() {
            return asks;
        }
        for r in self.r.into_iter().take(self.order.saturating_sub(1)) {
            let level = t.along(s, t.half_log_snr() + r * h);
            let stages: Vec<_> = asks.iter().map(|ask| ask.0).collect();
            let stage = self.stage(&stages, level, Slope::Exact);
            asks.push((level, stage));
        }
        asks
    }

    /// The row of x at `s` from the evaluations at the levels `stages`, the first of them t.
    pub(super) fn stage(&self, stages: &[NoiseLevel], s: NoiseLevel, slope: Slope) -> Row {
        let h = s.half_log_snr() - stages[0].half_log_snr();
        let (interpolant, noise) = match self.noise {
            StageNoise::None => (self.interpolant, 0.0),
            StageNoise::Path(kappa) => (Interpolant::X0, kappa),
            // 1 − e^(−2κh) = η²·(1 − e^(−2h))
            StageNoise::Fresh(eta) => {
                let kept = eta * eta * (-2.0 * h).exp_m1();
                (Interpolant::X0, -0.5 * kept.ln_1p() / h)
            }
        };
        let [t, newest] = [stages[0], stages[stages.len() - 1]];
        let interpolant = if t.sigma().is_finite() {
            interpolant
        } else {
            Interpolant::X0
        };
        let integral = Integral {
            interpolant,
            noise,
            t,
            s,
        };
        let mut x = integral.x_s(sum(&integral, stages, slope));
        let z = match self.noise {
            StageNoise::None => Row::zero(),
            StageNoise::Fresh(_) => x.z[0] * Row::z(stages.len() - 1),
            StageNoise::Path(_) if s.noise() == 0.0 || newest.sigma().is_infinite() => {
                x.z[0] * Row::z(0)
            }
            StageNoise::Path(kappa) => path(kappa, stages, s),
        };
        x.z = z.z;
        x
    }
}

impl Solver for SingleStep {
    fn step(&self, at: &Position) -> Step {
        if let StageNoise::Fresh(eta) = self.noise
            && (at.s.noise() == 0.0 || !at.t.sigma().is_finite())
        {
            let churn = Churn::NONE;
            let solver = Euler { churn };
            return Ancestral { solver, eta }.step(at);
        }
        let asks = self.asks(at.t, at.s);
        let stages: Vec<_> = asks.iter().map(|ask| ask.0).collect();
        let last = self.stage(&stages, at.s, self.slope);
        Step { asks, last }
    }
}

/// The integral with the evaluations at the levels `stages`, the oldest first.
pub(super) fn sum(integral: &Integral, stages: &[NoiseLevel], slope: Slope) -> Row {
    let newest = stages.len() - 1;
    let m = |i: usize| integral.value(newest - i, stages[i]);
    match (stages.len(), slope) {
        (1, _) => integral.moment(0) * m(0),
        (_, Slope::Exact) => {
            let nodes: Vec<_> = stages.iter().rev().copied().collect();
            integral.interpolated(&nodes)
        }
        (n, Slope::Chord) => {
            let d1 = 1.0 / integral.place(stages[newest]) * (m(newest) - m(0));
            let of_d1 = if n == 2 {
                0.5 * integral.moment(0)
            } else {
                integral.moment(1)
            };
            integral.moment(0) * m(0) + of_d1 * d1
        }
    }
}

/// The noise at `s` of a Brownian path through the levels `stages`:
/// b_s·Σ_j √(1 − e^(−2κ(λ_{j+1} − λ_j)))·e^(−κ(λ_s − λ_{j+1}))·z_j.
fn path(kappa: f64, stages: &[NoiseLevel], s: NoiseLevel) -> Row {
    let ends: Vec<_> = stages
        .iter()
        .chain([&s])
        .map(|m| m.half_log_snr())
        .collect();
    let piece = |(j, pair): (usize, &[f64])| {
        let grown = (-(-2.0 * kappa * (pair[1] - pair[0])).exp_m1()).sqrt();
        let kept = (-kappa * (s.half_log_snr() - pair[1])).exp();
        s.noise() * grown * kept * Row::z(j)
    };
    ends.windows(2).enumerate().map(piece).sum()
}

/// DPM-Solver-fast (Lu et al. 2022, "DPM-Solver"): steps of order 3, and of lower order at the end,
/// so that the run makes `evaluations` evaluations.
///
/// The grid has ⌊`evaluations`/3⌋ + 1 steps.
///
/// ```
/// use ddpm_schedule::solver::{DpmFast, run};
/// use ddpm_schedule::{Grid, Process};
///
/// let levels = Grid::LogSnr.levels(&Process::edm(0.002, 80.0)?, 4)?;
/// let mut evaluations = 0;
/// let denoiser = |x: &[f64], _| {
///     evaluations += 1;
///     vec![0.5; x.len()]
/// };
/// run(&DpmFast { evaluations: 10 }, levels.as_slice(), vec![80.0], denoiser, |_| vec![])?;
/// assert_eq!(evaluations, 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DpmFast {
    /// The number of evaluations of the run, at least 1.
    pub evaluations: usize,
}

impl Solver for DpmFast {
    fn step(&self, at: &Position) -> Step {
        let order = match (self.evaluations % 3, at.left) {
            (0, Some(0)) => 1,
            (0, Some(1)) => 2,
            (rest, Some(0)) => rest,
            _ => 3,
        };
        SingleStep::dpm_solver(order).step(at)
    }
}

/// The single-step solvers along a given grid, whose levels are the stages. A block of three grid
/// steps of orders 1, 2 and 3 is one step of order 3 from the start of the block.
///
/// Each step of the grid makes one evaluation.
///
/// ```
/// use ddpm_schedule::solver::{Blocks, Interpolant, Slope};
///
/// // DPM-Solver++(2S) along a grid of 20 steps.
/// let dpmpp_2s = Blocks {
///     interpolant: Interpolant::X0,
///     order: 2,
///     slope: Slope::Chord,
///     noise: 0.0,
///     steps: 20,
///     lower_order_final: true,
/// };
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Blocks {
    /// What is interpolated.
    pub interpolant: Interpolant,
    /// The order and length of a block, 1 to 3.
    pub order: usize,
    /// How.
    pub slope: Slope,
    /// κ ≥ 0, new noise for every step of the grid: 1 is the reverse stochastic equation.
    pub noise: f64,
    /// The number of steps of the whole grid, which fixes the blocks, also for a run that starts
    /// within the grid.
    pub steps: usize,
    /// Whether the last step has order 1 if the last block would be complete.
    pub lower_order_final: bool,
}

impl Blocks {
    /// The position in its block, from 1, of the step that `left` steps follow.
    fn order_at(&self, left: usize) -> usize {
        let (steps, order) = (self.steps, self.order.max(1));
        if left == 0 && self.lower_order_final && steps.is_multiple_of(order) {
            return 1;
        }
        steps.saturating_sub(1 + left) % order + 1
    }
}

impl Solver for Blocks {
    fn step(&self, at: &Position) -> Step {
        let &Position { past, t, s, left } = at;
        let finite = |level: NoiseLevel| level.half_log_snr().is_finite();
        let known = past.iter().take_while(|&&level| finite(level)).count();
        let order = match left {
            Some(left) if finite(t) && finite(s) => self.order_at(left).min(known + 1),
            _ => 1,
        };
        let mut stages: Vec<_> = past[..order - 1].iter().rev().copied().collect();
        stages.push(t);
        let (interpolant, noise) = (
            if finite(t) {
                self.interpolant
            } else {
                Interpolant::X0
            },
            self.noise,
        );
        let integral = Integral {
            interpolant,
            noise,
            t: stages[0],
            s,
        };
        let mut x = integral.x_s(sum(&integral, &stages, self.slope));
        // The input of the block's first evaluation was the state at its start.
        let start = std::mem::take(&mut x.state) * Row::x(order - 1);
        Step::one(t, x + start)
    }
}
