//! Adams–Bashforth methods on ε̂ over σ = b/a: LMS, iPNDM, PNDM and gradient estimation.
//!
//! In σ the probability flow is d(x/a)/dσ = ε̂. Each step makes one evaluation and reuses earlier
//! ones for the higher order.

use super::evaluations::{nodes, step};
use super::quadrature::weights;
use super::sigma::{Frame, euler};
use super::{Position, Row, Solver, Step};
use crate::NoiseLevel;

/// The nodes of interpolation that an Adams method assumes.
///
/// ```
/// use ddpm_schedule::solver::{Adams, Nodes};
///
/// let ipndm = Adams { order: 4, nodes: Nodes::Equal, euler_final: true };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nodes {
    /// Equidistant nodes: the fixed weights 3/2, −1/2; 23/12, −16/12, 5/12; …
    Equal,
    /// The σ of the evaluations.
    Sigma,
}

/// The Adams–Bashforth methods: x_s/a_s = x_t/a_t + ∫ε̂ dσ with a polynomial through the newest
/// ε̂.
///
/// | method | nodes | `euler_final` |
/// |---|---|---|
/// | LMS | σ | no |
/// | iPNDM (Zhang & Chen 2022, "DEIS") | equal | no in diffusers, yes in ComfyUI |
/// | iPNDM-v | σ | yes |
///
/// One evaluation per step. The order is [`order`](Self::order), but at most 2 if equal nodes are
/// assumed and the steps of σ differ. The first steps are of lower order.
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Adams, Nodes, Position, Solver};
///
/// let lms = Adams { order: 4, nodes: Nodes::Sigma, euler_final: false };
/// let [older, t, s] = [3.0, 2.0, 1.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// let step = lms.step(&Position { past: &[older], t, s, left: None });
/// assert_eq!(step.last.past.len(), 2); // ½·(3·ε̂⁽⁰⁾ − ε̂⁽¹⁾)
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Adams {
    /// The number of evaluations interpolated, 1 to 4.
    pub order: usize,
    /// The nodes that are assumed.
    pub nodes: Nodes,
    /// Whether a step to clean data is an Euler step.
    pub euler_final: bool,
}

impl Solver for Adams {
    fn step(&self, at: &Position) -> Step {
        let &Position { t, s, .. } = at;
        let levels = nodes(at);
        let sigma = |level: NoiseLevel| Frame::Sigma.u(level);
        let ends = self.euler_final && s.noise() == 0.0;
        if !sigma(t).is_finite() || ends || t == s {
            return step(at, euler(t, s));
        }
        let place = |(k, &level): (usize, &NoiseLevel)| match self.nodes {
            Nodes::Equal => -(k as f64),
            Nodes::Sigma => (sigma(level) - sigma(t)) / (sigma(s) - sigma(t)),
        };
        let places = levels.iter().enumerate().map(place);
        let places: Vec<f64> = places
            .take(self.order)
            .take_while(|place| place.is_finite())
            .collect();
        let weights = weights(&places, average);
        let slopes = weights.into_iter().zip(&levels).enumerate();
        let slope = slopes.map(|(k, (w, &level))| w * Row::eps(k, level)).sum();
        step(at, Frame::Sigma.line(Row::state(), t, s, slope))
    }
}

/// Gradient estimation (Permenter & Yuan 2024): an Euler step with
/// ε̄ = γ·ε̂⁽⁰⁾ + (1 − γ)·ε̂⁽¹⁾ in place of ε̂.
///
/// Order 1, one evaluation per step. γ = 1 is Euler's method. The first step and a step to clean
/// data are Euler steps.
///
/// ```
/// use ddpm_schedule::solver::{GradientEstimation, Method};
///
/// let solver = GradientEstimation { gamma: 2.0 }; // by name:
/// assert!("gradient-estimation".parse::<Method>().is_ok());
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GradientEstimation {
    /// γ ≥ 1; 2 in the paper.
    pub gamma: f64,
}

impl Solver for GradientEstimation {
    fn step(&self, at: &Position) -> Step {
        let &Position { t, s, .. } = at;
        let levels = nodes(at);
        if levels.len() < 2 || s.noise() == 0.0 || !t.sigma().is_finite() {
            return step(at, euler(t, s));
        }
        let [new, old] = [0, 1].map(|k| Row::eps(k, levels[k]));
        let slope = self.gamma * new + (1.0 - self.gamma) * old;
        step(at, Frame::Sigma.line(Row::state(), t, s, slope))
    }
}

