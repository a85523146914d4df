//! DDPM and DDIM.

use thiserror::Error;

use super::evaluations::step;
use super::{Position, Row, Solver, Step};
use crate::{LearnedVariance, NoiseLevel};

/// DDPM: x_s ~ N(μ̃, σ²·I), where μ̃ is the posterior's mean with x̂₀ for x₀ (Ho et al. 2020, eq. 6
/// and 7, for any process).
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Ddpm, Position, Solver, Variance};
///
/// let [t, s] = [0.5, 0.9].map(|alpha_bar| NoiseLevel::variance_preserving(alpha_bar).unwrap());
/// let step = Ddpm { variance: Variance::Large }.step(&Position { past: &[], t, s, left: None });
/// assert_eq!(step.last.z, [t.transition(s).variance.sqrt()]); // √β
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ddpm {
    /// σ².
    pub variance: Variance,
}

/// The variance of a step of [`Ddpm`].
///
/// ```
/// use ddpm_schedule::solver::{Ddpm, Method, Variance};
///
/// let small = Ddpm { variance: Variance::Small }; // by name, "ddpm"
/// assert_eq!("ddpm-large".parse::<Method>()?.info().name, "ddpm-large"); // Variance::Large
/// # Ok::<(), ddpm_schedule::solver::MethodError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variance {
    /// β̃, that of q(x_s | x_t, x₀).
    Small,
    /// β, that of q(x_t | x_s), except on the step to clean data, which adds no noise.
    Large,
    /// Between the two, as the network predicts for each element (Nichol & Dhariwal 2021, eq. 15).
    Learned,
}

/// DDIM: x_s = a_s·x̂₀ + √(b_s² − η²σ_Q²)·ε̂ + η·σ_Q·z with σ_Q² the posterior's variance
/// (Song et al. 2020, eq. 12 and 16).
///
/// Without noise it solves the probability flow, an ordinary differential equation, and can also
/// lead from data to noise. η = 1 is [`Ddpm`] if ε̂ = (x_t − a_t·x̂₀)/b_t.
///
/// ```
/// use ddpm_schedule::NoiseLevel;
/// use ddpm_schedule::solver::{Ddim, Eta, Position, Solver};
///
/// let [t, s] = [0.5, 0.9].map(|alpha_bar| NoiseLevel::variance_preserving(alpha_bar).unwrap());
/// let at = Position { past: &[], t, s, left: None };
/// assert!(!Ddim { eta: Eta::ZERO }.step(&at).is_stochastic());
/// assert!(Ddim { eta: Eta::new(0.5)? }.step(&at).is_stochastic());
/// # Ok::<(), ddpm_schedule::solver::EtaError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ddim {
    /// η.
    pub eta: Eta,
}

/// The fraction η ∈ [0, 1] of the posterior's noise that a DDIM step adds.
///
/// ```
/// use ddpm_schedule::solver::Eta;
///
/// assert_eq!(Eta::new(1.0)?, Eta::ONE);
/// assert_eq!(Eta::new(0.5)?.get(), 0.5);
/// # Ok::<(), ddpm_schedule::solver::EtaError>(())
/// ```
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Eta(f64);

/// An η outside [0, 1].
///
/// ```
/// use ddpm_schedule::solver::{Eta, EtaError};
///
/// assert_eq!(Eta::new(1.5), Err(EtaError(1.5)));
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Error)]
#[error("η = {0} is outside [0, 1]")]
pub struct EtaError(pub f64);

impl Eta {
    /// No noise: the deterministic DDIM.
    pub const ZERO: Self = Self(0.0);
    /// All of it: DDPM.
    pub const ONE: Self = Self(1.0);

    /// The given η.
    ///
    /// # Errors
    ///
    /// Unless 0 ≤ η ≤ 1.
    pub fn new(eta: f64) -> Result<Self, EtaError> {
        if (0.0..=1.0).contains(&eta) {
            Ok(Self(eta))
        } else {
            Err(EtaError(eta))
        }
    }

    /// The value of η.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Solver for Ddpm {
    fn step(&self, at: &Position) -> Step {
        let &Position { t, s, .. } = at;
        if t.log_snr_over(s) >= 0.0 {
            return impossible(at);
        }
        let posterior = t.posterior(s);
        let to_clean = s == NoiseLevel::CLEAN;
        let variance = match self.variance {
            Variance::Large if !to_clean => t.transition(s).variance,
            _ => posterior.variance,
        };
        let mut x_s =
            posterior.x_t * Row::state() + posterior.x0 * Row::x0(0) + variance.sqrt() * Row::z(0);
        if self.variance == Variance::Learned {
            x_s.z_span = 0.5 * LearnedVariance::between(t, s).span();
        }
        step(at, x_s)
    }
}

impl Solver for Ddim {
    fn step(&self, at: &Position) -> Step {
        let &Position { t, s, .. } = at;
        let eta = self.eta.get();
        if eta > 0.0 && t.log_snr_over(s) >= 0.0 {
            return impossible(at);
        }
        // σ_Q² = −b_s²·expm1(Δ), so b_s² − η²σ_Q² is b_s²·keep. Without noise a step may also lead
        // to less signal, where there is no posterior.
        let (keep, z) = if eta > 0.0 {
            let share = (1.0 - eta) * (1.0 + eta);
            let keep = share + eta * eta * t.log_snr_over(s).exp();
            (keep, eta * t.posterior(s).variance.sqrt())
        } else {
            (1.0, 0.0)
        };
        // x⁽⁰⁾ = a_t·x̂₀ + b_t·ε̂ contains ε̂, so no division by b_t is needed.
        let of_x = (s.ln_b - t.ln_b).exp() * keep.sqrt();
        let x_s = of_x * Row::x(0) + x0_factor(t, s, keep) * Row::x0(0) + z * Row::z(0);
        step(at, x_s)
    }
}

/// A step to less signal has no posterior. Its noise gets the factor NaN, which [`Step::of`]
/// refuses.
fn impossible(at: &Position) -> Step {
    step(at, f64::NAN * Row::z(0))
}

/// a_s − a_t·(b_s/b_t)·√keep: the factor of x̂₀ with which x_s has the mean a_s·x₀ if x_t has the
/// factor (b_s/b_t)·√keep.
fn x0_factor(t: NoiseLevel, s: NoiseLevel, keep: f64) -> f64 {
    // The larger of the two terms times one minus their ratio. `ratio` is the logarithm of that
    // ratio, and (a_t·b_s)/(a_s·b_t) = e^(Δ/2).
    let ratio = 0.5 * (t.log_snr_over(s) + keep.ln());
    if ratio <= 0.0 {
        -s.signal() * ratio.exp_m1()
    } else {
        t.signal() * (s.noise() / t.noise()) * keep.sqrt() * (-ratio).exp_m1()
    }
}
