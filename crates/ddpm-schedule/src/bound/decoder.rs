//! The probability that a Gaussian gives to a value of 8 bits.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::Gaussian;

/// From here on Mills' ratio is a continued fraction, which 25 terms give to 2⁻⁵³.
const FAR: f64 = 5.0;
const TERMS: u32 = 25;

/// L₀ = −ln p(x₀ | x₁) in nats, for x₀ = 2·`pixel`/255 − 1: the share of `decoder` within
/// x₀ ± 1/255, and beyond for the two ends, 0 reaching to −∞ and 255 to ∞
/// (Ho et al. 2020, eq. 13).
///
/// The mean of the decoder is x̂₀, to which the posterior's mean comes at t = 1.
///
/// Finite deep inside a tail as well, where the probability itself underflows. The error
/// is below 10⁻¹⁴ of the result plus 10⁻¹³·max(1, σ) nats.
pub fn decoder_nll(pixel: u8, decoder: Gaussian) -> f64 {
    let sigma = (0.5 * decoder.log_variance).exp();
    let edge = |odd: f64| (odd / 255.0 - decoder.mean) / sigma;
    let lo = match pixel {
        u8::MIN => f64::NEG_INFINITY,
        k => edge(2.0 * f64::from(k) - 256.0),
    };
    let hi = match pixel {
        u8::MAX => f64::INFINITY,
        k => edge(2.0 * f64::from(k) - 254.0),
    };
    // A minus in front of ln 1 = 0 would show.
    0.0 - log_probability(lo, hi, 2.0 / 255.0 / sigma)
}

/// ln(Φ(hi) − Φ(lo)), where hi = lo + width unless one of them is infinite.
fn log_probability(lo: f64, hi: f64, width: f64) -> f64 {
    if lo + hi < 0.0 {
        return log_probability(-hi, -lo, width);
    }
    if lo <= 0.0 {
        let erf = |z: f64| libm::erf(z * FRAC_1_SQRT_2);
        return (0.5 * (erf(hi) - erf(lo))).ln();
    }
    // With φ the density and R = (1−Φ)/φ Mills' ratio, Φ(hi) − Φ(lo) is
    // φ(lo)·(R(lo) − φ(hi)/φ(lo)·R(hi)), and only φ(lo) can underflow.
    let log_density = -0.5 * (lo * lo + (2.0 * PI).ln());
    let rest = if hi.is_finite() {
        (-width * (lo + 0.5 * width)).exp() * mills_ratio(hi)
    } else {
        0.0
    };
    log_density + (mills_ratio(lo) - rest).ln()
}

/// (1 − Φ(z))/φ(z) for z > 0.
fn mills_ratio(z: f64) -> f64 {
    if z < FAR {
        (0.5 * PI).sqrt() * (0.5 * z * z).exp() * libm::erfc(z * FRAC_1_SQRT_2)
    } else {
        // Laplace: 1/(z + 1/(z + 2/(z + 3/(z + …)))).
        let fraction = (1..=TERMS).rev().map(f64::from);
        fraction.fold(z, |tail, k| z + k / tail).recip()
    }
}
