//! Predictor–correctors on exponential integrators: UniPC and SA-Solver.
//!
//! A predictor takes x_t to a first x_s. The denoiser is asked there, and a corrector makes x_s
//! again from x_t with that answer among the evaluations. The answer is also the first of the next
//! step, so that the correction costs nothing. The last step only predicts: one evaluation fewer.

use super::exponential::{Integral, Of, nodes};
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
}

impl Solver for UniPc {
    fn step(&self, at: &Position) -> Step {
        let &Position { t, s, left, .. } = at;
        let (of, noise) = (self.of, 0.0);
        let integral = Integral { of, noise, t, s };
        let nodes = nodes(at);
        let order = order(self.order, at, &nodes, self.lower_order_final);
        // ½·B(h)·D₁ with D₁ the slope from evaluation `from` to evaluation `to`.
        let half = |[from, to]: [(usize, NoiseLevel); 2]| {
            let m = |(k, level)| integral.value(k, level);
            let gap = integral.place(to.1) - integral.place(from.1);
            let b = match self.b {
                Bh::Bh1 => integral.h() * integral.unit(),
                Bh::Bh2 => integral.moment(0),
            };
            0.5 * b / gap * (m(to) - m(from))
        };
        let predicted = match order {
            1 => integral.moment(0) * integral.value(0, t),
            2 => {
                let slope = half([(1, nodes[1]), (0, t)]);
                integral.moment(0) * integral.value(0, t) + slope
            }
            _ => integral.interpolated(&nodes[..order]),
        };
        let corrected = || match order {
            1 => integral.moment(0) * integral.value(1, t) + half([(1, t), (0, s)]),
            _ => {
                let with_s: Vec<_> = [s].into_iter().chain(nodes.iter().copied()).collect();
                integral.interpolated(&with_s[..=order])
            }
        };
        pece(at, integral.x_s(predicted), left, || {
            integral.x_s(corrected())
        })
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
        let with_s: Vec<_> = [s].into_iter().chain(nodes.iter().copied()).collect();
        let h = integral.h();
        let predictor = order(self.predictor, at, &nodes, self.lower_order_final);
        let mut predicted = integral.interpolated(&nodes[..predictor]);
        if predictor == 2 {
            // The slope has the weight ½·h·(1+τ²), which makes it DPM-Solver++(2M)'s for small h.
            let gap = integral.place(t) - integral.place(nodes[1]);
            let excess = 0.5 * (1.0 + noise) * h - integral.moment(1);
            predicted = predicted + excess / gap * (Row::x0(0) - Row::x0(1));
        }
        let corrector = self.corrector.min(nodes.len() + 1);
        let corrected = || {
            let mut sum = integral.interpolated(&with_s[..corrector]);
            if corrector == 2 {
                let excess = 0.5 * (1.0 + noise) * h - integral.moment(1);
                sum = sum + excess * (Row::x0(0) - Row::x0(1));
            }
            integral.x_s(sum)
        };
        let left = if corrector == 0 { Some(0) } else { left };
        pece(at, integral.x_s(predicted), left, corrected)
    }
}

/// The order that a step can have: at most one more than the evaluations before t.
fn order(most: usize, at: &Position, nodes: &[NoiseLevel], lower_final: bool) -> usize {
    let finite = |level: &&NoiseLevel| level.half_log_snr().is_finite();
    if [at.t, at.s].iter().filter(finite).count() < 2 {
        return 1;
    }
    let known = nodes.iter().take_while(finite).count();
    let last = match at.left {
        Some(left) if lower_final => left + 1,
        _ => usize::MAX,
    };
    most.min(known).min(last)
}

/// Asks at t where the step before has not, predicts, asks at s and corrects; in the last step,
/// and on the way to clean data, where there is nothing to ask, it only predicts.
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
