//! Exponential integrators: the linear part of the reverse equation is solved exactly, and the
//! network's prediction is interpolated over λ = ln(a/b).
//!
//! With h = λ_s − λ_t, σ = b/a and κ the amount of noise (κ = 0 is the probability flow):
//!
//! | interpolated | x_s |
//! |---|---|
//! | x̂₀ | (b_s/b_t)·e^{−κh}·x_t + a_s·∫₀¹ H·e^{−H(1−τ)}·x̂₀(τ) dτ + b_s·√(1 − e^{−2κh})·z, H = (1+κ)·h |
//! | ε̂ | (a_s/a_t)·x_t − (1+κ)·b_s·∫₀¹ h·e^{h(1−τ)}·ε̂(τ) dτ + b_s·√(κ·(e^{2h} − 1))·z |
//!
//! where τ goes from 0 at t to 1 at s. The two are the same equation and differ in what is
//! interpolated (Lu et al. 2022, "DPM-Solver", prop. 3.1, and "DPM-Solver++", eq. 8 and app. A for
//! the noise). An integral of τⁱ is i!·H·φ_{i+1}(−H), or i!·h·φ_{i+1}(h).

use super::evaluations::{nodes, step};
use super::quadrature::{phi, weights};
use super::{Ddim, Eta, Position, Row, Solver, Step};
use crate::NoiseLevel;

/// What a solver interpolates.
///
/// ```
/// use ddpm_schedule::solver::{Method, Interpolant, SingleStep, StageNoise};
///
/// assert_eq!(SingleStep::dpm_solver(2).interpolant, Interpolant::Epsilon);
/// assert_eq!(SingleStep::dpm_solver_pp(2, StageNoise::None).interpolant, Interpolant::X0);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interpolant {
    /// x̂₀ ("data prediction").
    X0,
    /// ε̂ ("noise prediction").
    Epsilon,
}

/// How the evaluations are weighted in the integral.
///
/// ```
/// use ddpm_schedule::solver::{Exponential, Interpolant, Weights};
///
/// let deis = Exponential {
///     interpolant: Interpolant::Epsilon,
///     order: 3,
///     weights: Weights::Lagrange,
///     noise: 0.0,
///     lower_order_final: true,
/// };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weights {
    /// The slope D₁ has half the weight of the value: exact at the midpoint, to second order
    /// (Lu et al. 2022, "DPM-Solver++", algorithm 2). At order 3 as [`Taylor`](Self::Taylor).
    Midpoint,
    /// D₁ has its exact weight, H·φ₂. At order 3 the second difference D₂ has the weight H·φ₃ of
    /// the published code, which is half of the exact one (Lu et al. 2022, app. B).
    Taylor,
    /// The polynomial through the evaluations is integrated exactly (Zhang & Chen 2022, "DEIS",
    /// eq. 15): an Adams–Bashforth method with exponential weight.
    Lagrange,
}

/// The multistep exponential integrators: DDIM, DPM-Solver, DPM-Solver++ and DEIS.
///
/// Each step reuses the evaluations of earlier steps, so it costs one evaluation. The first steps
/// are of lower order, until there are enough evaluations; so is a step from or to an infinite
/// log-SNR.
///
/// ```
/// use ddpm_schedule::solver::{Exponential, Interpolant, Weights};
///
/// let dpmpp_2m = Exponential {
///     interpolant: Interpolant::X0,
///     order: 2,
///     weights: Weights::Midpoint,
///     noise: 0.0,
///     lower_order_final: false,
/// };
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Exponential {
    /// What is interpolated.
    pub interpolant: Interpolant,
    /// The number of evaluations interpolated, 1 to 3.
    pub order: usize,
    /// How the evaluations are weighted.
    pub weights: Weights,
    /// κ ≥ 0: 0 adds no noise, 1 is the reverse stochastic equation of Song et al. 2021.
    pub noise: f64,
    /// Whether the order falls to 2 in the step before the last and to 1 in the last.
    pub lower_order_final: bool,
}

impl Solver for Exponential {
    fn step(&self, at: &Position) -> Step {
        let &Position { t, s, .. } = at;
        if self.noise == 0.0 && !s.sigma().is_finite() {
            // A step to pure noise would need a_s·(1 − e⁻ʰ) = 0·∞; DDIM is the limit.
            let eta = Eta::ZERO;
            return Ddim { eta }.step(at);
        }
        let nodes = nodes(at);
        let order = order(self.order, at, &nodes, self.lower_order_final);
        // Where there is no signal at t, ε̂ is x_t, and the step is that of x̂₀.
        let has_signal = t.sigma().is_finite();
        let interpolant = if has_signal {
            self.interpolant
        } else {
            Interpolant::X0
        };
        let noise = self.noise;
        let integral = Integral {
            interpolant,
            noise,
            t,
            s,
        };
        step(at, integral.x_s(self.sum(&integral, &nodes[..order])))
    }
}

