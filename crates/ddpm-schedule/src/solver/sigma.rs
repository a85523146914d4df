//! One-step methods along straight lines: Euler, Heun and DPM2, with churn or ancestral noise.
//!
//! In suitable coordinates (u, y) the probability flow is dy/du = slope, and constant x̂₀ and ε̂
//! give a straight line. [`Frame`] names the two choices of the literature. An Euler step is the
//! same in both.

use super::{Position, Row, Solver, Step};
use crate::NoiseLevel;

/// Coordinates in which a method takes straight steps: y = x/scale as a function of u.
///
/// | frame | scale | u | dy/du |
/// |---|---|---|---|
/// | [`Sigma`](Self::Sigma) (Karras et al. 2022, eq. 1 and 3) | a | b/a | ε̂ |
/// | [`Flow`](Self::Flow) (Liu et al. 2022, eq. 1) | a + b | b/(a + b) | ε̂ − x̂₀ |
///
/// ```
/// use ddpm_schedule::solver::{Churn, Frame, Heun};
///
/// // Heun's method in the time of a rectified flow.
/// let heun = Heun { frame: Frame::Flow, churn: Churn::NONE };
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// x/a and σ = b/a.
    Sigma,
    /// x/(a + b) and the time of a rectified flow.
    Flow,
}

impl Frame {
    fn scale(self, level: NoiseLevel) -> f64 {
        match self {
            Self::Sigma => level.signal(),
            Self::Flow => level.signal() + level.noise(),
        }
    }

    /// u: 0 at clean data; in the frame of σ, infinite at pure noise.
    pub(super) fn u(self, level: NoiseLevel) -> f64 {
        match self {
            Self::Sigma => level.sigma(),
            Self::Flow => level.noise() / self.scale(level),
        }
    }

    /// dy/du from evaluation k, which was made at `level`.
    fn slope(self, k: usize, level: NoiseLevel) -> Row {
        match self {
            Self::Sigma => Row::eps(k, level),
            Self::Flow => Row::eps(k, level) - Row::x0(k),
        }
    }

    /// y_s = y_t + (u_s − u_t)·slope, from `x` at t.
    pub(super) fn line(self, x: Row, t: NoiseLevel, s: NoiseLevel, slope: Row) -> Row {
        let along = self.u(s) - self.u(t);
        self.scale(s) / self.scale(t) * x + self.scale(s) * along * slope
    }

    /// Whether a step from t to s has a second stage. It has none if b = 0 at s, where there is no
    /// ε̂, or if u is infinite at t.
    fn curved(self, t: NoiseLevel, s: NoiseLevel) -> bool {
        s.noise() > 0.0 && self.u(t).is_finite()
    }
}

/// x_s = a_s·x̂₀ + b_s·ε̂ from the newest evaluation, made at `t`: Euler's step in every frame.
pub(super) fn euler(t: NoiseLevel, s: NoiseLevel) -> Row {
    s.signal() * Row::x0(0) + s.noise() * Row::eps(0, t)
}

/// Noise added before a step (Karras et al. 2022, algorithm 2): from σ up to σ̂ = (1 + γ)·σ.
///
/// ```
/// use ddpm_schedule::solver::Churn;
///
/// // EDM's values for ImageNet-64.
/// let churn = Churn { min: 0.05, max: 50.0, noise: 1.003, ..Churn::new(40.0, 256) };
/// assert_eq!(churn.gamma, 40.0 / 256.0);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Churn {
    /// γ ≥ 0.
    pub gamma: f64,
    /// S_tmin, the smallest σ at which noise is added.
    pub min: f64,
    /// S_tmax ≥ S_tmin, the largest such σ.
    pub max: f64,
    /// S_noise ≥ 0, a factor on the standard deviation of the noise.
    pub noise: f64,
}

impl Churn {
    /// No noise.
    pub const NONE: Self = Self {
        gamma: 0.0,
        min: 0.0,
        max: f64::INFINITY,
        noise: 1.0,
    };

    /// γ = min(S_churn/N, √2 − 1) at every σ, for S_churn ≥ 0 and N ≥ 1 steps.
    pub fn new(churn: f64, steps: usize) -> Self {
        let gamma = (churn / steps as f64).min(std::f64::consts::SQRT_2 - 1.0);
        Self {
            gamma,
            ..Self::NONE
        }
    }

    /// The level t̂, and x̂ = (â/a)·x_t + â·√(σ̂² − σ²)·S_noise·z.
    fn raise(&self, &Position { t, s, .. }: &Position) -> (NoiseLevel, Row) {
        let sigma = t.sigma();
        if self.gamma == 0.0 || !sigma.is_finite() || !(self.min..=self.max).contains(&sigma) {
            return (t, Row::state());
        }
        let hat = t.along(s, t.half_log_snr() - self.gamma.ln_1p());
        let added = sigma * (self.gamma * (2.0 + self.gamma)).sqrt();
        let x = hat.signal() / t.signal() * Row::state()
            + hat.signal() * added * self.noise * Row::z(0);
        (hat, x)
    }
}

