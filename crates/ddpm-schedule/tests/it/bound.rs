//! The terms of the variational bound.

use ddpm_schedule::{Discretized, NoiseLevel, NoiseSchedule, gaussian_kl};
use proptest::prelude::*;

/// ∫ p ln(p/q) by the trapezoidal rule over ±12 standard deviations of p: for Gaussians exact to
/// rounding of terms of size (m − m')²/v' ≤ 1e3.
#[test]
fn the_divergence_of_gaussians_by_quadrature() {
    for (p, q) in [
        ([0.0, 1.0], [0.0, 1.0]),
        ([1.0, 2.0], [-0.5, 0.3]),
        ([0.2, 0.01], [0.3, 4.0]),
        ([0.0, 1.0], [0.0, 1.0 + 1e-6]),
    ] {
        let ln = |x: f64, [m, v]: [f64; 2]| {
            -(x - m).powi(2) / (2.0 * v) - 0.5 * (std::f64::consts::TAU * v).ln()
        };
        let step = 1e-3 * f64::sqrt(p[1]);
        let integral: f64 = (-12_000..=12_000)
            .map(|i| p[0] + f64::from(i) * step)
            .map(|x| step * ln(x, p).exp() * (ln(x, p) - ln(x, q)))
            .sum();
        let found = gaussian_kl(p, q);
        assert!(
            (found - integral).abs() < 1e-12 * found.max(1.0),
            "{p:?} {q:?}: {found} {integral}"
        );
    }
    assert_eq!(gaussian_kl([3.0, 2.0], [3.0, 2.0]), 0.0);
    assert_eq!(gaussian_kl([0.0, 0.0], [0.0, 1.0]), f64::INFINITY);
    // ¼·d² at a relative difference d, where the formula as written has no digits left.
    let found = gaussian_kl([0.0, 1.0 + 1e-9], [0.0, 1.0]);
    assert!((found / 0.25e-18 - 1.0).abs() < 1e-6, "{found}");
}

proptest! {
    /// L_{t−1} from the two posteriors, and from the difference of SNRs. The first subtracts means,
    /// so it keeps the digits of x₀ − x̂₀ only; both are taken where these are of size 1.
    #[test]
    fn a_step_is_the_divergence_of_its_posteriors(
        ln_alpha_bar_s in -8.0..-1e-4_f64,
        step in 1e-4..4.0_f64,
        x0 in -1.0..1.0_f64,
        x0_hat in 1.5..3.0_f64,
        x_t in -3.0..3.0_f64,
    ) {
        let s = NoiseLevel::from_ln_alpha_bar(ln_alpha_bar_s).unwrap();
        let t = NoiseLevel::from_ln_alpha_bar(ln_alpha_bar_s - step).unwrap();
        let q = t.posterior(s);
        let mean = |x0: f64| q.x0 * x0 + q.x_t * x_t;
        let both = gaussian_kl([mean(x0), q.variance], [mean(x0_hat), q.variance]);
        let found = t.step_kl(s, x0 - x0_hat);
        // Means of size 3 rounded to 2e-16, their difference q.x0·(x₀ − x̂₀), squared.
        let tolerance = 1e-10 + 1e-14 / q.x0;
        prop_assert!((found / both - 1.0).abs() < tolerance, "{} {}", found, both);
    }

    /// What a discretized Gaussian says of all bins together is 1.
    #[test]
    fn the_bins_share_all_probability(mean in -1.5..1.5_f64, ln_std in -6.0..1.0_f64, bins in 2..300_u32) {
        let half_bin = 1.0 / f64::from(bins - 1);
        let decoder = Discretized { mean, std: ln_std.exp(), half_bin };
        let sum: f64 = (0..bins)
            .map(|i| decoder.ln_probability(2.0 * half_bin * f64::from(i) - 1.0).exp())
            .sum();
        prop_assert!((sum - 1.0).abs() < 1e-10, "{}", sum);
    }
}

