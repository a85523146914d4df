//! The probability that a Gaussian gives to a value of so many bits.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::Gaussian;

/// From here on Mills' ratio is a continued fraction, which 25 terms give to 2⁻⁵³.
const FAR: f64 = 5.0;
const TERMS: u32 = 25;

/// L₀ = −ln p(x₀ | x₁) in nats, for x₀ = 2·`value`/`max` − 1, a value of 0..=`max`: the share of
/// `decoder` within x₀ ± 1/`max`, and beyond for the two ends, 0 reaching to −∞ and `max` to ∞
/// (Ho et al. 2020, eq. 13, where `max` is 255). A value above `max` is taken for it.
///
/// The mean of the decoder is x̂₀, to which the posterior's mean comes at t = 1.
///
/// Finite deep inside a tail as well, where the probability itself underflows. The error
/// is below 10⁻¹⁴ of the result plus 10⁻¹³·max(1, σ) nats.
pub fn decoder_nll(value: u32, max: u32, decoder: Gaussian) -> f64 {
    let sigma = (0.5 * decoder.log_variance).exp();
    let (k, white) = (f64::from(value), f64::from(max));
    // The edge is a ratio of whole numbers, −1 and 1 for the ends of the range.
    let edge = |whole: f64| (whole / white - decoder.mean) / sigma;
    let lo = match value {
        0 => f64::NEG_INFINITY,
        _ => edge(2.0 * k - 1.0 - white),
    };
    let hi = if value < max {
        edge(2.0 * k + 1.0 - white)
    } else {
        f64::INFINITY
    };
    // A minus in front of ln 1 = 0 would show.
    0.0 - log_probability(lo, hi, 2.0 / white / sigma)
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
