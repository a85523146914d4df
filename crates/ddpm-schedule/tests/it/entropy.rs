//! The variational bound against the entropy of the data.

use ddpm_schedule::bound::{prior_kl, snr_kl};
use ddpm_schedule::{NoiseLevel, NoiseSchedule};

/// For Gaussian data N(m, s²) and its ideal denoiser all terms are known. By the chain rule of
/// entropies, the bound exceeds the entropy by the divergence of the true reverse process from the
/// model's, step by step. The true q(x_s | x_t) is Gaussian too, with the model's mean and a
/// variance that exceeds β̃ by the uncertainty of x₀.
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