/// (μ, σ, x₀, ln P)
const BINS: [(f64, f64, f64, f64); 8] = [
    (0.1, 0.05, 0.11, -2.792_306_474_672_9),
    (0.0, 0.01, 0.9, -4_020.197_281_740_8),
    (-0.3, 0.004, 0.7, -31_011.819_031_473),
    (0.2, 1.5, -0.4, -6.252_520_962_807_9),
    (0.5, 0.2, 1.0, -5.026_475_416_015_5),
    (0.9, 0.01, -1.0, -17_981.731_013_883),
    (-2.0, 0.003, 1.0, -498_701.490_216_54),
    (0.0, 0.02, -0.5, -311.748_876_116_02),
];

/// Against mpmath with 60 digits: ln(Φ(b) − Φ(a)) near the mean, far from it, beyond where erfc
/// underflows, and at the open ends.
#[test]
fn bins_near_and_far() {
    for (mean, std, x0, expected) in BINS {
        let decoder = Discretized {
            mean,
            std,
            half_bin: 1.0 / 255.0,
        };
        let found = decoder.ln_probability(x0);
        assert!(
            (found / expected - 1.0).abs() < 1e-10,
            "{mean} {std} {x0}: {found} {expected}"
        );
    }
}

/// By hand: KL(N(0.6·x₀, 0.64) ‖ N(0, 1)) at x₀ = 0.5.
#[test]
fn the_prior_term() {
    let level = NoiseLevel::variance_preserving(0.36).unwrap();
    let expected = 0.5 * (-0.64_f64.ln() + 0.64 + 0.09 - 1.0);
    assert!((level.prior_kl(0.5) - expected).abs() < 1e-15);
}

/// For Gaussian data N(m, s²) and its ideal denoiser everything is known: by the chain rule of
/// entropies, what the bound exceeds the entropy by is the divergence of the true reverse process
/// from the model's, step by step. The true q(x_s | x_t) is Gaussian too, with the mean of the
/// model, and a variance larger than β̃ by what is not known of x₀.
///
/// Sums of 1000 terms below 10⁵: 1e-9.
#[test]
fn the_bound_exceeds_the_entropy_by_the_divergence_of_the_reverse_processes() {
    let (m, s2) = (0.1_f64, 0.04);
    let entropy = 0.5 * (std::f64::consts::TAU * std::f64::consts::E * s2).ln();
    for schedule in [
        NoiseSchedule::cosine(1000, 0.008).unwrap(),
        NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap(),
        NoiseSchedule::random_walk(300, 0.05).unwrap(),
        NoiseSchedule::linear(1, 0.5, 0.5).unwrap(),
    ] {
        // Var(x₀ | x_t), which is also E(x₀ − x̂₀)².
        let unknown = |level: NoiseLevel| {
            let (a2, b2) = (level.alpha_bar(), level.noise().powi(2));
            s2 * b2 / (a2 * s2 + b2)
        };
        let last = schedule.level(schedule.last());
        let first = schedule.level(schedule.iter().next().unwrap());
        let b2 = first.noise().powi(2);
        // L_T is quadratic in x₀: its expectation is its value at x₀² = E x₀².
        let mut bound = last.prior_kl((m * m + s2).sqrt());
        // −E ln N(x₀; x̂₀, b₁²), the decoder where bins are narrow.
        bound += 0.5 * (std::f64::consts::TAU * b2).ln() + unknown(first) / (2.0 * b2);
        let divergence = |ratio: f64| 0.5 * (ratio - 1.0 - ratio.ln());
        let width = last.prior_std().powi(2);
        let marginal = last.alpha_bar() * s2 + last.noise().powi(2);
        let mut gap = divergence(marginal / width) + last.alpha_bar() * m * m / (2.0 * width);
        gap += divergence(unknown(first) / b2);
        for t in schedule.iter().skip(1) {
            let (level, s) = (schedule.level(t), schedule.previous(t));
            bound += level.step_kl(s, unknown(level).sqrt());
            let q = level.posterior(s);
            gap += divergence(1.0 + q.x0 * q.x0 * unknown(level) / q.variance);
        }
        let off = bound - entropy - gap;
        assert!(
            off.abs() < 1e-9 && gap > 0.0,
            "{bound} − {entropy} is not {gap}: {off}"
        );
    }
}
