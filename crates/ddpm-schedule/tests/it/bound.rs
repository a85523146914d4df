//! The terms of the bound, against integrals, the papers' formulas, and the entropy of data for
//! which the bound is tight.

use std::f64::consts::{E, LN_2, PI};

use ddpm_schedule::bound::{
    Gaussian, bits, decoder_nll, model_kl, posterior_kl, prior_kl, snr_kl, snr_weight,
};
use ddpm_schedule::{LearnedVariance, NoiseLevel, NoiseSchedule};
use proptest::prelude::*;

use crate::cases::{chain, rounding};
use crate::{assert_close, assert_relative, levels};

fn gaussian(mean: f64, variance: f64) -> Gaussian {
    Gaussian {
        mean,
        log_variance: variance.ln(),
    }
}

/// ln of the density at x.
fn log_density(gaussian: Gaussian, x: f64) -> f64 {
    let variance = gaussian.log_variance.exp();
    -0.5 * ((x - gaussian.mean).powi(2) / variance + (2.0 * PI * variance).ln())
}

/// ∫ q ln(q/p) by the trapezoidal rule, which converges faster than any power for an analytic
/// function that vanishes at both ends: with 4000 intervals over ±12σ only rounding is left.
#[test]
fn a_divergence_is_its_integral() {
    for (q, p) in [
        (gaussian(0.0, 1.0), gaussian(0.0, 1.0)),
        (gaussian(0.3, 1.0), gaussian(-0.2, 1.0)),
        (gaussian(0.3, 0.04), gaussian(0.1, 0.09)),
        (gaussian(-2.0, 9.0), gaussian(1.0, 0.5)),
        (gaussian(0.0, 1.0), gaussian(0.0, 1.001)),
        (gaussian(0.0, 1.02), gaussian(0.0, 1.0)),
    ] {
        let deviation = (0.5 * q.log_variance).exp();
        let dx = 24.0 * deviation / 4000.0;
        let integral: f64 = (0..=4000)
            .map(|i| q.mean - 12.0 * deviation + f64::from(i) * dx)
            .map(|x| log_density(q, x).exp() * (log_density(q, x) - log_density(p, x)) * dx)
            .sum();
        assert_close(q.kl(p), integral, 1e-13 * integral.max(1.0));
    }
}

/// ½(e^d − 1 − d) for d = 10⁻⁸, 0.0099 and 0.0101 from its Taylor series, where the
/// difference as written keeps 0 and 14 digits.
#[test]
fn divergences_of_near_equals_keep_their_digits() {
    for (d, expected) in [
        (1e-8, 2.500_000_008_333_333e-17),
        (-1e-8, 2.499_999_991_666_667e-17),
        (0.0099, 2.458_355_877_106_934e-5),
        (0.0101, 2.558_857_564_782_784e-5),
    ] {
        let [q, p] = [d, 0.0].map(|log_variance| Gaussian {
            mean: 0.7,
            log_variance,
        });
        let tolerance = if f64::abs(d) < 0.01 { 1e-14 } else { 1e-13 };
        assert_relative(q.kl(p), expected, tolerance);
    }
}

#[test]
fn the_divergence_of_a_point_mass_is_infinite() {
    let [here, there] = [0.0, 1.0].map(|mean| gaussian(mean, 0.0));
    assert_eq!(here.kl(here), 0.0);
    for (q, p) in [
        (here, there),
        (here, gaussian(0.0, 1.0)),
        (gaussian(0.0, 1.0), here),
    ] {
        assert_eq!(q.kl(p), f64::INFINITY);
    }
}

#[test]
fn the_prior_term_is_zero_for_pure_noise_and_infinite_for_clean_data() {
    let noise = NoiseLevel::variance_preserving(0.0).unwrap();
    assert_eq!(prior_kl(0.7, noise), 0.0);
    assert_eq!(prior_kl(0.7, NoiseLevel::CLEAN), f64::INFINITY);
}

