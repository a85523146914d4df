//! ER-SDE: solvers of the extended reverse stochastic equation (Cui et al. 2023,
//! "Elucidating the solution space of extended reverse-time SDE for diffusion models").

use super::evaluations::{nodes, step};
use super::sigma::euler;
use super::{Position, Row, Solver, Step};

/// The ER-SDE solvers 1 to 3, which interpolate x̂₀ over σ = b/a.
///
/// With φ the noise scale, r = φ(σ_s)/φ(σ_t) and Δ = σ_s − σ_t, a step is
///
/// x_s/a_s = r·x_t/a_t + (1 − r)·x̂₀ + (Δ + φ(σ_s)·∫dσ/φ)·x̂₀′
/// + (Δ²/2 + φ(σ_s)·∫(σ − σ_t)/φ dσ)·x̂₀″ + √(σ_s² − r²·σ_t²)·z
///
/// where both integrals go from σ_s to σ_t, and x̂₀′ and x̂₀″ are differences of the newest three
/// evaluations. One evaluation per step; the first steps have fewer stages.
///
/// Without noise the orders are 1, 2 and 2: x̂₀′ is the difference quotient of the newest two
/// evaluations, not the derivative at t, and the third stage does not correct it.
///
/// ```
/// use ddpm_schedule::solver::ErSde;
///
/// // The second-order solver of the reverse stochastic equation.
/// let solver = ErSde { stages: 2, scale: |sigma| sigma * sigma, ..ErSde::DEFAULT };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ErSde {
    /// The number of evaluations used, 1 to 3.
    pub stages: usize,
    /// φ > 0 with φ(σ)/σ not decreasing. φ = σ adds no noise, and φ = σ² is the reverse
    /// stochastic equation of Song et al. 2021.
    pub scale: fn(f64) -> f64,
    /// A factor on the standard deviation of the noise.
    pub noise: f64,
    /// The number of rectangles in each integral, at least 1. The error of the integrals is
    /// inversely proportional to it, and so is the part of the solver's error that decreases no
    /// faster than the step size.
    pub rectangles: u32,
}

impl ErSde {
    /// Three stages with the scale that the paper recommends, [`er_sde_5`].
    pub const DEFAULT: Self = Self {
        stages: 3,
        scale: er_sde_5,
        noise: 1.0,
        rectangles: 200,
    };
}

/// φ(σ) = σ·(e^(σ^0.3) + 10), the paper's ER-SDE 5.
pub fn er_sde_5(sigma: f64) -> f64 {
    sigma * (sigma.powf(0.3).exp() + 10.0)
}

impl Solver for ErSde {
    fn step(&self, at: &Position) -> Step {
        let &Position { t, s, .. } = at;
        let (from, to) = (t.sigma(), s.sigma());
        if to == 0.0 || !from.is_finite() {
            return step(at, euler(t, s));
        }
        let past = nodes(at);
        let finite = past.iter().take_while(|node| node.sigma().is_finite());
        let stages = self.stages.min(finite.count());
        let sigma = |k: usize| past[k].sigma();
        let phi = self.scale;
        let integral = |f: &dyn Fn(f64) -> f64| rectangles(to, from, self.rectangles, f);
        let (r, delta) = (phi(to) / phi(from), to - from);
        let mut y = r / t.signal() * Row::state() + (1.0 - r) * Row::x0(0);
        // The first divided difference from evaluation k on.
        let d = |k: usize| 1.0 / (sigma(k) - sigma(k + 1)) * (Row::x0(k) - Row::x0(k + 1));
        if stages >= 2 {
            let weight = delta + phi(to) * integral(&|sigma| 1.0 / phi(sigma));
            y = y + weight * d(0);
        }
        if stages >= 3 {
            let moment = integral(&|sigma| (sigma - from) / phi(sigma));
            let second = 2.0 / (sigma(0) - sigma(2)) * (d(0) - d(1));
            y = y + (0.5 * delta * delta + phi(to) * moment) * second;
        }
        // If φ(σ) = σ, the noise is 0 up to rounding. In a step to less signal the variance is
        // negative, and `Step::of` refuses its root.
        let share = 1.0 - (r * from / to).powi(2);
        let share = if share.abs() < 1e-12 { 0.0 } else { share };
        let z = to * (self.noise.powi(2) * share).sqrt();
        step(at, s.signal() * (y + z * Row::z(0)))
    }
}

/// ∫ f from `low` to `high`, by `n` rectangles whose height is f at their lower end.
fn rectangles(low: f64, high: f64, n: u32, f: impl Fn(f64) -> f64) -> f64 {
    let width = (high - low) / f64::from(n);
    let heights = (0..n).map(|i| f(low + f64::from(i) * width));
    heights.sum::<f64>() * width
}