/// PNDM (Liu et al. 2022, eq. 11 to 13): three Runge–Kutta steps with the transfer φ, then
/// four-step Adams–Bashforth with fixed weights.
///
/// x_s = φ(x_t, e) = (a_s/a_t)·x_t + (b_s − a_s·σ_t)·e, so a step is straight in σ. The order is 4
/// along equal steps of σ and 2 along others. The first three steps make four evaluations each, the
/// others one.
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Pndm, Position, Solver};
///
/// // The middle by σ.
/// let middle = |t: NoiseLevel, s: NoiseLevel| {
///     NoiseLevel::variance_exploding(0.5 * (t.sigma() + s.sigma())).unwrap()
/// };
/// let [t, s] = [4.0, 2.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// let step = Pndm { middle }.step(&Position { past: &[], t, s, left: None });
/// assert_eq!(step.asks.len(), 4);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pndm<M> {
    /// The level of the second and third stage, from t and s; in the paper, that of the time
    /// (t + s)/2.
    pub middle: M,
}

/// The number of Runge–Kutta steps, and of evaluations in each.
const WARM_UP: usize = 3;
const STAGES: usize = 4;

impl<M: Fn(NoiseLevel, NoiseLevel) -> NoiseLevel> Solver for Pndm<M> {
    fn step(&self, at: &Position) -> Step {
        let &Position { past, t, s, .. } = at;
        let infinite = |level: &NoiseLevel| !level.sigma().is_finite();
        if infinite(&t) {
            return Step::one(t, euler(t, s));
        }
        // A step from pure noise is an Euler step and is not counted.
        let made = past.len() - usize::from(past.last().is_some_and(infinite));
        if made < WARM_UP * STAGES && s.noise() > 0.0 {
            self.runge_kutta(t, s)
        } else {
            multistep(at, made.saturating_sub(WARM_UP * STAGES))
        }
    }

    fn memory(&self) -> usize {
        1 + WARM_UP * STAGES
    }
}

impl<M: Fn(NoiseLevel, NoiseLevel) -> NoiseLevel> Pndm<M> {
    /// e₁ = ε̂(x_t, t), e₂ = ε̂(φ(x_t, e₁), m), e₃ = ε̂(φ(x_t, e₂), m), e₄ = ε̂(φ(x_t, e₃), s);
    /// x_s = φ(x_t, (e₁ + 2e₂ + 2e₃ + e₄)/6).
    fn runge_kutta(&self, t: NoiseLevel, s: NoiseLevel) -> Step {
        let m = (self.middle)(t, s);
        let e = |n: usize, newest: usize| Row::eps(newest - n, [t, m, m, s][n - 1]);
        let mean = 1.0 / 6.0 * (e(1, 4) + 2.0 * e(2, 4) + 2.0 * e(3, 4) + e(4, 4));
        let phi = |to, e| Frame::Sigma.line(Row::state(), t, to, e);
        let asks = vec![
            (t, Row::state()),
            (m, phi(m, e(1, 1))),
            (m, phi(m, e(2, 2))),
            (s, phi(s, e(3, 3))),
        ];
        let last = phi(s, mean);
        Step { asks, last }
    }
}

/// x_s = φ(x_t, (55e₀ − 59e₁ + 37e₂ − 9e₃)/24) with the first ε̂ of this step and of the three
/// before it. `made` is the number of earlier steps with one evaluation.
fn multistep(&Position { past, t, s, .. }: &Position, made: usize) -> Step {
    let index = |k: usize| {
        if k <= made {
            k
        } else {
            made + STAGES * (k - made)
        }
    };
    let first = |k: usize| if k == 0 { t } else { past[index(k) - 1] };
    let known = (0..4).take_while(|&k| index(k) <= past.len());
    let places: Vec<f64> = known.map(|k| -(k as f64)).collect();
    let weights = weights(&places, average).into_iter().enumerate();
    let e = weights.map(|(k, w)| w * Row::eps(index(k), first(k))).sum();
    Step::one(t, Frame::Sigma.line(Row::state(), t, s, e))
}

/// ∫₀¹ τⁱ dτ.
fn average(i: usize) -> f64 {
    1.0 / (i + 1) as f64
}
