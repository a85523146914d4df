//! The laws of training levels, by their distribution functions.

use std::f64::consts::SQRT_2;

use ddpm_schedule::{
    Grid, NoiseSchedule, Process, TimestepDistribution, TrainingLevels, stratified,
};
use proptest::prelude::*;

use crate::{assert_close, assert_relative};

fn lin() -> NoiseSchedule {
    NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap()
}

fn processes() -> [Process; 5] {
    [
        lin().into(),
        lin().rescale_zero_terminal_snr().unwrap().into(),
        Process::vp_linear(0.1, 20.0).unwrap(),
        Process::edm(0.002, 80.0).unwrap(),
        Process::flow(3.0).unwrap(),
    ]
}

/// Φ(x).
fn normal(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

proptest! {
    #[test]
    fn a_share_u_of_the_levels_is_below_the_quantile(u in 0.01..0.99, mean in -2.0..2.0, std in 0.3..2.0) {
        let [discrete, _, vp, edm, flow] = processes();
        let law = TrainingLevels::LogNormalSigma { mean, std };
        for process in [&edm, &flow] {
            let sigma = law.on(process).unwrap().quantile(u).sigma();
            let (noisiest, least) = process.ends();
            if least.sigma() * 1.001 < sigma && sigma < noisiest.sigma() * 0.999 {
                assert_close(normal((sigma.ln() - mean) / std), u, 1e-12);
            }
        }
        // On a schedule, the timestep nearest in time.
        let wide = Process::edm(1e-9, 1e9).unwrap();
        let told = discrete.time(law.on(&discrete).unwrap().quantile(u));
        assert_eq!(told.fract(), 0.0);
        assert!((told - discrete.time(law.on(&wide).unwrap().quantile(u))).abs() <= 0.5 + 1e-9);

        let law = TrainingLevels::LogitNormalTime { mean, std };
        let t = vp.time(law.on(&vp).unwrap().quantile(u)) / 999.0;
        assert!(t < 0.0011 || (normal(((t / (1.0 - t)).ln() - mean) / std) - u).abs() < 1e-9);
        // Without the flow's shift.
        let t = flow.time(law.on(&flow).unwrap().quantile(u)) / 1000.0;
        let t = t / (3.0 - 2.0 * t);
        assert!(t < 0.0011 || (normal(((t / (1.0 - t)).ln() - mean) / std) - u).abs() < 1e-9);
        let index = discrete.time(law.on(&discrete).unwrap().quantile(u));
        let [below, above] = [index, index + 1.0].map(|i: f64| {
            normal(((i / (1000.0 - i)).ln() - mean) / std)
        });
        assert!(below - 1e-9 <= u && u <= above + 1e-9);
    }

    #[test]
    fn uniform_is_uniform_in_time(u in 0.0..1.0) {
        let schedule = lin();
        let uniform = TimestepDistribution::uniform(&schedule).quantile(u);
        let [discrete, _, vp, edm, flow] = processes();
        let draw = |process: &Process| {
            let level = TrainingLevels::Uniform.on(process).unwrap().quantile(u);
            process.time(level)
        };
        assert_eq!(draw(&discrete), f64::from(uniform.network_input()));
        assert_close(draw(&vp), 0.999 + u * (999.0 - 0.999), 1e-8);
        let t = 0.001 + u * 0.999;
        assert_close(draw(&flow), 3000.0 * t / (1.0 + 2.0 * t), 1e-9);
        let [low, high] = [0.002_f64, 80.0].map(|sigma| 0.25 * sigma.ln());
        assert_close(draw(&edm), low + u * (high - low), 1e-14);
    }

    /// Every law on every process stays between the ends, and rises with u.
    #[test]
    fn levels_are_between_the_ends(u in 0.0..=1.0, more in 0.0..=1.0) {
        for process in processes() {
            let (noisiest, least) = process.ends();
            for law in [
                TrainingLevels::Uniform,
                TrainingLevels::UniformSigma { rho: 7.0 },
                TrainingLevels::LogNormalSigma { mean: -1.2, std: 3.0 },
                TrainingLevels::LogitNormalTime { mean: 0.5, std: 3.0 },
            ] {
                let Ok(levels) = law.on(&process) else {
                    assert_eq!(noisiest.signal(), 0.0);
                    continue;
                };
                let at = |u| levels.quantile(u).log_snr();
                let (high, low) = (f64::max(u, more), f64::min(u, more));
                assert!(at(high) <= at(low) + 1e-9, "{law:?} {process:?}");
                for u in [0.0, low, high, 1.0, 2.0, -1.0] {
                    assert!(noisiest.log_snr() <= at(u) && at(u) <= least.log_snr());
                }
                if matches!(law, TrainingLevels::LogNormalSigma { .. }) {
                    assert_eq!((at(0.0), at(1.0)), (least.log_snr(), noisiest.log_snr()));
                }
            }
        }
    }
}

/// Equidistant σ; and the levels of Karras' grid as quantiles.
#[test]
fn uniform_sigmas_are_those_of_grids() {
    let process = Process::edm(0.002, 80.0).unwrap();
    let linear = TrainingLevels::UniformSigma { rho: 1.0 }
        .on(&process)
        .unwrap();
    assert_relative(linear.quantile(0.25).sigma(), 0.75 * 0.002 + 20.0, 1e-13);
    let karras = TrainingLevels::UniformSigma { rho: 7.0 }
        .on(&process)
        .unwrap();
    let grid = Grid::Karras { rho: 7.0 }.levels(&process, 11).unwrap();
    for (i, (level, _)) in grid.pairs().enumerate() {
        let u = 1.0 - f64::from(u32::try_from(i).unwrap()) / 10.0;
        assert_relative(karras.quantile(u).sigma(), level.sigma(), 1e-12);
    }
    let flow = Process::flow(1.0).unwrap();
    let linear = TrainingLevels::UniformSigma { rho: 1.0 }.on(&flow).unwrap();
    assert_relative(linear.quantile(0.25).noise(), 0.75 * 0.001 + 0.25, 1e-13);
}

/// ln σ of a standard normal law, in the middle and in both tails, against values of 40 digits.
#[test]
fn normal_quantiles_have_twelve_digits() {
    let process = Process::edm(1e-20, 1e20).unwrap();
    let (mean, std) = (0.0, 1.0);
    let law = TrainingLevels::LogNormalSigma { mean, std };
    let levels = law.on(&process).unwrap();
    for (p, x) in [
        (0.5, 0.0),
        (0.6, 0.253_347_103_135_799_8),
        (0.975, 1.959_963_984_540_054),
        (0.025, -1.959_963_984_540_054),
        (1e-3, -3.090_232_306_167_813_5),
        (1e-10, -6.361_340_902_404_056),
        (1e-300, -37.047_096_299_361_2),
    ] {
        let log_sigma = -0.5 * levels.quantile(p).log_snr();
        assert_close(log_sigma, x, 1e-12 * f64::max(f64::abs(x), 1e-4));
    }
}

/// Karras et al.: σ has the median e^−1.2, and ln σ the variance 1.2².
#[test]
fn stratified_draws_have_the_moments_of_the_law() {
    let process = Process::edm(1e-6, 1e6).unwrap();
    let (mean, std) = (-1.2, 1.2);
    let levels = TrainingLevels::LogNormalSigma { mean, std }
        .on(&process)
        .unwrap();
    assert_relative(levels.quantile(0.5).sigma(), (-1.2_f64).exp(), 1e-14);
    let draws = stratified(0.5, 10_000).map(|u| levels.quantile(u).sigma().ln());
    let draws: Vec<_> = draws.collect();
    let mean = draws.iter().sum::<f64>() / 1e4;
    let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e4;
    assert_close(mean, -1.2, 1e-12);
    assert_close(variance, 1.44, 1e-3);
}

#[test]
fn invalid_laws_are_refused() {
    let [discrete, zero, ..] = processes();
    let (mean, std) = (f64::NAN, 1.0);
    for (result, message) in [
        (
            TrainingLevels::UniformSigma { rho: -1.0 }.on(&discrete),
            "rho = -1 is outside (0, ∞)",
        ),
        (
            TrainingLevels::UniformSigma { rho: 1.0 }.on(&zero),
            "σ of the noisiest level = inf is outside (0, ∞)",
        ),
        (
            TrainingLevels::LogNormalSigma { mean, std }.on(&discrete),
            "mean = NaN is outside (−∞, ∞)",
        ),
        (
            TrainingLevels::LogitNormalTime {
                mean: 0.0,
                std: 0.0,
            }
            .on(&discrete),
            "std = 0 is outside (0, ∞)",
        ),
    ] {
        assert_eq!(result.unwrap_err().to_string(), message);
    }
}
