//! Levels, and the Gaussians of a pair of levels.

use std::f64::consts::FRAC_1_SQRT_2;

use ddpm_schedule::NoiseLevel;
use proptest::prelude::*;

use crate::{assert_close, assert_relative, levels};

/// Room for the rounding of ln, exp and λ, |λ| < 20: some tens of 2⁻⁵².
const ROUNDING: f64 = 1e-13;
/// The same divided by the smallest |Δ| that `levels` draws.
const ROUNDING_OVER_DELTA: f64 = 1e-10;

#[test]
fn each_process_has_its_signal_and_noise() {
    let cases = [
        (NoiseLevel::variance_preserving(0.36), 0.6, 0.8),
        (NoiseLevel::variance_preserving(0.0), 0.0, 1.0),
        (NoiseLevel::variance_preserving(1.0), 1.0, 0.0),
        (NoiseLevel::from_ln_alpha_bar(f64::NEG_INFINITY), 0.0, 1.0),
        (
            NoiseLevel::from_ln_alpha_bar(-(2_f64.ln())),
            FRAC_1_SQRT_2,
            FRAC_1_SQRT_2,
        ),
        (NoiseLevel::variance_exploding(80.0), 1.0, 80.0),
        (NoiseLevel::rectified_flow(0.25), 0.75, 0.25),
        (NoiseLevel::rectified_flow(1.0), 0.0, 1.0),
        (NoiseLevel::new(3.0, 4.0), 3.0, 4.0),
    ];
    for (level, a, b) in cases {
        let level = level.unwrap();
        assert_relative(level.signal(), a, ROUNDING);
        assert_relative(level.noise(), b, ROUNDING);
        assert_relative(level.alpha_bar(), a * a, ROUNDING);
        assert_relative(level.prior_std(), (a * a + b * b).sqrt(), ROUNDING);
        if a > 0.0 && b > 0.0 {
            assert_relative(level.snr(), (a * a) / (b * b), ROUNDING);
            assert_close(level.log_snr(), 2.0 * (a / b).ln(), ROUNDING);
        }
    }
    assert_eq!(NoiseLevel::variance_preserving(1.0), Ok(NoiseLevel::CLEAN));
}

#[test]
fn noise_near_the_data_keeps_its_digits() {
    // Here ᾱ itself is 1 in f64, and 1−ᾱ would be 0; the noise is √10⁻²⁰.
    let level = NoiseLevel::from_ln_alpha_bar(-1e-20).unwrap();
    assert_relative(level.noise(), 1e-10, ROUNDING);
    assert_relative(level.snr(), 1e20, ROUNDING);
}

#[test]
fn clean_and_pure_noise_have_infinite_log_snr() {
    let noise = NoiseLevel::variance_preserving(0.0).unwrap();
    assert_eq!(noise.log_snr(), f64::NEG_INFINITY);
    assert_eq!(noise.snr(), 0.0);
    assert_eq!(NoiseLevel::CLEAN.log_snr(), f64::INFINITY);
}

#[test]
fn clean_data_and_pure_noise_leave_every_coefficient_finite() {
    let noise = NoiseLevel::variance_preserving(0.0).unwrap();
    let middle = NoiseLevel::variance_preserving(0.36).unwrap();

    let transition = middle.transition(NoiseLevel::CLEAN);
    assert_close(transition.signal, 0.6, ROUNDING);
    assert_close(transition.variance, 0.64, ROUNDING);
    let posterior = middle.posterior(NoiseLevel::CLEAN);
    assert_eq!(
        (posterior.x0, posterior.x_t, posterior.variance),
        (1.0, 0.0, 0.0)
    );

    let transition = noise.transition(middle);
    assert_eq!((transition.signal, transition.variance), (0.0, 1.0));
    let posterior = noise.posterior(middle);
    assert_close(posterior.x0, 0.6, ROUNDING);
    assert_eq!(posterior.x_t, 0.0);
    assert_close(posterior.variance, 0.64, ROUNDING);

    let posterior = noise.posterior(NoiseLevel::CLEAN);
    assert_eq!(
        (posterior.x0, posterior.x_t, posterior.variance),
        (1.0, 0.0, 0.0)
    );
}

#[test]
#[should_panic(expected = "a step must lead to a higher log-SNR")]
fn a_transition_from_the_noisier_level_panics() {
    let level = NoiseLevel::variance_exploding(1.0).unwrap();
    NoiseLevel::CLEAN.transition(level);
}

#[test]
#[should_panic(expected = "a step must lead to a higher log-SNR")]
fn a_posterior_of_a_level_with_itself_panics() {
    NoiseLevel::CLEAN.posterior(NoiseLevel::CLEAN);
}

proptest! {
    /// q(x_t | x_s) applied to q(x_s | x₀) is q(x_t | x₀).
    #[test]
    fn a_transition_carries_one_marginal_to_the_next([s, t] in levels()) {
        let step = t.transition(s);
        assert_relative(step.signal * s.signal(), t.signal(), ROUNDING);
        let variance = (step.signal * s.noise()).powi(2) + step.variance;
        assert_relative(variance, t.noise().powi(2), ROUNDING);
    }

    /// The posterior is the product of q(x_s | x₀) and q(x_t | x_s) as functions of x_s:
    /// precisions add, and the mean weighs by precision.
    #[test]
    fn the_posterior_is_bayes_rule([s, t] in levels()) {
        let step = t.transition(s);
        let prior = s.noise().powi(-2);
        let likelihood = step.signal.powi(2) / step.variance;
        let precision = prior + likelihood;
        let posterior = t.posterior(s);
        assert_relative(posterior.variance, precision.recip(), ROUNDING_OVER_DELTA);
        assert_relative(posterior.x0, s.signal() * prior / precision, ROUNDING_OVER_DELTA);
        let x_t = step.signal / step.variance / precision;
        assert_relative(posterior.x_t, x_t, ROUNDING_OVER_DELTA);
    }
}
