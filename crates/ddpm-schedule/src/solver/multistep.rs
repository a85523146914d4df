//! Predictor–correctors on exponential integrators: UniPC and SA-Solver.
//!
//! A predictor computes a first x_s from x_t. The denoiser is evaluated there, and a corrector
//! computes x_s again from x_t with this evaluation included. The next step reuses the evaluation,
//! so the correction costs nothing. The last step only predicts, which saves one evaluation.

use super::evaluations::nodes;
use super::exponential::{Integral, Interpolant, order};
use super::{Position, Row, Solver, Step};
use crate::NoiseLevel;

/// UniPC (Zhao et al. 2023, algorithm 1): predictor and corrector of order p.
///
/// The polynomial through p evaluations (p + 1 in the corrector) is integrated exactly. With two
/// evaluations, the slope has the weight ½·B(h) of [`Bh`] instead.
///
/// ```
/// use ddpm_schedule::solver::{Bh, Interpolant, Position, Solver, UniPc};
/// use ddpm_schedule::NoiseLevel;
///
/// let unipc = UniPc {
///     interpolant: Interpolant::X0,
///     order: 2,
///     b: Bh::Bh2,
///     lower_order_final: true,
/// };
/// let [t, s] = [2.0, 1.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// let first = unipc.step(&Position { past: &[], t, s, left: Some(9) });
/// assert_eq!(first.asks.len(), 2); // at t and, for the corrector, at s
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct UniPc {
    /// What is interpolated.
    pub interpolant: Interpolant,
    /// p, 1 to 3.
    pub order: usize,
    /// B(h).
    pub b: Bh,
    /// Whether the order falls to 2 in the step before the last and to 1 in the last.
    pub lower_order_final: bool,
}

/// The weight B(h) of the slope between two evaluations.
///
/// ```
/// use ddpm_schedule::solver::{Bh, Interpolant, UniPc};
///
/// let unipc = UniPc {
///     interpolant: Interpolant::Epsilon,
///     order: 3,
///     b: Bh::Bh1,
///     lower_order_final: true,
/// };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bh {
    /// h.
    Bh1,
    /// 1 − e⁻ʰ for x̂₀, eʰ − 1 for ε̂.
    Bh2,
}

/// SA-Solver (Xue et al. 2023, algorithm 1): a stochastic Adams method on x̂₀ with the noise τ.
///
/// ```
/// use ddpm_schedule::solver::SaSolver;
///
/// let sa = SaSolver {
///     predictor: 2,
///     corrector: 2,
///     tau: 1.0,
///     between: [f64::NEG_INFINITY, f64::INFINITY], // noise in every step
///     lower_order_final: true,
///     simple_slope: true,
/// };
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SaSolver {
    /// The number of evaluations in the predictor, at least 1.
    pub predictor: usize,
    /// The number of evaluations in the corrector, including that at s. 0 disables the corrector.
    pub corrector: usize,
    /// The noise τ ≥ 0 of steps whose log-SNR at t is in `between`; other steps have τ = 0.
    pub tau: f64,
    /// The smallest and the largest log-SNR λ = ln(a²/b²) of a noisy step.
    pub between: [f64; 2],
    /// Whether the orders decrease towards the last step.
    pub lower_order_final: bool,
    /// Whether the slope between two evaluations has the weight ½·h·(1 + τ²) of the authors'
    /// implementation, which is DPM-Solver++(2M)'s for small h, instead of the exact one.
    pub simple_slope: bool,
}

impl Solver for UniPc {
    fn step(&self, at: &Position) -> Step {
        let &Position { t, s, left, .. } = at;
        let (interpolant, noise) = (self.interpolant, 0.0);
        let integral = Integral {
            interpolant,
            noise,
            t,
            s,
        };
        let nodes = nodes(at);
        let order = order(self.order, at, &nodes, self.lower_order_final);
        let first = |k| integral.moment(0) * integral.value(k, t);
        let predicted = match order {
            1 => first(0),
            2 => first(0) + self.half_slope(&integral, [(1, nodes[1]), (0, t)]),
            _ => integral.interpolated(&nodes[..order]),
        };
        let corrected = || match order {
            1 => first(1) + self.half_slope(&integral, [(1, t), (0, s)]),
            _ => integral.interpolated(&[&[s], &nodes[..order]].concat()),
        };
        let corrects = integral.h().is_finite();
        let left = if corrects { left } else { Some(0) };
        let correct = || integral.x_s(corrected());
        pece(at, integral.x_s(predicted), left, correct)
    }
}

impl UniPc {
    /// ½·B(h)·D₁ with D₁ the slope from evaluation `from` to evaluation `to`.
    fn half_slope(&self, integral: &Integral, [from, to]: [(usize, NoiseLevel); 2]) -> Row {
        let m = |(k, level)| integral.value(k, level);
        let gap = integral.place(to.1) - integral.place(from.1);
        let b = match self.b {
            Bh::Bh1 => integral.h() * integral.unit(),
            Bh::Bh2 => integral.moment(0),
        };
        0.5 * b / gap * (m(to) - m(from))
    }
}

impl Solver for SaSolver {
    fn step(&self, at: &Position) -> Step {
        let &Position { t, s, left, .. } = at;
        let [low, high] = self.between;
        let noisy = (low..=high).contains(&t.log_snr());
        let noise = if noisy { self.tau * self.tau } else { 0.0 };
        let interpolant = Interpolant::X0;
        let integral = Integral {
            interpolant,
            noise,
            t,
            s,
        };
        let nodes = nodes(at);
        let h = integral.h();
        let excess = || 0.5 * (1.0 + noise) * h - integral.moment(1);
        let change = || Row::x0(0) - Row::x0(1);
        let with = |nodes: &[NoiseLevel], gap: f64| {
            let sum = integral.interpolated(nodes);
            let is_pair = nodes.len() == 2 && self.simple_slope;
            integral.x_s(if is_pair {
                sum + excess() / gap * change()
            } else {
                sum
            })
        };
        let predictor = order(self.predictor, at, &nodes, self.lower_order_final);
        let gap = nodes.get(1).map_or(1.0, |&node| -integral.place(node));
        let predicted = with(&nodes[..predictor], gap);
        let with_s = [&[s], &nodes[..]].concat();
        let corrector = self.corrector.min(with_s.len());
        let corrects = corrector > 0 && h.is_finite();
        let left = if corrects { left } else { Some(0) };
        pece(at, predicted, left, || with(&with_s[..corrector], 1.0))
    }
}

/// Evaluates at t unless the step before did, predicts, evaluates at s and corrects. The last step
/// and a step to clean data only predict.
fn pece(at: &Position, predicted: Row, left: Option<usize>, corrected: impl Fn() -> Row) -> Step {
    let mut asks = Vec::new();
    if at.past.first() != Some(&at.t) {
        asks.push((at.t, Row::state()));
    }
    if left == Some(0) || at.s == NoiseLevel::CLEAN {
        let last = predicted;
        return Step { asks, last };
    }
    asks.push((at.s, predicted));
    let last = corrected();
    Step { asks, last }
}
