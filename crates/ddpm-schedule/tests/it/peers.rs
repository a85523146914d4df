//! Where diffusers deviates from the mathematics of its own settings, and by how much.
//! docs/peers.md has the table, and [`solvers`](crate::solvers) the loops.

use ddpm_schedule::solver::{Ddim, Ddpm, Eta, Solver, Step, Variance, run};
use ddpm_schedule::{
    Grid, LearnedVariance, Levels, NoiseLevel, NoiseSchedule, Parametrization, Process,
};

use crate::assert_close;
use crate::solvers::ddpm::{clipped, noised};
use crate::solvers::{index, lin, network, size};
use crate::torch::Torch;

const N: usize = 4 * 3 * 8 * 8;
const DDIM: Ddim = Ddim { eta: Eta::ZERO };

/// The step of a solver of one evaluation.
fn step(solver: &impl Solver, t: NoiseLevel, s: NoiseLevel) -> Step {
    let (past, left) = (&[][..], None);
    solver.step(&ddpm_schedule::solver::Position { past, t, s, left })
}

/// The peer's number for the last two steps is off by twice its tolerance. In single precision 1 −
/// ᾱ and 1 − ᾱ₂/ᾱ₁ keep three digits of 10⁻⁴; with coefficients computed in this way its number is
/// reproduced. In double precision it is 387.9673 (`solvers::ddpm::from_noise`).
#[test]
fn ddpm_from_noise_differs_by_single_precision() {
    let schedule = lin();
    let levels = [2, 1].map(|t| schedule.level(schedule.timestep(t).unwrap()));
    let start = noised(levels[0]);

    let beta = |t: f32| 1e-4 + (0.02 - 1e-4) * t / 999.0;
    let alpha_bar_1: f32 = 1.0 - beta(0.0);
    let alpha_bar_2 = alpha_bar_1 * (1.0 - beta(1.0));
    let (alpha, left) = (alpha_bar_2 / alpha_bar_1, 1.0 - alpha_bar_2);
    let x0_factor = alpha_bar_1.sqrt() * (1.0 - alpha) / left;
    let x_t_factor = alpha.sqrt() * (1.0 - alpha_bar_1) / left;
    let std = ((1.0 - alpha_bar_1) / left * (1.0 - alpha)).sqrt();
    let [x0_factor, x_t_factor, std] = [x0_factor, x_t_factor, std].map(f64::from);
    let said = network(Parametrization::Epsilon, index(&schedule));
    let said = clipped(said, 1.0, false);
    let peers = start.iter().zip(Torch::new(0).randn(N)).map(|(&x, z)| {
        let x = x0_factor * said(x, levels[0]).x0 + x_t_factor * x + std * z;
        said(x, levels[1]).x0
    });
    let peers: Vec<_> = peers.collect();
    assert_close(size(&peers), 387.9466, 1e-2);
    assert_close(size(&peers) / N as f64, 0.5051, 1e-3);
}

/// Each to the 10⁻⁵ of the peer's tests.
#[test]
fn variances() {
    let schedule = lin();
    let time = |schedule: &NoiseSchedule, tau: u32| schedule.timestep(tau + 1).unwrap();
    for (tau, variance) in [(0, 0.0), (487, 0.00979), (999, 0.02)] {
        let t = time(&schedule, tau);
        assert_close(schedule.posterior_variance(t), variance, 1e-5);
    }
    for (t, s, variance) in [(420, 400, 0.14771), (980, 960, 0.32460)] {
        let [t, s] = [t, s].map(|tau| schedule.level(time(&schedule, tau)));
        let step = step(
            &Ddpm {
                variance: Variance::Small,
            },
            t,
            s,
        );
        assert_close(step.last.z[0].powi(2), variance, 1e-5);
    }
    let cosine = NoiseSchedule::cosine(1000, 0.008).unwrap();
    for (tau, std) in [(487, 0.054_962_5), (999, 0.999_498_7)] {
        let t = time(&cosine, tau);
        assert_close(cosine.posterior_variance(t).sqrt(), std, 1e-5);
    }
    // The peer's −10.1712790 at τ = 1 is, without single precision, −10.1713649.
    for (tau, log_variance, tolerance) in [
        (1, -10.171_279_0, 1e-4),
        (487, -5.799_805_2, 1e-5),
        (999, -0.001_001_1, 1e-5),
    ] {
        let t = time(&cosine, tau);
        let choice = LearnedVariance::between(cosine.level(t), cosine.previous(t));
        assert_close(choice.log_variance(0.5), log_variance, tolerance);
    }
}