/// Euler's method, which is DDIM with η = 0 (Song et al. 2021, eq. 12 and 13).
///
/// Order 1, one evaluation per step.
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Churn, Euler, Position, Row, Solver};
///
/// let [t, s] = [2.0, 1.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// let euler = Euler { churn: Churn::NONE };
/// let step = euler.step(&Position { past: &[], t, s, left: None });
/// assert_eq!(step.last, Row::x0(0) + Row::eps(0, t)); // x̂₀ + σ_s·ε̂
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Euler {
    /// Noise added before every step.
    pub churn: Churn,
}

impl Solver for Euler {
    fn step(&self, at: &Position) -> Step {
        let (t, x) = self.churn.raise(at);
        let asks = vec![(t, x)];
        let last = euler(t, at.s);
        Step { asks, last }
    }
}

/// Heun's method (Karras et al. 2022, algorithms 1 and 2): the mean of the slopes at both ends.
///
/// Order 2, two evaluations per step; a step to clean data is an Euler step.
///
/// ```
/// use ddpm_schedule::solver::{Churn, Frame, Heun, Position, Solver};
/// use ddpm_schedule::NoiseLevel;
///
/// let heun = Heun { frame: Frame::Sigma, churn: Churn::NONE };
/// let [t, s] = [2.0, 1.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// let step = heun.step(&Position { past: &[], t, s, left: None });
/// assert_eq!((step.asks[0].0, step.asks[1].0), (t, s));
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Heun {
    /// The coordinates in which steps are straight.
    pub frame: Frame,
    /// Noise added before every step.
    pub churn: Churn,
}

impl Solver for Heun {
    fn step(&self, at: &Position) -> Step {
        let (frame, s) = (self.frame, at.s);
        let (t, x) = self.churn.raise(at);
        let end = euler(t, s);
        if !frame.curved(t, s) {
            let asks = vec![(t, x)];
            return Step { asks, last: end };
        }
        let slope = 0.5 * (frame.slope(1, t) + frame.slope(0, s));
        Step {
            asks: vec![(t, x), (s, end)],
            last: frame.line(Row::x(1), t, s, slope),
        }
    }
}

/// DPM2: the slope at the geometric mean of σ_t and σ_s (Crowson's `dpm_2`, after DPM-Solver-2 of
/// Lu et al. 2022, algorithm 1).
///
/// Order 2, two evaluations per step; a step to clean data is an Euler step.
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Churn, Dpm2, Position, Solver};
///
/// let [t, s] = [4.0, 1.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// let step = Dpm2 { churn: Churn::NONE }.step(&Position { past: &[], t, s, left: None });
/// assert!((step.asks[1].0.sigma() - 2.0).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dpm2 {
    /// Noise added before every step.
    pub churn: Churn,
}

impl Solver for Dpm2 {
    fn step(&self, at: &Position) -> Step {
        let (frame, s) = (Frame::Sigma, at.s);
        let (t, x) = self.churn.raise(at);
        if !frame.curved(t, s) {
            let (asks, last) = (vec![(t, x)], euler(t, s));
            return Step { asks, last };
        }
        let middle = t.along(s, 0.5 * (t.half_log_snr() + s.half_log_snr()));
        Step {
            asks: vec![(t, x), (middle, euler(t, middle))],
            last: frame.line(Row::x(1), t, s, frame.slope(0, middle)),
        }
    }
}

/// A step of another method to a less noisy level than s, then noise up to s.
///
/// σ_up² = η²·σ_s²·(σ_t² − σ_s²)/σ_t², σ_down² = σ_s² − σ_up². With η = 1 the noise is that of
/// q(x_s | x_t, x₀). Around [`Euler`], this is DDIM with η (Song et al. 2021, eq. 16).
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Ancestral, Churn, Dpm2, Position, Solver};
///
/// let dpm2_a = Ancestral { solver: Dpm2 { churn: Churn::NONE }, eta: 1.0 };
/// let [t, s] = [4.0, 1.0].map(|sigma| NoiseLevel::variance_exploding(sigma).unwrap());
/// assert!(dpm2_a.step(&Position { past: &[], t, s, left: None }).is_stochastic());
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ancestral<S> {
    /// A method that adds no noise at its last stage.
    pub solver: S,
    /// η from 0 to 1.
    pub eta: f64,
}

impl<S: Solver> Solver for Ancestral<S> {
    fn step(&self, at: &Position) -> Step {
        let &Position { t, s, .. } = at;
        if s.noise() == 0.0 || self.eta == 0.0 {
            return self.solver.step(at);
        }
        let up = self.eta * (-t.log_snr_over(s).exp_m1()).sqrt();
        // σ_down = σ_s·√(1 − up²)
        let ln_down = 0.5 * (-up * up).ln_1p();
        let down = t.along(s, s.half_log_snr() - ln_down);
        let mut step = self.solver.step(&Position { s: down, ..*at });
        let drawn = step.asks.iter().map(|(_, row)| row.z.len()).max();
        let z = Row::z(drawn.unwrap_or(0));
        step.last = s.signal() / down.signal() * step.last + s.noise() * up * z;
        step
    }

    fn memory(&self) -> usize {
        self.solver.memory()
    }
}
