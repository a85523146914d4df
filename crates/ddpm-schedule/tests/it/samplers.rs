//! Samplers: identities of one step.

use ddpm_schedule::{Eta, NoiseLevel, Sampler, Step};
use proptest::prelude::*;

use crate::{Process, assert_close, assert_relative, levels};

/// Room for the rounding of ln, exp and λ: some tens of 2⁻⁵².
const ROUNDING: f64 = 1e-13;
/// The same divided by the smallest |Δ|.
const ROUNDING_OVER_DELTA: f64 = 1e-10;

const DDIM: Sampler = Sampler::Ddim { eta: Eta::ZERO };
const ALL: [Sampler; 5] = [
    DDIM,
    Sampler::ANCESTRAL,
    Sampler::AncestralBeta,
    Sampler::AncestralLearned,
    Sampler::DpmPp2M,
];

#[test]
fn the_step_to_clean_data_returns_x0() {
    let noise = NoiseLevel::variance_preserving(0.0).unwrap();
    let x0 = Step {
        x0: 1.0,
        x0_prev: 0.0,
        x_t: 0.0,
        z: 0.0,
        z_span: 0.0,
    };
    for sampler in ALL {
        for process in Process::ALL {
            let (prev, t) = (process.level(0.5), process.level(-0.5));
            let step = sampler.step(Some(prev), t, NoiseLevel::CLEAN);
            // −0.0 == 0.0, so the comparison is of values.
            assert_eq!(step, x0, "{sampler:?}, {process:?}");
        }
        assert_eq!(sampler.step(None, noise, NoiseLevel::CLEAN), x0);
    }
}

/// The variance that a learned step adds, by the network's share v.
fn learned_variance(t: NoiseLevel, s: NoiseLevel) -> impl Fn(f64) -> f64 {
    let step = Sampler::AncestralLearned.step(None, t, s);
    move |v| (step.z * (step.z_span * v).exp()).powi(2)
}

#[test]
fn the_step_from_pure_noise_has_its_limits() {
    let [noise, s] =
        [0.0, 0.36].map(|alpha_bar| NoiseLevel::variance_preserving(alpha_bar).unwrap());
    // (x₀, x_t, z, z_span): DDIM turns x_t into the noise of x_s, DDPM replaces it, the
    // variance of the whole forward step is 1, and a network may choose between the two.
    let expected = [
        (0.6, 0.8, 0.0, 0.0),
        (0.6, 0.0, 0.8, 0.0),
        (0.6, 0.0, 1.0, 0.0),
        (0.6, 0.0, 0.8, f64::ln(1.0 / 0.8)),
        (0.6, 0.8, 0.0, 0.0),
    ];
    for (sampler, (x0, x_t, z, z_span)) in ALL.into_iter().zip(expected) {
        let step = sampler.step(None, noise, s);
        assert_close(step.x0, x0, ROUNDING);
        assert_close(step.x_t, x_t, ROUNDING);
        assert_close(step.z, z, ROUNDING);
        assert_close(step.z_span, z_span, ROUNDING);
        assert_eq!(step.x0_prev, 0.0);
    }
}

#[test]
fn the_multistep_after_pure_noise_is_of_first_order() {
    let [noise, t, s] =
        [0.0, 0.36, 0.64].map(|alpha_bar| NoiseLevel::variance_preserving(alpha_bar).unwrap());
    let step = Sampler::DpmPp2M.step(Some(noise), t, s);
    assert_eq!(step, Sampler::DpmPp2M.step(None, t, s));
    // h = ln(0.8/0.6) − ln(0.6/0.8) = ln(16/9), so e^−h = 9/16.
    assert_close(step.x0, 0.8 * (1.0 - 9.0 / 16.0), ROUNDING);
    assert_close(step.x_t, 0.6 / 0.8, ROUNDING);
}

#[test]
#[should_panic(expected = "the log-SNR must go one way")]
fn a_step_after_a_cleaner_level_panics() {
    let [t, s] = [0.36, 0.64].map(|alpha_bar| NoiseLevel::variance_preserving(alpha_bar).unwrap());
    DDIM.step(Some(s), t, NoiseLevel::CLEAN);
}