impl Exponential {
    /// The integral with the evaluations made at `nodes`, the newest first: w₀·m₀ + w₁·D₁ + w₂·D₂
    /// with D₁ = (m₀ − m₁)/r₁ and so on, in units of h.
    fn sum(&self, integral: &Integral, nodes: &[NoiseLevel]) -> Row {
        let m = |k| integral.value(k, nodes[k]);
        let w = |i| integral.moment(i);
        let slope = |k: usize| {
            let [newer, older] = [nodes[k - 1], nodes[k]].map(NoiseLevel::half_log_snr);
            let r = (newer - older) / integral.h();
            (r, 1.0 / r * (m(k - 1) - m(k)))
        };
        match (nodes.len(), self.weights) {
            (1, _) => w(0) * m(0),
            (_, Weights::Lagrange) => integral.interpolated(nodes),
            (2, Weights::Midpoint) => w(0) * m(0) + 0.5 * w(0) * slope(1).1,
            (2, Weights::Taylor) => w(0) * m(0) + w(1) * slope(1).1,
            _ => {
                let [(r0, d1_0), (r1, d1_1)] = [slope(1), slope(2)];
                let change = 1.0 / (r0 + r1) * (d1_0.clone() - d1_1);
                let (d1, d2) = (d1_0 + r0 * change.clone(), change);
                // w(2) is 2·H·φ₃.
                w(0) * m(0) + w(1) * d1 + 0.5 * w(2) * d2
            }
        }
    }
}

/// The order of a step: at most one more than the number of evaluations before t, and 1 if an end
/// is clean or has no signal.
pub(super) fn order(most: usize, at: &Position, nodes: &[NoiseLevel], lower_final: bool) -> usize {
    let finite = |level: &&NoiseLevel| level.half_log_snr().is_finite();
    if [at.t, at.s].iter().filter(finite).count() < 2 {
        return 1;
    }
    let known = nodes.iter().take_while(finite).count();
    let last = match at.left {
        Some(left) if lower_final => left + 1,
        _ => usize::MAX,
    };
    most.min(known).min(last).max(1)
}

/// The integral of one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Integral {
    pub(super) interpolant: Interpolant,
    pub(super) noise: f64,
    pub(super) t: NoiseLevel,
    pub(super) s: NoiseLevel,
}

impl Integral {
    /// λ_s − λ_t.
    pub(super) fn h(&self) -> f64 {
        self.s.half_log_snr() - self.t.half_log_snr()
    }

    /// The interpolated quantity of evaluation k, which was made at `level`.
    pub(super) fn value(&self, k: usize, level: NoiseLevel) -> Row {
        match self.interpolant {
            Interpolant::X0 => Row::x0(k),
            Interpolant::Epsilon => Row::eps(k, level),
        }
    }

    /// ∫τⁱ with the exponential weight.
    pub(super) fn moment(&self, i: u32) -> f64 {
        let factorial: f64 = (1..=i).map(f64::from).product();
        match self.interpolant {
            Interpolant::X0 => {
                let h = (1.0 + self.noise) * self.h();
                if i == 0 {
                    -(-h).exp_m1()
                } else {
                    factorial * h * phi(i + 1, -h)
                }
            }
            // In units of b_s·(eʰ − 1) = a_s·σ_t·(1 − e⁻ʰ), which is finite for clean s too.
            Interpolant::Epsilon if i == 0 => 1.0,
            Interpolant::Epsilon => factorial * phi(i + 1, self.h()) / phi(1, self.h()),
        }
    }

    /// The factor from a plain weight to the units of [`moment`](Self::moment): 1 for x̂₀, and
    /// 1/(eʰ − 1) for ε̂.
    pub(super) fn unit(&self) -> f64 {
        match self.interpolant {
            Interpolant::X0 => 1.0,
            Interpolant::Epsilon => self.h().exp_m1().recip(),
        }
    }

    /// τ of a level.
    pub(super) fn place(&self, level: NoiseLevel) -> f64 {
        (level.half_log_snr() - self.t.half_log_snr()) / self.h()
    }

    /// The integral of the polynomial through the newest evaluations, which were made at `nodes`.
    pub(super) fn interpolated(&self, nodes: &[NoiseLevel]) -> Row {
        let places: Vec<f64> = nodes.iter().map(|&node| self.place(node)).collect();
        let moment = |i: usize| self.moment(u32::try_from(i).expect("a handful of nodes"));
        let weights = weights(&places, moment);
        let pairs = weights.into_iter().zip(nodes).enumerate();
        pairs.map(|(k, (w, &node))| w * self.value(k, node)).sum()
    }

    /// x_s, where the integral is `sum`.
    pub(super) fn x_s(&self, sum: Row) -> Row {
        let Self { noise, t, s, .. } = *self;
        let h = self.h();
        // 0·∞ would be NaN where a level is clean or without signal.
        let kappa_h = if noise == 0.0 { 0.0 } else { noise * h };
        let ratio = (s.ln_b - t.ln_b).exp();
        match self.interpolant {
            Interpolant::X0 => {
                let z = s.noise() * (-(-2.0 * kappa_h).exp_m1()).sqrt();
                ratio * (-kappa_h).exp() * Row::state() + s.signal() * sum + z * Row::z(0)
            }
            Interpolant::Epsilon => {
                let size = (1.0 + noise) * s.signal() * t.sigma() * -(-h).exp_m1();
                let z = s.signal() * t.sigma() * (noise * -(-2.0 * h).exp_m1()).sqrt();
                (s.ln_a - t.ln_a).exp() * Row::state() - size * sum + z * Row::z(0)
            }
        }
    }
}