#[test]
fn the_step_to_clean_data_is_left_to_the_decoder() {
    let t = NoiseLevel::variance_preserving(0.9).unwrap();
    assert_eq!(snr_weight(t, NoiseLevel::CLEAN), f64::INFINITY);
    for term in [snr_kl, posterior_kl] {
        assert_eq!(term(0.5, 0.4, t, NoiseLevel::CLEAN), f64::INFINITY);
        assert_eq!(term(0.5, 0.5, t, NoiseLevel::CLEAN), 0.0);
    }
}

/// Ho et al. 2020: before training, a uniform guess at a pixel costs 8 bits.
#[test]
fn an_uninformed_pixel_costs_eight_bits() {
    assert_relative(bits(256_f64.ln()), 8.0, 1e-15);
    assert_eq!(bits(LN_2), 1.0);
}

#[test]
fn a_value_above_the_largest_counts_as_the_largest() {
    let decoder = gaussian(0.5, 0.1);
    let largest = decoder_nll(255, 255, decoder);
    assert_eq!(decoder_nll(300, 255, decoder), largest);
}

/// A decoder much narrower than a bin, in its middle, has the probability 1. One much wider gives a
/// bin its density times its width.
#[test]
fn narrow_and_wide_decoders_have_their_limits() {
    let middle = |pixel: u8| 2.0 * f64::from(pixel) / 255.0 - 1.0;
    for pixel in [0, 1, 77, 254, 255] {
        assert_eq!(
            decoder_nll(u32::from(pixel), 255, gaussian(middle(pixel), 1e-8)),
            0.0
        );
        assert_eq!(
            decoder_nll(u32::from(pixel), 255, gaussian(middle(pixel), 0.0)),
            0.0
        );
    }
    assert_eq!(decoder_nll(3, 255, gaussian(0.5, 0.0)), f64::INFINITY);
    let wide = gaussian(0.2, 4.0);
    let density = -log_density(wide, middle(77)) - (2.0_f64 / 255.0).ln();
    // The density bends by w²/24 over a bin of w = 2/(255·2) standard deviations.
    assert_close(decoder_nll(77, 255, wide), density, 1e-6);
}

/// Data N(m, v), x̂₀ = E[x₀ | x_t] with its mean squared error, and reverse steps with the variance
/// of q(x_s | x_t): the model is then the reversed process, and the bound is the entropy plus the
/// divergence of q(x_T) from the prior.
#[test]
fn the_bound_of_gaussian_data_is_its_entropy() {
    let data = gaussian(0.4, 0.3);
    let variance = data.log_variance.exp();
    for schedule in [
        NoiseSchedule::linear(1000, 1e-4, 0.02),
        NoiseSchedule::cosine(50, 0.008),
        NoiseSchedule::random_walk(20, 0.4),
    ] {
        let schedule = schedule.unwrap();
        let moments = |t: NoiseLevel| {
            let (a, b) = (t.signal(), t.noise());
            gaussian(a * data.mean, a * a * variance + b * b)
        };
        // E(x₀ − x̂₀)².
        let error = |t: NoiseLevel| variance * t.noise().powi(2) / moments(t).log_variance.exp();
        let last = schedule.level(schedule.last());

        // The terms are quadratic in x₀ and in x₀ − x̂₀: their means are those of the squares.
        let mut bound = prior_kl((data.mean.powi(2) + variance).sqrt(), last);
        for t in schedule.iter().skip(1) {
            let (t, s) = (schedule.level(t), schedule.previous(t));
            let posterior = t.posterior(s);
            let log_variance = (posterior.variance + posterior.x0.powi(2) * error(t)).ln();
            bound += model_kl(0.0, error(t).sqrt(), log_variance, t, s);
        }
        // The decoder's density, N(x̂₀, E(x₀ − x̂₀)²): its mean −ln is its own entropy.
        let entropy = |variance: f64| 0.5 * (2.0 * PI * E * variance).ln();
        bound += entropy(error(schedule.level(schedule.iter().next().unwrap())));

        let prior = gaussian(0.0, last.prior_std().powi(2));
        let expected = entropy(variance) + moments(last).kl(prior);
        // A thousand terms, each with a relative error of 10⁻¹¹: Δ is at least 10⁻³.
        assert_close(bound, expected, 1e-11);
    }
}