proptest! {
    /// If x̂₀ is x₀, x_s has the mean a_s·x₀ whatever the sampler, the process and the
    /// history.
    #[test]
    fn every_step_keeps_the_mean([s, t, prev] in levels()) {
        for sampler in ALL {
            for prev in [None, Some(prev)] {
                let step = sampler.step(prev, t, s);
                let mean = step.x0 + step.x0_prev + step.x_t * t.signal();
                let scale = s.signal() + step.x0.abs() + step.x0_prev.abs();
                assert_close(mean, s.signal(), ROUNDING * scale);
            }
        }
    }

    /// Song et al. 2020, eq. 16.
    #[test]
    fn eta_is_the_share_of_the_posteriors_noise([s, t] in levels(), eta in 0.0..=1.0) {
        let step = Sampler::Ddim { eta: Eta::new(eta).unwrap() }.step(None, t, s);
        assert_relative(step.z, eta * t.posterior(s).variance.sqrt(), ROUNDING);
    }

    /// Ho et al. 2020, eq. 7, by α and β.
    #[test]
    fn eta_one_is_ddpm(beta in 1e-3..0.9, alpha_bar_s in 0.01..0.99) {
        let alpha = 1.0 - beta;
        let alpha_bar_t = alpha * alpha_bar_s;
        let [t, s] = [alpha_bar_t, alpha_bar_s].map(|a| NoiseLevel::variance_preserving(a).unwrap());
        let x0 = f64::sqrt(alpha_bar_s) * beta / (1.0 - alpha_bar_t);
        let x_t = f64::sqrt(alpha) * (1.0 - alpha_bar_s) / (1.0 - alpha_bar_t);
        let beta_tilde = (1.0 - alpha_bar_s) / (1.0 - alpha_bar_t) * beta;

        for (sampler, variance) in [(Sampler::ANCESTRAL, beta_tilde), (Sampler::AncestralBeta, beta)] {
            let step = sampler.step(None, t, s);
            assert_relative(step.x0, x0, ROUNDING_OVER_DELTA);
            assert_relative(step.x_t, x_t, ROUNDING_OVER_DELTA);
            assert_relative(step.z.powi(2), variance, ROUNDING_OVER_DELTA);
            assert_eq!(step.x0_prev, 0.0);
            assert_eq!(step.z_span, 0.0);
        }
        // What a network may choose from: v = 0 is β̃, v = 1 is β.
        let learned = learned_variance(t, s);
        assert_relative(learned(0.0), beta_tilde, ROUNDING_OVER_DELTA);
        assert_relative(learned(1.0), beta, ROUNDING_OVER_DELTA);
        assert_relative(learned(0.5), (beta * beta_tilde).sqrt(), ROUNDING_OVER_DELTA);
    }

    /// Lu et al. 2022, algorithm 2, line by line, in their half log-SNR λ = ln(a/b).
    #[test]
    fn the_multistep_is_algorithm_2([s, t, prev] in levels()) {
        let lambda = |level: NoiseLevel| (level.signal() / level.noise()).ln();
        let (h_prev, h) = (lambda(t) - lambda(prev), lambda(s) - lambda(t));
        let r = h_prev / h;
        let d = -s.signal() * ((-h).exp() - 1.0);
        let step = Sampler::DpmPp2M.step(Some(prev), t, s);
        assert_relative(step.x0, d * (1.0 + 1.0 / (2.0 * r)), ROUNDING_OVER_DELTA);
        assert_relative(step.x0_prev, -d / (2.0 * r), ROUNDING_OVER_DELTA);
        assert_relative(step.x_t, s.noise() / t.noise(), ROUNDING);
        assert_eq!(step.z, 0.0);
    }

    /// The first order of DPM-Solver++ is DDIM (Lu et al. 2022).
    #[test]
    fn the_first_multistep_is_ddim([s, t] in levels()) {
        let (first, ddim) = (Sampler::DpmPp2M.step(None, t, s), DDIM.step(None, t, s));
        assert_relative(first.x0, ddim.x0, ROUNDING);
        assert_relative(first.x_t, ddim.x_t, ROUNDING);
    }
}
