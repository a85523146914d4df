//! Quantiles of the normal and the Beta distribution.

use std::f64::consts::{SQRT_2, TAU};

/// The x with Φ(x) = `p`, for 0 ≤ p ≤ 1.
///
/// Halley's method on Φ(x) − p, from a start with an error of at most 4.5·10⁻⁴ (Abramowitz & Stegun
/// 1964, eq. 26.2.23). Each iteration triples the digits.
pub(crate) fn normal(p: f64) -> f64 {
    if p > 0.5 {
        // The lower tail, where Φ keeps its digits.
        return -normal(1.0 - p);
    }
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    let r = (-2.0 * p.ln()).sqrt();
    let above = 2.515_517 + r * (0.802_853 + r * 0.010_328);
    let below = 1.0 + r * (1.432_788 + r * (0.189_269 + r * 0.001_308));
    (0..2).fold(above / below - r, |x, _| {
        let cdf = 0.5 * libm::erfc(-x / SQRT_2);
        // Φ″/Φ′ = −x.
        let newton = (cdf - p) * TAU.sqrt() * (0.5 * x * x).exp();
        x - newton / (1.0 + 0.5 * x * newton)
    })
}

/// The x with I_x(a, b) = `p`, for 0 ≤ p ≤ 1, by bisection.
///
/// For a = b the median is exactly ½, because grids round times near it.
pub(crate) fn beta(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    if p <= low || p >= high {
        return p;
    }
    if p == 0.5 && a == b {
        return 0.5;
    }
    // At most the number of halvings from 1 to the smallest normal number.
    for _ in 0..1100 {
        let x = 0.5 * (low + high);
        if x <= low || x >= high {
            break;
        }
        if incomplete_beta(x, a, b) < p {
            low = x;
        } else {
            high = x;
        }
    }
    0.5 * (low + high)
}

/// I_x(a, b), the distribution function of Beta(a, b), for 0 < x < 1.
///
/// I_x(a, b) = xᵃ(1−x)ᵇ/(a·B(a, b)) · 1/(1 + d₁/(1 + d₂/(1 + …))) (DLMF, eq. 8.17.22). The
/// fraction converges fast below the mean; above it, I_x(a, b) = 1 − I_{1−x}(b, a).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let ln_beta = libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b);
    let front = (a * x.ln() + b * (-x).ln_1p() - ln_beta).exp() / a;
    // From the innermost term outwards; 200 terms suffice for all a, b ≤ 10⁴.
    let fraction = (1..=200).rev().fold(1.0, |fraction, n| {
        let m = f64::from(n / 2);
        let d = if n % 2 == 0 {
            m * (b - m) / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        1.0 + d * x / fraction
    });
    front / fraction
}