proptest! {
    /// Both forms of the term, for every step of every process.
    #[test]
    fn each_divergence_is_a_difference_of_snr(
        chain in chain(),
        x0 in -1.0..=1.0,
        x0_hat in -3.0..=3.0,
    ) {
        let schedule = chain.schedule();
        for t in schedule.iter().skip(1) {
            let (t, s) = (schedule.level(t), schedule.previous(t));
            let (snr, gaussians) = (snr_kl(x0, x0_hat, t, s), posterior_kl(x0, x0_hat, t, s));
            // Both come from the same Δ; they differ in the exponential of λ, |λ| < 600.
            assert_relative(gaussians, snr, 1e-12);
            // Here the difference is computed as one.
            let weight = 0.5 * (s.snr() - t.snr());
            assert_relative(snr, weight * (x0 - x0_hat).powi(2), rounding(t, s));
        }
    }

    /// Ho et al. 2020, eq. 7 and 8 by α and ᾱ for the whole of μ̃, including x_t, with a variance
    /// between β̃ and β, or beyond.
    #[test]
    fn a_models_divergence_is_that_of_the_papers_gaussians(
        beta in 1e-3..0.9,
        alpha_bar_s in 0.01..0.99,
        output in -1.5..1.5,
        [x0, x0_hat, x_t] in [-1.0..=1.0, -2.0..=2.0, -3.0..=3.0],
    ) {
        let alpha_bar_t = (1.0 - beta) * alpha_bar_s;
        let [t, s] = [alpha_bar_t, alpha_bar_s].map(|a| NoiseLevel::variance_preserving(a).unwrap());
        let mean = |x0: f64| {
            f64::sqrt(alpha_bar_s) * beta / (1.0 - alpha_bar_t) * x0
                + f64::sqrt(1.0 - beta) * (1.0 - alpha_bar_s) / (1.0 - alpha_bar_t) * x_t
        };
        let beta_tilde = (1.0 - alpha_bar_s) / (1.0 - alpha_bar_t) * beta;
        let v = 0.5 * (output + 1.0);
        let variance = f64::powf(beta, v) * f64::powf(beta_tilde, 1.0 - v);

        let truth = gaussian(mean(x0), beta_tilde);
        let expected = truth.kl(gaussian(mean(x0_hat), variance));
        let log_variance = LearnedVariance::between(t, s).log_variance(output);
        let found = model_kl(x0, x0_hat, log_variance, t, s);
        // The means may differ by as little as rounding; their squares are divided by a variance of
        // at least 10⁻⁵.
        assert_close(found, expected, 1e-10 * (1.0 + expected));
    }

    /// The prior term is the KL from q(x_T | x₀) to N(0, a² + b²), written out.
    #[test]
    fn the_prior_term_is_a_divergence([t] in levels(), x0 in -3.0..3.0) {
        let marginal = gaussian(t.signal() * x0, t.noise().powi(2));
        let expected = marginal.kl(gaussian(0.0, t.prior_std().powi(2)));
        // The ratio of the variances has the rounding error |λ|·2⁻⁵².
        assert_close(prior_kl(x0, t), expected, 1e-13 * (1.0 + expected));
    }

    /// The 256 bins cover the real line.
    #[test]
    fn the_probabilities_of_the_bins_sum_to_one(mean in -3.0..3.0, log_variance in -16.0..2.0) {
        let decoder = Gaussian { mean, log_variance };
        let sum: f64 = (0..=u8::MAX).map(|pixel| (-decoder_nll(u32::from(pixel), 255, decoder)).exp()).sum();
        // If an end bin has all of the probability, and its edge is far in a tail, the exponent
        // rounds: 10⁻¹³ at |x − μ|/σ = 4000 times a negligible probability. The others round 256
        // times.
        assert_close(sum, 1.0, 1e-12);
    }

    /// The mirror image of a pixel under the mirror image of the decoder is as likely.
    #[test]
    fn the_decoder_is_symmetric(pixel: u8, mean in -3.0..3.0, log_variance in -16.0..2.0) {
        let right = decoder_nll(u32::from(pixel), 255, Gaussian { mean, log_variance });
        let left = decoder_nll(u32::from(u8::MAX - pixel), 255, Gaussian { mean: -mean, log_variance });
        assert_eq!(right, left);
    }
}
