//! DDPM, and its use in UnCLIP.

use ddpm_schedule::solver::{Ddpm, Solver, Variance};
use ddpm_schedule::{Grid, Levels, NoiseLevel, NoiseSchedule, Parametrization};

use super::{assert_seeded, assert_sum, index, lin, network, noise, sample};
use crate::scalars::{Run, Said};

const SMALL: Ddpm = Ddpm {
    variance: Variance::Small,
};

/// A denoiser with x̂₀ clipped to ±`range`, and ε̂ of before the clip or derived from the clipped
/// x̂₀.
pub(crate) fn clipped(
    denoiser: impl Fn(f64, NoiseLevel) -> Said,
    range: f64,
    keeps_eps: bool,
) -> impl Fn(f64, NoiseLevel) -> Said {
    move |x, at| {
        let said = denoiser(x, at);
        let x0 = said.x0.clamp(-range, range);
        if keeps_eps {
            Said { x0, ..said }
        } else {
            Said::x0(x0, x, at)
        }
    }
}

/// a·sample + b·noise.
pub(crate) fn noised(at: NoiseLevel) -> Vec<f64> {
    let pairs = sample().into_iter().zip(noise());
    let noised = pairs.map(|(x, z)| at.signal() * x + at.noise() * z);
    noised.collect()
}

/// A run with x̂₀ clipped to ±`range`. DDPM does not use ε̂.
fn run(
    solver: &dyn Solver,
    parametrization: Parametrization,
    schedule: &NoiseSchedule,
    levels: &[NoiseLevel],
    range: f64,
) -> Vec<f64> {
    let network = network(parametrization, index(schedule));
    let denoiser = clipped(network, range, false);
    Run::new(solver, denoiser).all(levels, sample())
}

#[test]
fn ddpm() {
    let (eps, v) = (Parametrization::Epsilon, Parametrization::V);
    let large = Ddpm {
        variance: Variance::Large,
    };
    let levels = Levels::full(&lin());
    for (solver, parametrization, range, expected) in [
        (SMALL, eps, 1.0, 258.9590527),
        (SMALL, v, 1.0, 202.0282598),
        (SMALL, eps, f64::INFINITY, 263.3447602),
        (large, eps, 1.0, 261.204977),
    ] {
        let x = run(&solver, parametrization, &lin(), levels.as_slice(), range);
        assert_seeded(&x, expected);
    }
}

#[test]
fn from_noise() {
    let schedule = lin();
    let levels = Levels::full(&schedule);
    let levels = &levels.as_slice()[998..];
    let network = network(Parametrization::Epsilon, index(&schedule));
    let denoiser = clipped(network, 1.0, false);
    let x = Run::new(&SMALL, denoiser).all(levels, noised(levels[0]));
    assert_seeded(&x, 387.967251);
}

/// Three batches, each with one step without noise, from t = 1, 2 and 3 to `end(t)`.
pub(super) fn batches(solver: &dyn Solver, keeps_eps: bool, to_clean: bool) -> Vec<f64> {
    /// The same solver without its noise.
    struct Quiet<'a>(&'a dyn Solver);

    impl Solver for Quiet<'_> {
        fn step(&self, at: &ddpm_schedule::solver::Position) -> ddpm_schedule::solver::Step {
            let mut step = self.0.step(at);
            step.last.z.clear();
            step
        }
    }

    let schedule = lin();
    let starts = schedule.iter().zip([0.0, 0.1, -0.1]);
    let batch = |(t, shift)| {
        let network = network(Parametrization::Epsilon, index(&schedule));
        let denoiser = clipped(network, 1.0, keeps_eps);
        let end = if to_clean {
            NoiseLevel::CLEAN
        } else {
            schedule.previous(t)
        };
        let x = sample().into_iter().map(|x| x + shift).collect();
        Run::new(&Quiet(solver), denoiser).all(&[schedule.level(t), end], x)
    };
    starts.flat_map(batch).collect()
}

#[test]
fn in_parallel() {
    assert_sum(&batches(&SMALL, false, false), 1153.1829);
}

/// Cosine, T = 1000: all steps, and 25 of the even times.
#[test]
fn unclip() {
    let schedule = NoiseSchedule::cosine(1000, 0.008).unwrap();
    let some = Grid::Linspace.levels(&schedule.clone().into(), 25).unwrap();
    for (levels, expected) in [(Levels::full(&schedule), 252.4390017), (some, 258.3410676)] {
        let eps = Parametrization::Epsilon;
        let x = run(&SMALL, eps, &schedule, levels.as_slice(), 1.0);
        assert_seeded(&x, expected);
    }
}
