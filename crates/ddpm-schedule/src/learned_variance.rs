//! The variance of a reverse step that a network predicts.

use crate::{NoiseLevel, NoiseSchedule, Timestep};

/// ln σ² = v·ln β + (1−v)·ln β̃ with v = (output + 1)/2 (Nichol & Dhariwal 2021, eq. 15).
///
/// Output −1 is the fixed variance β̃ ("fixed small"), and output 1 is β ("fixed large"). Outputs
/// beyond ±1 extrapolate, as in the paper.
///
/// ```
/// use ddpm_schedule::{LearnedVariance, NoiseLevel};
///
/// let t = NoiseLevel::variance_preserving(0.5)?;
/// let s = NoiseLevel::variance_preserving(0.6)?;
/// let range = LearnedVariance::between(t, s);
/// assert_eq!(range.log_variance(1.0), t.transition(s).variance.ln()); // β
/// let small = t.posterior(s).variance.ln(); // β̃
/// assert!((range.log_variance(-1.0) - small).abs() < 1e-12);
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LearnedVariance {
    /// ln of the variance of q(x_t | x_s): β_t for one step of DDPM.
    pub log_beta: f64,
    /// ln of the variance of q(x_s | x_t, x₀): β̃_t for one step of DDPM.
    pub log_beta_tilde: f64,
}

impl LearnedVariance {
    /// The variances for the step from `t` to `s`. For clean `s`, β̃ = 0 has no logarithm, and both
    /// ends are β.
    ///
    /// # Panics
    ///
    /// Unless `s` is less noisy: SNR(s) > SNR(t).
    pub fn between(t: NoiseLevel, s: NoiseLevel) -> Self {
        let log_beta = t.transition(s).variance.ln();
        // β̃/β = b_s²/b_t².
        let log_beta_tilde = log_beta + 2.0 * (s.ln_b - t.ln_b);
        Self {
            log_beta,
            log_beta_tilde: if log_beta_tilde.is_finite() {
                log_beta_tilde
            } else {
                log_beta
            },
        }
    }

    /// ln σ² for a network's `output`.
    pub fn log_variance(self, output: f64) -> f64 {
        let v = 0.5 * (output + 1.0);
        v * self.log_beta + (1.0 - v) * self.log_beta_tilde
    }

    /// ln β − ln β̃, the width of the range; never negative.
    pub fn span(self) -> f64 {
        self.log_beta - self.log_beta_tilde
    }
}

impl NoiseSchedule {
    /// The variances at t, for the step to t−1.
    ///
    /// At t = 1 they are the decoder's. There β̃₂ replaces β̃₁ = 0, as in the authors' code (its
    /// "clipped" log variance); with T = 1 there is no β̃₂, and both ends are β₁. (At t = 1 that
    /// code uses β̃₂ also as the fixed large variance; here that is output −1.)
    ///
    /// # Panics
    ///
    /// If `t` was made by a longer schedule.
    pub fn learned_variance(&self, t: Timestep) -> LearnedVariance {
        let choice = LearnedVariance::between(self.level(t), self.previous(t));
        match self.timestep(2) {
            Some(second) if t < second => LearnedVariance {
                log_beta_tilde: self.posterior_variance(second).ln(),
                ..choice
            },
            _ => choice,
        }
    }
}
