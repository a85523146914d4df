//! PNDM as in diffusers: its two starting methods, its mean of v, and iPNDM.

use ddpm_schedule::solver::{Adams, Pndm, Position, Row, Solver, Step};
use ddpm_schedule::{NoiseLevel, Process};

/// The quantity that PNDM averages over the evaluations of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// ε̂, as in the paper.
    Epsilon,
    /// v = a·ε̂ − b·x̂₀, each at its own level; the mean is converted to ε̂ = a_t·v + b_t·x_t.
    Velocity,
}

impl Outputs {
    /// Converts a step in terms of ε̂ to a step in terms of this quantity.
    pub(super) fn mean(self, mut step: Step, at: &Position) -> Step {
        if self == Self::Velocity {
            let mut levels = at.past.to_vec();
            for (level, row) in &mut step.asks {
                *row = of_velocities(row, at.t, &levels);
                levels.insert(0, *level);
            }
            step.last = of_velocities(&step.last, at.t, &levels);
        }
        step
    }
}

/// The row ratio·x_t + Σ w_k·ε̂⁽ᵏ⁾ with a_t·v⁽ᵏ⁾ + b_t·x_t in place of ε̂⁽ᵏ⁾.
fn of_velocities(row: &Row, t: NoiseLevel, levels: &[NoiseLevel]) -> Row {
    // v = (a/b)·x − (a² + b²)/b·x̂₀ with ε̂ = (x − a·x̂₀)/b.
    let velocity = |k: usize, level: NoiseLevel| {
        let (a, b) = (level.signal(), level.noise());
        a / b * Row::x(k) - (a * a + b * b) / b * Row::x0(k)
    };
    let terms = row.past.iter().zip(levels).enumerate();
    let terms = terms.map(|(k, (term, &level))| {
        let w = term.x * level.noise();
        w * (t.signal() * velocity(k, level) + t.noise() * Row::state())
    });
    row.state * Row::state() + terms.sum()
}

/// PNDM with the level of the time t − `half` between two levels.
pub(super) fn pndm(
    process: &Process,
    half: f64,
) -> Pndm<impl Fn(NoiseLevel, NoiseLevel) -> NoiseLevel + '_> {
    let middle = move |t: NoiseLevel, s: NoiseLevel| {
        let time = (process.time(t) - half).max(0.0);
        process.level(time).unwrap_or(s)
    };
    Pndm { middle }
}

/// diffusers divides by a; where a is 0 it uses 0 for x̂₀.
pub(super) fn ipndm(solver: &Adams, at: &Position) -> Step {
    if at.t.signal() == 0.0 {
        return Step::one(at.t, at.s.noise() / at.t.noise() * Row::state());
    }
    solver.step(at)
}

/// PLMS: x_s = φ(x_t, e) = (a_s/a_t)·x_t + (b_s − a_s·σ_t)·e as in PNDM (Liu et al. 2022, eq. 11),
/// where e has the fixed weights of Adams and Bashforth from the first step on.
///
/// The first step is computed twice: with ε̂ at t as e, and then with the mean of that and of ε̂ at
/// s. Later steps do not use the evaluation at s.
pub(super) fn plms(at: &Position) -> Step {
    let &Position { past, t, s, .. } = at;
    let phi = |e: Row| {
        let ratio = s.signal() / t.signal();
        ratio * Row::state() + (s.noise() - s.signal() * t.sigma()) * e
    };
    if past.is_empty() && s.noise() > 0.0 {
        let mean = 0.5 * (Row::eps(1, t) + Row::eps(0, s));
        let asks = vec![(t, Row::state()), (s, phi(Row::eps(0, t)))];
        return Step {
            asks,
            last: phi(mean),
        };
    }
    // Evaluation k of the multistep method. The second evaluation of all, at s, is not part of it.
    let first_guess = past.len().checked_sub(1);
    let kept = (0..=past.len()).filter(|&k| Some(k) != first_guess || past.len() < 2);
    let kept: Vec<usize> = kept.take(4).collect();
    let weights: &[f64] = match kept.len() {
        0 | 1 => &[1.0],
        2 => &[3.0 / 2.0, -1.0 / 2.0],
        3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
        _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
    };
    let level = |k: usize| if k == 0 { t } else { past[k - 1] };
    let slopes = kept.into_iter().zip(weights);
    let e = slopes.map(|(k, &w)| w * Row::eps(k, level(k))).sum();
    Step::one(t, phi(e))
}
