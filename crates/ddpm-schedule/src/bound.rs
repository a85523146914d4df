//! The variational bound on −ln p(x₀), element by element and in nats.
//!
//! L = L_T + Σ_{t=2..T} L_{t−1} + L₀ (Ho et al. 2020, eq. 5), where
//!
//! | term | is | function |
//! |---|---|---|
//! | L_T | KL(q(x_T \| x₀) ‖ p(x_T)) | [`prior_kl`] |
//! | L_{t−1} | KL(q(x_{t−1} \| x_t, x₀) ‖ p(x_{t−1} \| x_t)) | [`snr_kl`], [`posterior_kl`], [`model_kl`] |
//! | L₀ | −ln p(x₀ \| x₁) | [`decoder_nll`] |
//!
//! All covariances are diagonal. So the sum over elements is the term of an image, and the mean
//! over them is in nats per dimension, which [`bits`] converts to the bits per dimension of the
//! papers. A step may lead from t to any s < t, so a respaced process has its own bound.

mod decoder;

pub use decoder::decoder_nll;

use crate::NoiseLevel;

/// N(`mean`, e^`log_variance`) of one element. A log variance of −∞ gives a point mass.
///
/// ```
/// use ddpm_schedule::bound::Gaussian;
///
/// let q = Gaussian { mean: 0.0, log_variance: 0.0 };
/// let p = Gaussian { mean: 1.0, ..q };
/// assert_eq!(q.kl(p), 0.5);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Gaussian {
    /// μ.
    pub mean: f64,
    /// ln σ², which a network with learned variance predicts.
    pub log_variance: f64,
}

impl Gaussian {
    /// KL(self ‖ model) = ½(σ²/σ_p² − 1 − ln(σ²/σ_p²) + (μ − μ_p)²/σ_p²) in nats.
    ///
    /// Never negative; ∞ if only one is a point mass, or both are at different points. The relative
    /// error is small even if the two nearly agree.
    pub fn kl(self, model: Self) -> f64 {
        let spread = if self.log_variance == model.log_variance {
            0.0 // also for two point masses
        } else {
            excess(self.log_variance - model.log_variance)
        };
        let precision = (-model.log_variance).exp();
        0.5 * (spread + weighted_square(precision, self.mean - model.mean))
    }
}

/// L_T: KL(q(x_T | x₀) ‖ N(0, a² + b²)) in nats, where x_T has the level `t`.
///
/// The reverse process starts from this prior, which has the standard deviation
/// [`NoiseLevel::prior_std`]: N(0, 1) if variance is preserved. No term of the bound changes when x
/// is scaled, so this one depends on the SNR alone: with w = SNR/(1 + SNR) it is ½(−ln(1−w) − w +
/// w·x₀²).
pub fn prior_kl(x0: f64, t: NoiseLevel) -> f64 {
    let signal_share = 1.0 / (1.0 + (-t.log_snr()).exp());
    let log_noise_share = -t.snr().ln_1p();
    0.5 * (excess(log_noise_share) + weighted_square(signal_share, x0))
}

/// ½(SNR_s − SNR_t), the weight of (x₀ − x̂₀)² in [`snr_kl`]
/// (Kingma et al. 2021, eq. 14). It is ∞ for clean `s`.
///
/// # Panics
///
/// Unless `s` is less noisy: SNR(s) > SNR(t).
pub fn snr_weight(t: NoiseLevel, s: NoiseLevel) -> f64 {
    -0.5 * s.snr() * t.delta(s).exp_m1()
}

/// L_{t−1} = ½(SNR_s − SNR_t)·(x₀ − x̂₀)² in nats, for the step from `t` to `s` of a
/// model whose variance is the posterior's (Kingma et al. 2021, eq. 13).
///
/// It equals [`posterior_kl`], simplified. For clean `s` it is ∞ unless x̂₀ = x₀; the term of that
/// step is [`decoder_nll`].
///
/// # Panics
///
/// Unless `s` is less noisy: SNR(s) > SNR(t).
pub fn snr_kl(x0: f64, x0_hat: f64, t: NoiseLevel, s: NoiseLevel) -> f64 {
    weighted_square(snr_weight(t, s), x0 - x0_hat)
}

/// L_{t−1} as the KL between two Gaussians, q(x_s | x_t, x₀) and q(x_s | x_t, x̂₀)
/// (Ho et al. 2020, eq. 8 with σ² = β̃).
///
/// # Panics
///
/// Unless `s` is less noisy: SNR(s) > SNR(t).
pub fn posterior_kl(x0: f64, x0_hat: f64, t: NoiseLevel, s: NoiseLevel) -> f64 {
    model_kl(x0, x0_hat, t.posterior(s).variance.ln(), t, s)
}

/// L_{t−1} of a model with any variance: KL(q(x_s | x_t, x₀) ‖ N(μ̃, σ²)) in nats, where μ̃ is the
/// posterior's mean with x̂₀ for x₀ and `log_variance` = ln σ².
///
/// [`LearnedVariance`](crate::LearnedVariance) has σ² = β, the fixed large variance, and every
/// variance between it and β̃.
///
/// # Panics
///
/// Unless `s` is less noisy: SNR(s) > SNR(t).
pub fn model_kl(x0: f64, x0_hat: f64, log_variance: f64, t: NoiseLevel, s: NoiseLevel) -> f64 {
    let posterior = t.posterior(s);
    // Both means contain the same term in x_t. It is left out of both, because their difference
    // would lose its digits.
    let truth = Gaussian {
        mean: 0.0,
        log_variance: posterior.variance.ln(),
    };
    truth.kl(Gaussian {
        mean: posterior.x0 * (x0_hat - x0),
        log_variance,
    })
}

/// Converts nats to bits; 1 bit is ln 2 nats.
pub fn bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

/// e^d − 1 − d, which is never negative: twice the KL of two Gaussians that differ by d
/// in ln σ² alone.
fn excess(d: f64) -> f64 {
    if d.is_infinite() {
        f64::INFINITY
    } else if d.abs() < 0.01 {
        // The difference below would cancel to d/2 of its terms; d⁸/8! is below rounding.
        let series = [7.0, 6.0, 5.0, 4.0, 3.0];
        d * d / 2.0 * series.into_iter().fold(1.0, |sum, n| 1.0 + d / n * sum)
    } else {
        d.exp_m1() - d
    }
}

/// weight·shift², and 0 for no shift even where the weight is ∞.
fn weighted_square(weight: f64, shift: f64) -> f64 {
    if shift == 0.0 {
        0.0
    } else {
        weight * shift * shift
    }
}
