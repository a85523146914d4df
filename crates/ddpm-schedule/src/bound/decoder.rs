//! The probability that a Gaussian assigns to a quantized value.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::Gaussian;

/// From here on Mills' ratio is a continued fraction; 25 terms are exact to 2⁻⁵³.
const TAIL: f64 = 5.0;
const TAIL_TERMS: u32 = 25;

/// L₀ = −ln p(x₀ | x₁) in nats for x₀ = 2·`value`/`max` − 1, a value of 0..=`max`: the probability
/// of x₀ ± 1/`max` under `decoder`, where the bin of 0 extends to −∞ and that of `max` to ∞ (Ho et
/// al. 2020, eq. 13, with `max` 255). A value above `max` counts as `max`.
///
/// The decoder's mean is x̂₀, which is the posterior's mean at t = 1.
///
/// The result is finite even where the probability underflows. Its error is below 10⁻¹⁴ of the
/// result plus 10⁻¹³·max(1, σ) nats.
pub fn decoder_nll(value: u32, max: u32, decoder: Gaussian) -> f64 {
    let sigma = (0.5 * decoder.log_variance).exp();
    let value = value.min(max);
    let (k, white) = (f64::from(value), f64::from(max));
    // A bin edge is a ratio of whole numbers; the ends of the range are −1 and 1.
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
    // Avoids −0 for ln 1.
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
    if z < TAIL {
        (0.5 * PI).sqrt() * (0.5 * z * z).exp() * libm::erfc(z * FRAC_1_SQRT_2)
    } else {
        // Laplace: 1/(z + 1/(z + 2/(z + 3/(z + …)))).
        let fraction = (1..=TAIL_TERMS).rev().map(f64::from);
        fraction.fold(z, |tail, k| z + k / tail).recip()
    }
}