/// The peer's DDIM changes the mean: with the unclipped ε̂ and the clipped x̂₀, an x whose x̂₀ is
/// right does not arrive at its own marginal. If ε̂ follows from x̂₀ it does, for every error of
/// ε̂.
#[test]
fn clipping_must_change_epsilon_too() {
    let schedule = lin();
    let [t, s] = [901, 801].map(|t| schedule.level(schedule.timestep(t).unwrap()));
    let (x0, eps) = (1.0, 0.7);
    let x_t = t.signal() * x0 + t.noise() * eps;
    // A network whose ε̂ is off by a tenth is far off in x̂₀, which is then clipped to the true
    // value.
    let guessed = eps - 0.1;
    let x0_guessed = (x_t - t.noise() * guessed) / t.signal();
    assert!(x0_guessed > 1.0);
    let ours = run(
        &DDIM,
        &[t, s],
        vec![x_t],
        |_, _| vec![x0_guessed.min(1.0)],
        |_| panic!(),
    );
    let ours = ours.unwrap()[0];
    let truth = s.signal() * x0 + s.noise() * eps;
    assert_close(ours, truth, 1e-14);
    let peers = s.signal() * x0_guessed.min(1.0) + s.noise() * guessed;
    assert_close(truth - peers, 0.1 * s.noise(), 1e-14);
}

/// How many of N steps lead to the start of the next, for the peer's "previous timestep", t −
/// ⌊T/N⌋.
fn agreeing(levels: &Levels, stride: f64) -> usize {
    let schedule = lin();
    let told = index(&schedule);
    let times: Vec<f64> = levels.pairs().map(|(t, _)| told(t)).collect();
    let pairs = times.windows(2);
    pairs.filter(|pair| pair[0] - stride == pair[1]).count()
}

/// The peer's DDIM subtracts a stride where ours has both levels. For trailing times it agrees only
/// if N divides T, and for linspace hardly ever.
#[test]
fn subtracting_the_stride_misses_the_next_time() {
    let process = Process::from(lin());
    for (n, agree) in [(10, 9), (7, 1), (30, 19), (300, 199)] {
        let trailing = Grid::Trailing.levels(&process, n).unwrap();
        assert_eq!(agreeing(&trailing, (1000 / n) as f64), agree, "{n}");
    }
    let linspace = Grid::Linspace.levels(&process, 10).unwrap();
    assert_eq!(agreeing(&linspace, 100.0), 0);
}

/// After its last trailing step the peer's DDPM with variance β adds the noise of that step, with
/// this standard deviation, to the finished image. Ours ends in x̂₀.
#[test]
fn the_last_step_adds_no_noise() {
    let process = Process::from(lin());
    let large = Ddpm {
        variance: Variance::Large,
    };
    for (n, std) in [(4, 0.69), (10, 0.32), (20, 0.17), (50, 0.076)] {
        let trailing = Grid::Trailing.levels(&process, n).unwrap();
        let (t, s) = trailing.pairs().last().unwrap();
        assert_eq!(s, NoiseLevel::CLEAN);
        assert!(!step(&large, t, s).is_stochastic());
        assert_close(t.transition(s).variance.sqrt(), std, 5e-3);
    }
}
