//! Predictor–correctors on exponential integrators: UniPC and SA-Solver.
//!
//! A predictor takes x_t to a first x_s. The denoiser is asked there, and a corrector makes x_s
//! again from x_t with that answer among the evaluations. The answer is also the first of the next
//! step, so that the correction costs nothing. The last step only predicts: one evaluation fewer.

use super::evaluations::nodes;
use super::exponential::{Integral, Of, order};
use super::{Position, Row, Solver, Step};
use crate::NoiseLevel;

/// UniPC (Zhao et al. 2023, algorithm 1): predictor and corrector of order p.
///
/// The polynomial through p evaluations (p + 1 in the corrector) is integrated exactly, but for
/// two of them, whose slope has half the weight that [`Bh`] says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct UniPc {
    /// What is interpolated.
    pub of: Of,
    /// p, 1 to 3.
    pub order: usize,
    /// B(h).
    pub b: Bh,
    /// Whether the order falls to 2 in the step before the last and to 1 in the last.
    pub lower_order_final: bool,
}

/// The weight B(h) of the slope between two evaluations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bh {
    /// h.
    Bh1,
    /// 1 − e⁻ʰ of x̂₀, eʰ − 1 of ε̂.
    Bh2,
}

/// SA-Solver (Xue et al. 2023, algorithm 1): stochastic Adams of x̂₀ with the noise τ.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SaSolver {
    /// Evaluations in the predictor, at least 1.
    pub predictor: usize,
    /// Evaluations in the corrector, that at s among them, at least 1; 0 does not correct.
    pub corrector: usize,
    /// τ ≥ 0 where the log-SNR of t is in `between`, and 0 elsewhere.
    pub tau: f64,
    /// The least and the largest log-SNR λ = ln(a²/b²) of a noisy step.
    pub between: [f64; 2],
    /// Whether the orders fall towards the last step.
    pub lower_order_final: bool,
    /// Whether the slope between two evaluations has the simple weight ½·h·(1 + τ²) of the authors'
    /// implementation, which makes it DPM-Solver++(2M)'s for small h, and not the exact one.
    pub simple_slope: bool,
}

impl Solver for UniPc {
    fn step(&self, at: &Position) -> Step {
        let &Position { t, s, left, .. } = at;
        let (of, noise) = (self.of, 0.0);
        let integral = Integral { of, noise, t, s };
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
        let of = Of::X0;
        let integral = Integral { of, noise, t, s };
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

/// Asks at t where the step before has not, predicts, asks at s and corrects. With 0 steps left it
/// only predicts, as on the way to clean data, where there is nothing to ask.
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
