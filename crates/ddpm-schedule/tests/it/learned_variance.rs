//! The learned variance between its two fixed ends.

use ddpm_schedule::{LearnedVariance, NoiseLevel, NoiseSchedule};
use proptest::prelude::*;

use crate::cases::{chain, rounding};
use crate::{assert_close, assert_relative};

fn linear(timesteps: u32) -> NoiseSchedule {
    NoiseSchedule::linear(timesteps, 1e-4, 0.02).unwrap()
}

/// At t = 1 of DDPM's schedule, β̃₂ is (1−ᾱ₁)/(1−ᾱ₂)·β₂ with β₁ = 10⁻⁴.
#[test]
fn the_first_step_uses_the_second_posterior_variance() {
    let schedule = linear(1000);
    let first = schedule.learned_variance(schedule.timestep(1).unwrap());
    let beta2 = 1e-4 + (0.02 - 1e-4) / 999.0;
    let beta_tilde2 = 1e-4 / (1.0 - (1.0 - 1e-4) * (1.0 - beta2)) * beta2;
    // ln of a variance that is exact to |λ|·2⁻⁵²/Δ = 10⁻¹⁵/0.8.
    assert_close(first.log_beta, 1e-4_f64.ln(), 1e-12);
    assert_close(first.log_beta_tilde, f64::ln(beta_tilde2), 1e-12);
}

#[test]
fn a_single_step_has_a_single_variance() {
    let schedule = linear(1);
    let only = schedule.learned_variance(schedule.last());
    assert_eq!(only.log_beta, only.log_beta_tilde);
    for output in [-1.0, 0.2, 1.0] {
        assert_close(only.log_variance(output), 1e-4_f64.ln(), 1e-13);
    }
    let clean = LearnedVariance::between(schedule.level(schedule.last()), NoiseLevel::CLEAN);
    assert_eq!(clean, only);
}

/// Nichol & Dhariwal 2021, eq. 15: v = ½ is the geometric mean, and an output beyond
/// the ends extrapolates.
#[test]
fn the_logarithm_is_interpolated() {
    let between = LearnedVariance {
        log_beta: 0.01_f64.ln(),
        log_beta_tilde: 0.0001_f64.ln(),
    };
    for (output, variance) in [(-1.0, 1e-4), (0.0, 1e-3), (1.0, 1e-2), (2.0, 0.1)] {
        assert_relative(between.log_variance(output).exp(), variance, 1e-13);
    }
}

#[test]
fn pure_noise_has_a_finite_range() {
    let schedule = linear(1000).rescale_zero_terminal_snr().unwrap();
    let last = schedule.learned_variance(schedule.last());
    // β_T = 1, and β̃_T = 1 − ᾱ_{T−1}.
    assert_eq!(last.log_beta, 0.0);
    let expected = 2.0 * schedule.previous(schedule.last()).noise().ln();
    assert_close(last.log_beta_tilde, expected, 1e-13);
}

proptest! {
    /// At every t ≥ 2 of every process, the ends are the fixed variances.
    #[test]
    fn the_ends_are_the_fixed_variances(chain in chain()) {
        let schedule = chain.schedule();
        for t in schedule.iter().skip(1) {
            let choice = schedule.learned_variance(t);
            let tolerance = rounding(schedule.level(t), schedule.previous(t));
            assert_relative(choice.log_variance(1.0).exp(), schedule.beta(t), tolerance);
            let beta_tilde = schedule.posterior_variance(t);
            assert_relative(choice.log_variance(-1.0).exp(), beta_tilde, tolerance);
        }
    }
}
