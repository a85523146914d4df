//! The variational bound on −ln p(x₀), term by term, for one coordinate, in nats.
//!
//! −ln p(x₀) ≤ L_T + Σ_{t=2}^T L_{t−1} + L₀ (Ho et al. 2020, eq. 5). All Gaussians here have
//! covariances that are multiples of I, so that a row's terms are sums over its coordinates.

use crate::NoiseLevel;

/// KL(N(m, v) ‖ N(m', v')) = ½·(ln(v'/v) + (v + (m − m')²)/v' − 1).
///
/// `0` for equal Gaussians, ∞ where v is 0 and v' is not; both variances must not be negative.
pub fn gaussian_kl([m, v]: [f64; 2], [m2, v2]: [f64; 2]) -> f64 {
    let ratio = v / v2;
    // r − 1 − ln r, which loses its digits at r ≈ 1 when written so.
    let spread = if (ratio - 1.0).abs() < 1e-4 {
        let d = ratio - 1.0;
        d * d * (0.5 - d * (1.0 / 3.0 - d * 0.25))
    } else {
        ratio - 1.0 - ratio.ln()
    };
    0.5 * (spread + (m - m2).powi(2) / v2)
}

impl NoiseLevel {
    /// L_T: KL(q(x_T | x₀) ‖ N(0, prior²)), with the [`prior_std`](Self::prior_std) a reverse
    /// process starts from; this level is that of T.
    pub fn prior_kl(self, x0: f64) -> f64 {
        let (mean, variance) = (self.signal() * x0, self.noise().powi(2));
        gaussian_kl([mean, variance], [0.0, self.prior_std().powi(2)])
    }

    /// L_{t−1}: KL(q(x_s | x_t, x₀) ‖ q(x_s | x_t, x̂₀)) = ½·(SNR_s − SNR_t)·(x₀ − x̂₀)², x_t of this
    /// level and x_s of the level `s` (Kingma et al. 2021, eq. 13). `error` is x₀ − x̂₀.
    ///
    /// ∞ for `s` clean, where the [`decoder`](Self::decoder) takes its place.
    ///
    /// # Panics
    ///
    /// Unless `s` is less noisy: SNR(s) > SNR(t).
    pub fn step_kl(self, s: Self, error: f64) -> f64 {
        // SNR_s − SNR_t = −SNR_s·expm1(λ_t − λ_s).
        -0.5 * s.snr() * self.delta(s).exp_m1() * error * error
    }

    /// L₀'s p(x₀ | x₁), x₁ of this level: the discretized N(x̂₀, b₁²) of Ho et al. 2020, §3.3; in DDPM
    /// b₁² is β₁. `half_bin` as in [`Discretized`].
    pub fn decoder(self, x0_hat: f64, half_bin: f64) -> Discretized {
        Discretized {
            mean: x0_hat,
            std: self.noise(),
            half_bin,
        }
    }
}

/// A Gaussian whose values are the centres of bins: of an 8-bit picture in [−1, 1], 256 of them,
/// 2/255 apart. The first and the last bin are open.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Discretized {
    /// μ.
    pub mean: f64,
    /// σ > 0.
    pub std: f64,
    /// Half the distance of neighbouring centres: 1/255.
    pub half_bin: f64,
}

impl Discretized {
    /// ln P(x₀) = ln(Φ((x₀ + δ − μ)/σ) − Φ((x₀ − δ − μ)/σ)), for the centre `x0` of a bin
    /// (Ho et al. 2020, eq. 13); finite however far away, to about 1e-11 relative.
    pub fn ln_probability(&self, x0: f64) -> f64 {
        let (low, high) = (x0 - self.half_bin, x0 + self.half_bin);
        let z = |edge: f64| (edge - self.mean) / self.std;
        // Bins beyond the ends would be none: the outermost hold all that lies there.
        let first = low <= -1.0;
        let last = high >= 1.0;
        match (first, last) {
            (true, true) => 0.0,
            (true, false) => ln_upper_tail(-z(high)),
            (false, true) => ln_upper_tail(z(low)),
            // On the side where tails are small, so that nothing cancels.
            (false, false) if z(low) > 0.0 => ln_difference(z(low), z(high)),
            (false, false) => ln_difference(-z(high), -z(low)),
        }
    }
}

/// ln(Q(a) − Q(b)) for a < b, Q the upper tail.
fn ln_difference(a: f64, b: f64) -> f64 {
    let (a, b) = (ln_upper_tail(a), ln_upper_tail(b));
    a + (-(b - a).exp()).ln_1p()
}

/// ln Q(z) = ln(½·erfc(z/√2)); beyond z = 25 by its continued fraction, where erfc soon underflows.
fn ln_upper_tail(z: f64) -> f64 {
    if z < 25.0 {
        return (0.5 * libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2)).ln();
    }
    // Q(z) = φ(z)/(z + 1/(z + 2/(z + 3/(z + …)))) (Laplace): eight levels at z ≥ 25 are exact.
    let fraction = (1..=8).rev().fold(z, |rest, k| z + f64::from(k) / rest);
    -0.5 * z * z - 0.5 * std::f64::consts::TAU.ln() - fraction.ln()
}
