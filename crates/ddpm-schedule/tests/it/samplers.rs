//! Samplers: identities of one step, and whole runs whose law is known exactly.

use ddpm_schedule::{Eta, NoiseLevel, Sampler, Step};
use proptest::prelude::*;

use crate::{Process, assert_close, assert_relative, levels};

/// Room for the rounding of ln, exp and λ: some tens of 2⁻⁵².
const ROUNDING: f64 = 1e-13;
/// The same divided by the smallest |Δ|.
const ROUNDING_OVER_DELTA: f64 = 1e-10;

const DDIM: Sampler = Sampler::Ddim { eta: Eta::ZERO };
const ALL: [Sampler; 4] = [
    DDIM,
    Sampler::ANCESTRAL,
    Sampler::AncestralBeta,
    Sampler::DpmPp2M,
];

/// The law N(mean, variance) of the data and then of each x along a run.
#[derive(Clone, Copy, Debug)]
struct Law {
    mean: f64,
    variance: f64,
}

impl Law {
    /// The law of x = a·x₀ + b·ε.
    fn at(self, level: NoiseLevel) -> Self {
        let (a, b) = (level.signal(), level.noise());
        Self {
            mean: a * self.mean,
            variance: a * a * self.variance + b * b,
        }
    }

    /// E[x₀ | x] = gain·x + offset for data of this law.
    fn denoiser(self, level: NoiseLevel) -> (f64, f64) {
        let gain = level.signal() * self.variance / self.at(level).variance;
        (gain, self.mean - gain * level.signal() * self.mean)
    }

    /// What a sampler with the ideal denoiser makes of x at `levels[0]` by the time it
    /// reaches the last of them. Each x is affine in the first x and in independent
    /// noises, and so is x̂₀': that (x, x̂₀') pair is carried as coefficients.
    fn run(self, sampler: Sampler, levels: &[NoiseLevel]) -> Self {
        let start = self.at(levels[0]);
        // (offset, factor of each independent unit normal), for x and x̂₀'.
        let mut x = (start.mean, vec![start.variance.sqrt()]);
        let mut x0_prev: Option<(f64, Vec<f64>)> = None;
        let mut prev = None;
        for pair in levels.windows(2) {
            let step = sampler.step(prev, pair[0], pair[1]);
            let (gain, offset) = self.denoiser(pair[0]);
            let x0 = (
                gain * x.0 + offset,
                x.1.iter().map(|c| gain * c).collect::<Vec<_>>(),
            );
            let old = x0_prev.unwrap_or((0.0, vec![]));
            let old_at = |i: usize| old.1.get(i).copied().unwrap_or(0.0);
            let mut factors: Vec<_> = (0..x.1.len())
                .map(|i| step.x0 * x0.1[i] + step.x0_prev * old_at(i) + step.x_t * x.1[i])
                .collect();
            factors.push(step.z);
            let mean = step.x0 * x0.0 + step.x0_prev * old.0 + step.x_t * x.0;
            (x, x0_prev, prev) = ((mean, factors), Some(x0), Some(pair[0]));
        }
        Self {
            mean: x.0,
            variance: x.1.iter().map(|c| c * c).sum(),
        }
    }
}

/// n + 1 levels of a process from x = 0.8 to −0.8.
fn grid(process: Process, n: u32) -> Vec<NoiseLevel> {
    (0..=n)
        .map(|i| process.level(0.8 - 1.6 * f64::from(i) / f64::from(n)))
        .collect()
}

/// a = cos φ, b = sin φ from φ = π/2 (zero SNR) to 0 in n equal steps.
fn quarter_turn(n: u32) -> Vec<NoiseLevel> {
    let level = |i| match i {
        0 => NoiseLevel::variance_preserving(0.0).unwrap(),
        i if i == n => NoiseLevel::CLEAN,
        i => {
            let (sin, cos) = (f64::from(n - i) * quarter_angle(n)).sin_cos();
            NoiseLevel::new(cos, sin).unwrap()
        }
    };
    (0..=n).map(level).collect()
}

fn quarter_angle(n: u32) -> f64 {
    std::f64::consts::FRAC_PI_2 / f64::from(n)
}

