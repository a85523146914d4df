//! Single-step exponential integrators: every step starts afresh, with evaluations of its own.
//!
//! DPM-Solver-2 and -3, DPM-Solver++(2S), DPM-Solver++ SDE and SEEDS are one scheme. With r₁ and
//! r₂ the shares of the way from λ_t to λ_s at which a step asks, and the integral of
//! [`Exponential`](super::Exponential):
//!
//! 1. ask at t;
//! 2. a first-order step to λ_t + r₁·h, ask there;
//! 3. a second-order step to λ_t + r₂·h with both, ask there;
//! 4. the whole step with what is known.

use super::exponential::{Integral, Of};
use super::sigma::{Ancestral, Churn, Euler};
use super::{Position, Row, Solver, Step};
use crate::NoiseLevel;

/// How the evaluations of a step enter the integral.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slope {
    /// The slope between the first and the newest evaluation alone; at order 2 with half the
    /// weight of the value (Lu et al. 2022, "DPM-Solver", algorithms 1 and 2). `midpoint` of
    /// other libraries.
    Chord,
    /// The polynomial through all of them, integrated exactly. `heun` of other libraries.
    Exact,
}

/// The noise of a single step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum StageNoise {
    /// None: the probability flow.
    None,
    /// One Brownian path with κ > 0 times the noise of the reverse stochastic equation; every
    /// stage stands on it (Gonzalez et al. 2023, "SEEDS").
    Path(f64),
    /// New noise at every stage, η ∈ (0, 1] times that of q(x_s | x_t, x₀).
    Fresh(f64),
}

/// A single-step exponential integrator of one to three evaluations.
///
/// | name | of | order | slope | r | noise |
/// |---|---|---|---|---|---|
/// | DPM-Solver-2, -3 | ε̂ | 2, 3 | chord | ½; ⅓, ⅔ | none |
/// | DPM-Solver++(2S) | x̂₀ | 2 | chord | ½ | none, or within [`Ancestral`](super::Ancestral) |
/// | DPM-Solver++ SDE | x̂₀ | 2 | chord | ½ | fresh |
/// | SEEDS-2, -3 | x̂₀ | 2, 3 | chord | ½; ⅓, ⅔ | path |
/// | exponential Heun | x̂₀ | 2 | exact | 1 | none or path |
///
/// A step from or to a level of infinite log-SNR is of first order and asks once.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SingleStep {
    /// What is interpolated; x̂₀ where there is noise.
    pub of: Of,
    /// The order without noise, which is the number of evaluations: 1 to 3.
    pub order: usize,
    /// How.
    pub slope: Slope,
    /// r₁ and r₂ with 0 < r₁ < r₂ ≤ 1; at order 2 r₁ ≤ 1 alone is used.
    pub r: [f64; 2],
    /// The noise.
    pub noise: StageNoise,
}

impl SingleStep {
    /// DPM-Solver of order 1 to 3, with the published r.
    pub fn dpm_solver(order: usize) -> Self {
        let r1 = if order == 2 { 0.5 } else { 1.0 / 3.0 };
        Self {
            of: Of::Epsilon,
            order,
            slope: Slope::Chord,
            r: [r1, 2.0 / 3.0],
            noise: StageNoise::None,
        }
    }

    /// DPM-Solver++ of order 1 to 3, or SEEDS with its noise.
    pub fn dpm_solver_pp(order: usize, noise: StageNoise) -> Self {
        Self {
            of: Of::X0,
            noise,
            ..Self::dpm_solver(order)
        }
    }

    /// The levels asked, the first at t, and the x shown at each.
    pub(super) fn asks(&self, t: NoiseLevel, s: NoiseLevel) -> Vec<(NoiseLevel, Row)> {
        let h = s.half_log_snr() - t.half_log_snr();
        let mut asks = vec![(t, Row::state())];
        if !h.is_finite() {
            return asks;
        }
        for r in self.r.into_iter().take(self.order.saturating_sub(1)) {
            let level = t.along(s, t.half_log_snr() + r * h);
            let marks: Vec<_> = asks.iter().map(|ask| ask.0).collect();
            let stage = self.stage(&marks, level, Slope::Exact);
            asks.push((level, stage));
        }
        asks
    }

