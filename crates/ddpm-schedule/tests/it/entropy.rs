//! The bound against integrals, and against the entropy it bounds.

use ddpm_schedule::bound::{Gaussian, prior_kl, snr_kl};
use ddpm_schedule::{NoiseLevel, NoiseSchedule};

fn kl(p: [f64; 2], q: [f64; 2]) -> f64 {
    let [p, q] = [p, q].map(|[mean, variance]| Gaussian {
        mean,
        log_variance: variance.ln(),
    });
    p.kl(q)
}

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
        let found = kl(p, q);
        assert!(
            (found - integral).abs() < 1e-12 * found.max(1.0),
            "{p:?} {q:?}: {found} {integral}"
        );
    }
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
        let mut bound = prior_kl((m * m + s2).sqrt(), last);
        // −E ln N(x₀; x̂₀, b₁²), the decoder where bins are narrow.
        bound += 0.5 * (std::f64::consts::TAU * b2).ln() + unknown(first) / (2.0 * b2);
        let divergence = |ratio: f64| 0.5 * (ratio - 1.0 - ratio.ln());
        let width = last.prior_std().powi(2);
        let marginal = last.alpha_bar() * s2 + last.noise().powi(2);
        let mut gap = divergence(marginal / width) + last.alpha_bar() * m * m / (2.0 * width);
        gap += divergence(unknown(first) / b2);
        for t in schedule.iter().skip(1) {
            let (level, s) = (schedule.level(t), schedule.previous(t));
            bound += snr_kl(unknown(level).sqrt(), 0.0, level, s);
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