#[test]
fn the_step_to_clean_data_returns_x0() {
    let noise = NoiseLevel::variance_preserving(0.0).unwrap();
    let x0 = Step {
        x0: 1.0,
        x0_prev: 0.0,
        x_t: 0.0,
        z: 0.0,
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

#[test]
fn the_step_from_pure_noise_has_its_limits() {
    let [noise, s] =
        [0.0, 0.36].map(|alpha_bar| NoiseLevel::variance_preserving(alpha_bar).unwrap());
    // (x₀, x_t, z): DDIM turns x_t into the noise of x_s, DDPM replaces it, and the
    // variance of the whole forward step is 1.
    let expected = [
        (0.6, 0.8, 0.0),
        (0.6, 0.0, 0.8),
        (0.6, 0.0, 1.0),
        (0.6, 0.8, 0.0),
    ];
    for (sampler, (x0, x_t, z)) in ALL.into_iter().zip(expected) {
        let step = sampler.step(None, noise, s);
        assert_close(step.x0, x0, ROUNDING);
        assert_close(step.x_t, x_t, ROUNDING);
        assert_close(step.z, z, ROUNDING);
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
#[should_panic(expected = "a step must lead to a higher log-SNR")]
fn a_step_after_a_cleaner_level_panics() {
    let [t, s] = [0.36, 0.64].map(|alpha_bar| NoiseLevel::variance_preserving(alpha_bar).unwrap());
    DDIM.step(Some(s), t, NoiseLevel::CLEAN);
}

/// For unit normal data and a = cos φ, x̂₀ = cos φ·x, so a DDIM step of Δφ multiplies x
/// by cos Δφ: twenty from φ = π/2 to 0 leave the variance cos⁴⁰ Δφ.
#[test]
fn ddim_on_normal_data_is_a_product_of_cosines() {
    let data = Law {
        mean: 0.0,
        variance: 1.0,
    };
    let end = data.run(DDIM, &quarter_turn(20));
    assert_relative(end.variance, quarter_angle(20).cos().powi(40), 1e-12);
}

/// Ho et al. 2020, §3.2: σ² = β is optimal for x₀ ~ N(0, I), so that every x keeps unit
/// variance until the last step returns the mean cos Δφ·x.
#[test]
fn ancestral_beta_is_exact_on_normal_data() {
    let data = Law {
        mean: 0.0,
        variance: 1.0,
    };
    let levels = quarter_turn(20);
    let end = data.run(Sampler::AncestralBeta, &levels[..20]);
    assert_relative(end.variance, 1.0, 1e-12);
    let end = data.run(Sampler::AncestralBeta, &levels);
    assert_relative(end.variance, quarter_angle(20).cos().powi(2), 1e-12);
}

/// Ho et al. 2020, §3.2: σ² = β̃ is optimal for data of one point, as is any η; the ODE
/// solvers are exact there too.
#[test]
fn one_point_of_data_is_sampled_exactly() {
    let data = Law {
        mean: 1.7,
        variance: 0.0,
    };
    let half = Sampler::Ddim {
        eta: Eta::new(0.5).unwrap(),
    };
    for process in Process::ALL {
        for sampler in [DDIM, half, Sampler::ANCESTRAL, Sampler::DpmPp2M] {
            let levels = grid(process, 10);
            let (end, exact) = (data.run(sampler, &levels), data.at(levels[10]));
            assert_relative(end.mean, exact.mean, 1e-11);
            assert_relative(end.variance, exact.variance, 1e-11);
        }
    }
}

/// Halving the steps divides the error by two at first order and by four at second.
/// The next term of the error is one step smaller: at 200 steps, a few percent.
#[test]
fn errors_fall_at_the_order_of_the_sampler() {
    let data = Law {
        mean: 0.8,
        variance: 0.25,
    };
    let orders = [
        (DDIM, 2.0),
        (Sampler::ANCESTRAL, 2.0),
        (Sampler::AncestralBeta, 2.0),
        (Sampler::DpmPp2M, 4.0),
    ];
    for process in Process::ALL {
        for (sampler, ratio) in orders {
            let error = |n| {
                let levels = grid(process, n);
                let exact = data.at(levels[n as usize]).variance;
                (data.run(sampler, &levels).variance - exact).abs()
            };
            let (coarse, fine) = (error(200), error(400));
            assert!(fine > 1e-9, "{sampler:?} leaves no error to measure");
            assert_close(coarse / fine, ratio, 0.1 * ratio);
        }
    }
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

    /// Song et al. 2020, lemma 1: x_s has the marginal of s for every η.
    #[test]
    fn ddim_keeps_marginals([s, t] in levels(), eta in 0.0..=1.0) {
        let step = Sampler::Ddim { eta: Eta::new(eta).unwrap() }.step(None, t, s);
        let variance = (step.x_t * t.noise()).powi(2) + step.z.powi(2);
        assert_relative(variance, s.noise().powi(2), ROUNDING);
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
        }
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