    /// x at `s` from the evaluations at `marks`, the first of them at t.
    pub(super) fn stage(&self, marks: &[NoiseLevel], s: NoiseLevel, slope: Slope) -> Row {
        let h = s.half_log_snr() - marks[0].half_log_snr();
        let (of, noise) = match self.noise {
            StageNoise::None => (self.of, 0.0),
            StageNoise::Path(kappa) => (Of::X0, kappa),
            // 1 − e^(−2κh) = η²·(1 − e^(−2h))
            StageNoise::Fresh(eta) => {
                let kept = eta * eta * (-2.0 * h).exp_m1();
                (Of::X0, -0.5 * kept.ln_1p() / h)
            }
        };
        let [t, newest] = [marks[0], marks[marks.len() - 1]];
        let of = if t.sigma().is_finite() { of } else { Of::X0 };
        let integral = Integral { of, noise, t, s };
        let mut x = integral.x_s(sum(&integral, marks, slope));
        let z = match self.noise {
            StageNoise::None => Row::zero(),
            StageNoise::Fresh(_) => x.z[0] * Row::z(marks.len() - 1),
            StageNoise::Path(_) if s.noise() == 0.0 || newest.sigma().is_infinite() => {
                x.z[0] * Row::z(0)
            }
            StageNoise::Path(kappa) => path(kappa, marks, s),
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
        let marks: Vec<_> = asks.iter().map(|ask| ask.0).collect();
        let last = self.stage(&marks, at.s, self.slope);
        Step { asks, last }
    }
}

/// The integral with the evaluations at `marks`, the oldest first.
pub(super) fn sum(integral: &Integral, marks: &[NoiseLevel], slope: Slope) -> Row {
    let newest = marks.len() - 1;
    let m = |i: usize| integral.value(newest - i, marks[i]);
    match (marks.len(), slope) {
        (1, _) => integral.moment(0) * m(0),
        (_, Slope::Exact) => {
            let nodes: Vec<_> = marks.iter().rev().copied().collect();
            integral.interpolated(&nodes)
        }
        (n, Slope::Chord) => {
            let d1 = 1.0 / integral.place(marks[newest]) * (m(newest) - m(0));
            let of_d1 = if n == 2 {
                0.5 * integral.moment(0)
            } else {
                integral.moment(1)
            };
            integral.moment(0) * m(0) + of_d1 * d1
        }
    }
}

/// The noise at `s` of a Brownian path through `marks`:
/// b_s·Σ_j √(1 − e^(−2κ(λ_{j+1} − λ_j)))·e^(−κ(λ_s − λ_{j+1}))·z_j.
fn path(kappa: f64, marks: &[NoiseLevel], s: NoiseLevel) -> Row {
    let ends: Vec<_> = marks.iter().chain([&s]).map(|m| m.half_log_snr()).collect();
    let piece = |(j, pair): (usize, &[f64])| {
        let grown = (-(-2.0 * kappa * (pair[1] - pair[0])).exp_m1()).sqrt();
        let kept = (-kappa * (s.half_log_snr() - pair[1])).exp();
        s.noise() * grown * kept * Row::z(j)
    };
    ends.windows(2).enumerate().map(piece).sum()
}

/// DPM-Solver-fast (Lu et al. 2022, "DPM-Solver"): steps of order 3, and shorter ones at the end,
/// so that the whole run makes `evaluations`.
///
/// The grid has ⌊`evaluations`/3⌋ + 1 steps.
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

/// The single-step solvers along a given grid, whose levels are the stages: a block of three steps
/// of orders 1, 2 and 3 is one step of order 3, which starts where the block does.
///
/// One evaluation a step of the grid.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Blocks {
    /// What is interpolated.
    pub of: Of,
    /// The order and length of a block, 1 to 3.
    pub order: usize,
    /// How.
    pub slope: Slope,
    /// κ ≥ 0, new noise for every step of the grid: 1 is the reverse stochastic equation.
    pub noise: f64,
    /// The number of steps of the whole grid, from which the blocks are laid out. A run that
    /// starts within the grid goes on with them.
    pub steps: usize,
    /// Whether the last step is of first order where the last block would be whole.
    pub lower_order_final: bool,
}

impl Blocks {
    /// The place in its block, from 1, of the step after which `left` follow.
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
        let mut marks: Vec<_> = past[..order - 1].iter().rev().copied().collect();
        marks.push(t);
        let (of, noise) = (if finite(t) { self.of } else { Of::X0 }, self.noise);
        let integral = Integral {
            of,
            noise,
            t: marks[0],
            s,
        };
        let mut x = integral.x_s(sum(&integral, &marks, self.slope));
        // The block's first evaluation was shown the state at its start.
        let start = std::mem::take(&mut x.state) * Row::x(order - 1);
        Step::one(t, x + start)
    }
}
