//! Solvers on Gaussian data, where the ideal denoiser is affine and the distribution of every x is
//! known exactly.

use ddpm_schedule::solver::{Ddim, Eta, Solver, Variance, run};
use ddpm_schedule::{Grid, NoiseLevel, NoiseSchedule};

use crate::{DDIM, DPMPP_2M, LARGE, Process, SMALL, assert_close, assert_relative};

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

    /// The law at the last level of a run with the ideal denoiser, from x at `levels[0]` with the
    /// law of the data at that level.
    fn run(self, solver: &dyn Solver, levels: &[NoiseLevel]) -> Self {
        self.run_from(self.at(levels[0]), solver, levels)
    }

    /// The same with the law `start` for the first x. Each x is affine in the first x and in
    /// independent noises; its numbers here are the offset and these factors.
    fn run_from(self, start: Self, solver: &dyn Solver, levels: &[NoiseLevel]) -> Self {
        let mut x = vec![0.0; 2 + levels.len()];
        (x[0], x[1]) = (start.mean, start.variance.sqrt());
        let denoiser = |x: &[f64], at: NoiseLevel| {
            let (gain, offset) = self.denoiser(at);
            let mut x0: Vec<f64> = x.iter().map(|x| gain * x).collect();
            x0[0] += offset;
            x0
        };
        let mut drawn = 1;
        let unit = |n: usize| {
            drawn += 1;
            let mut z = vec![0.0; n];
            z[drawn] = 1.0;
            z
        };
        let x = run(&solver, levels, x, denoiser, unit).unwrap();
        Self {
            mean: x[0],
            variance: x[1..].iter().map(|c| c * c).sum(),
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

/// The named schedules, a random walk, and one that ends at zero SNR.
fn schedules() -> [NoiseSchedule; 5] {
    [
        NoiseSchedule::linear(1000, 1e-4, 0.02),
        NoiseSchedule::cosine(200, 0.008),
        NoiseSchedule::sigmoid(100, -3.0, 3.0, 1.0),
        NoiseSchedule::random_walk(100, 0.3),
        NoiseSchedule::linear(1000, 1e-4, 0.02)
            .and_then(|schedule| schedule.rescale_zero_terminal_snr()),
    ]
    .map(Result::unwrap)
}

/// `n` trailing levels, clean data last.
fn visited(schedule: &NoiseSchedule, n: u32) -> Vec<NoiseLevel> {
    let levels = Grid::Trailing.levels(&schedule.clone().into(), n as usize);
    levels.unwrap().as_slice().to_vec()
}

/// (a, b²) of a level.
fn square(level: NoiseLevel) -> (f64, f64) {
    (level.signal(), level.noise().powi(2))
}

/// Song et al. 2020, eq. 12 with σ² = η²·b_s²/b_t²·(b_t² − (a_t/a_s)²·b_s²), and DDPM's two
/// variances, as a recursion of two numbers. With V = a²v + b² the ideal x̂₀ is
/// m + (a·v/V)·(x − a·m) and ε̂ is (b/V)·(x − a·m): a step multiplies x − a·m by
/// k = a_s·a_t·v/V + √(b_s² − σ²)·b_t/V, and adds z² to the variance.
fn one_step_law(data: Law, start: Law, levels: &[NoiseLevel], eta: f64, fixed_large: bool) -> Law {
    let (mut factor, mut variance) = (1.0, start.variance);
    for pair in levels.windows(2) {
        let [(a_t, b2_t), (a_s, b2_s)] = [pair[0], pair[1]].map(square);
        let beta = b2_t - (a_t / a_s).powi(2) * b2_s;
        let sigma2 = eta * eta * b2_s / b2_t * beta;
        let total = a_t * a_t * data.variance + b2_t;
        let k = (a_s * a_t * data.variance + ((b2_s - sigma2) * b2_t).sqrt()) / total;
        let z2 = if fixed_large && b2_s > 0.0 {
            beta
        } else {
            sigma2
        };
        factor *= k;
        variance = k * k * variance + z2;
    }
    let mean = data.mean + factor * (start.mean - data.at(levels[0]).mean);
    Law { mean, variance }
}

/// Lu et al. 2022, algorithm 2, on y = x − a·m, which the ideal denoiser multiplies:
/// x̂₀ − m = g·y. The run is deterministic: y_T = 1 gives the factor of all steps.
fn multistep_law(data: Law, start: Law, levels: &[NoiseLevel]) -> Law {
    let half_log_snr = |level: NoiseLevel| (level.signal() / level.noise()).ln();
    let gain = |level: NoiseLevel| {
        let (a, b2) = square(level);
        a * data.variance / (a * a * data.variance + b2)
    };
    let mut y = 1.0;
    let mut before: Option<(f64, f64)> = None; // (h, x̂₀ − m) of the step before
    for pair in levels.windows(2) {
        let (t, s) = (pair[0], pair[1]);
        let (h, d0) = (half_log_snr(s) - half_log_snr(t), gain(t) * y);
        let d = match before {
            Some((h_before, d1)) if h.is_finite() && h_before.is_finite() => {
                let r = h_before / h;
                (1.0 + 0.5 / r) * d0 - 0.5 / r * d1
            }
            _ => d0,
        };
        y = s.noise() / t.noise() * y - s.signal() * ((-h).exp() - 1.0) * d;
        before = Some((h, d0));
    }
    Law {
        mean: data.mean + y * (start.mean - data.at(levels[0]).mean),
        variance: y * y * start.variance,
    }
}

/// Started from the prior, the output of each sampler has the mean and variance of its scalar
/// recursion, after one step, a few, or all. Up to a thousand steps contract their rounding errors,
/// of which the largest is the recursion's own: β as a difference of two b² is off by 2⁻⁵²·b².
#[test]
fn every_sampler_has_the_law_of_its_recursion() {
    let half = Eta::new(0.5).unwrap();
    let data = Law {
        mean: 0.8,
        variance: 0.25,
    };
    for schedule in schedules() {
        for n in [1, 2, 10, schedule.timesteps()] {
            let levels = visited(&schedule, n);
            let start = Law {
                mean: 0.0,
                variance: levels[0].prior_std().powi(2),
            };
            let one_step = |eta, fixed_large| one_step_law(data, start, &levels, eta, fixed_large);
            let cases: [(&dyn Solver, Law); 5] = [
                (&DDIM, one_step(0.0, false)),
                (&Ddim { eta: half }, one_step(0.5, false)),
                (&SMALL, one_step(1.0, false)),
                (&LARGE, one_step(1.0, true)),
                (&DPMPP_2M, multistep_law(data, start, &levels)),
            ];
            for (solver, expected) in cases {
                let found = data.run_from(start, solver, &levels);
                assert_close(found.mean, expected.mean, 1e-12);
                assert_close(found.variance, expected.variance, 1e-12);
            }
        }
    }
}

/// Ho et al. 2020, algorithm 2, in its α and β: x_{t−1} = (x_t − β/√(1−ᾱ)·ε̂)/√α + σ·z.
#[test]
fn ancestral_sampling_is_algorithm_2() {
    let data = Law {
        mean: 0.8,
        variance: 0.25,
    };
    let schedule = NoiseSchedule::linear(100, 1e-3, 0.2).unwrap();
    let betas = |t: u32| 1e-3 + (0.2 - 1e-3) * f64::from(t - 1) / 99.0;
    let alpha_bar = |t: u32| (1..=t).map(|t| 1.0 - betas(t)).product::<f64>();
    let levels = visited(&schedule, 100);
    for solver in [SMALL, LARGE] {
        let total = |t: u32| alpha_bar(t) * data.variance + 1.0 - alpha_bar(t);
        let (mut mean, mut variance) = (alpha_bar(100).sqrt() * data.mean, total(100));
        for t in (1..=100).rev() {
            let (beta, before) = (betas(t), if t > 1 { alpha_bar(t - 1) } else { 1.0 });
            // ε̂ = √(1−ᾱ)·(x_t − √ᾱ·m)/V_t.
            let slope = (1.0 - beta / total(t)) / (1.0 - beta).sqrt();
            let offset = beta / total(t) * alpha_bar(t).sqrt() * data.mean / (1.0 - beta).sqrt();
            let sigma2 = match solver.variance {
                _ if t == 1 => 0.0,
                Variance::Large => beta,
                _ => beta * (1.0 - before) / (1.0 - alpha_bar(t)),
            };
            mean = slope * mean + offset;
            variance = slope * slope * variance + sigma2;
        }
        let found = data.run(&solver, &levels);
        assert_close(found.mean, mean, 1e-12);
        assert_close(found.variance, variance, 1e-12);
    }
}

/// For unit normal data and a = cos φ, x̂₀ = cos φ·x, so a DDIM step of Δφ multiplies x
/// by cos Δφ: twenty from φ = π/2 to 0 leave the variance cos⁴⁰ Δφ.
#[test]
fn ddim_on_normal_data_is_a_product_of_cosines() {
    let data = Law {
        mean: 0.0,
        variance: 1.0,
    };
    let end = data.run(&DDIM, &quarter_turn(20));
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
    let end = data.run(&LARGE, &levels[..20]);
    assert_relative(end.variance, 1.0, 1e-12);
    let end = data.run(&LARGE, &levels);
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
    let half = Ddim {
        eta: Eta::new(0.5).unwrap(),
    };
    for process in Process::ALL {
        let solvers: [&dyn Solver; 4] = [&DDIM, &half, &SMALL, &DPMPP_2M];
        for solver in solvers {
            let levels = grid(process, 10);
            let (end, exact) = (data.run(solver, &levels), data.at(levels[10]));
            assert_relative(end.mean, exact.mean, 1e-11);
            assert_relative(end.variance, exact.variance, 1e-11);
        }
    }
}

/// Half the step size divides the error by two at first order and by four at second. The next term
/// of the error is one step smaller: at 200 steps, a few percent.
#[test]
fn errors_fall_at_the_order_of_the_sampler() {
    let data = Law {
        mean: 0.8,
        variance: 0.25,
    };
    let orders: [(&str, &dyn Solver, f64); 4] = [
        ("DDIM", &DDIM, 2.0),
        ("DDPM", &SMALL, 2.0),
        ("DDPM, large", &LARGE, 2.0),
        ("DPM-Solver++(2M)", &DPMPP_2M, 4.0),
    ];
    for process in Process::ALL {
        for (name, solver, ratio) in orders {
            let error = |n| {
                let levels = grid(process, n);
                let exact = data.at(levels[n as usize]).variance;
                (data.run(solver, &levels).variance - exact).abs()
            };
            let (coarse, fine) = (error(200), error(400));
            assert!(fine > 1e-9, "{name} leaves no error to measure");
            assert_close(coarse / fine, ratio, 0.1 * ratio);
        }
    }
}
