//! DDPM, DDIM and DPM-Solver++: identities of one step; and the mean of every solver.

use ddpm_schedule::solver::{Ddim, Eta, Info, Method, Position, Row, Solver, Step, Term, steps};
use ddpm_schedule::{Grid, NoiseLevel, NoiseSchedule};
use proptest::prelude::*;

use crate::{
    DDIM, DPMPP_2M, LARGE, LEARNED, Process, SMALL, assert_close, assert_relative, levels,
};

/// Room for the rounding of ln, exp and λ: some tens of 2⁻⁵².
const ROUNDING: f64 = 1e-13;
/// The same divided by the smallest |Δ|.
const ROUNDING_OVER_DELTA: f64 = 1e-10;

const ALL: [&dyn Solver; 5] = [&DDIM, &SMALL, &LARGE, &LEARNED, &DPMPP_2M];

/// The factors of x_s, if the input of the newest evaluation was x_t itself.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Factors {
    /// Of x̂₀.
    x0: f64,
    /// Of the x̂₀ before.
    x0_prev: f64,
    /// Of x_t.
    x_t: f64,
    /// Of the noise.
    z: f64,
    /// ln of the ratio of the noise's standard deviations for β and β̃.
    z_span: f64,
}

/// The step of a solver that evaluates once, at t, after an evaluation at `prev`.
fn factors<S: Solver + ?Sized>(
    solver: &S,
    prev: Option<NoiseLevel>,
    t: NoiseLevel,
    s: NoiseLevel,
) -> Factors {
    let past: Vec<_> = prev.into_iter().collect();
    let (past, left) = (&past[..], None);
    let Step { asks, last } = solver.step(&Position { past, t, s, left });
    assert_eq!(asks, [(t, Row::state())]);
    let term = |k: usize| last.past.get(k).copied().unwrap_or_default();
    assert_eq!((term(1).x, term(2)), (0.0, Term::default()));
    assert!(last.z.len() <= 1);
    Factors {
        x0: term(0).x0,
        x0_prev: term(1).x0,
        x_t: last.state + term(0).x,
        z: last.z.first().copied().unwrap_or(0.0),
        z_span: last.z_span,
    }
}

#[test]
fn the_step_to_clean_data_returns_x0() {
    let noise = NoiseLevel::variance_preserving(0.0).unwrap();
    let x0 = Factors {
        x0: 1.0,
        x0_prev: 0.0,
        x_t: 0.0,
        z: 0.0,
        z_span: 0.0,
    };
    for (i, solver) in ALL.into_iter().enumerate() {
        for process in Process::ALL {
            let (prev, t) = (process.level(0.5), process.level(-0.5));
            let step = factors(solver, Some(prev), t, NoiseLevel::CLEAN);
            // −0.0 == 0.0, so the comparison is of values.
            assert_eq!(step, x0, "solver {i}, {process:?}");
        }
        assert_eq!(factors(solver, None, noise, NoiseLevel::CLEAN), x0);
    }
}

/// The variance that a step adds, as a function of the network's v.
fn learned_variance(t: NoiseLevel, s: NoiseLevel) -> impl Fn(f64) -> f64 {
    let step = factors(&LEARNED, None, t, s);
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
    for (solver, (x0, x_t, z, z_span)) in ALL.into_iter().zip(expected) {
        let step = factors(solver, None, noise, s);
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
    let step = factors(&DPMPP_2M, Some(noise), t, s);
    assert_eq!(step, factors(&DPMPP_2M, None, t, s));
    // h = ln(0.8/0.6) − ln(0.6/0.8) = ln(16/9), so e^−h = 9/16.
    assert_close(step.x0, 0.8 * (1.0 - 9.0 / 16.0), ROUNDING);
    assert_close(step.x_t, 0.6 / 0.8, ROUNDING);
}

/// The factor of x₀ in a row if every x̂₀ is x₀ and every x is a·x₀, and the sum of its terms'
/// sizes.
fn mean(row: &Row, t: NoiseLevel, means: &[f64]) -> (f64, f64) {
    let state = row.state * t.signal();
    let past = row.past.iter().zip(means);
    let past = past.flat_map(|(term, mean)| [term.x * mean, term.x0]);
    let terms: Vec<f64> = past.chain([state]).collect();
    (terms.iter().sum(), terms.iter().map(|x| x.abs()).sum())
}

/// If x̂₀ is x₀, every input of the denoiser has the mean a·x₀ of its level, and so has x_s: for
/// every solver of the table, in every process, and in each of ten steps.
#[test]
fn every_solver_keeps_the_mean() {
    let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap();
    let processes = [
        schedule.into(),
        ddpm_schedule::Process::vp_linear(0.1, 20.0).unwrap(),
        ddpm_schedule::Process::edm(0.01, 80.0).unwrap(),
        ddpm_schedule::Process::flow(3.0).unwrap(),
    ];
    for process in processes {
        // A flow's first level has no signal; solvers of ε̂ start at the second.
        let levels = Grid::Linspace.levels(&process, 11).unwrap();
        let levels = ddpm_schedule::Levels::new(levels.as_slice()[1..].iter().copied()).unwrap();
        for info in Info::all() {
            let method: Method = info.name.parse().unwrap();
            let solver = method.solver(&process, &levels);
            let mut means = Vec::new();
            let taken = steps(&solver, levels.as_slice()).unwrap();
            for ((t, s), step) in levels.pairs().zip(taken) {
                for (at, row) in &step.asks {
                    let (mean, sizes) = mean(row, t, &means);
                    let tolerance = 1e-11 * (1.0 + sizes);
                    assert_close(mean, at.signal(), tolerance);
                    means.insert(0, at.signal());
                }
                let (mean, sizes) = mean(&step.last, t, &means);
                assert_close(mean, s.signal(), 1e-11 * (1.0 + sizes));
            }
        }
    }
}

proptest! {
    /// If x̂₀ is x₀, x_s has the mean a_s·x₀ whatever the sampler, the process and the
    /// history.
    #[test]
    fn every_step_keeps_the_mean([s, t, prev] in levels()) {
        for solver in ALL {
            for prev in [None, Some(prev)] {
                let step = factors(solver, prev, t, s);
                let mean = step.x0 + step.x0_prev + step.x_t * t.signal();
                let scale = s.signal() + step.x0.abs() + step.x0_prev.abs();
                assert_close(mean, s.signal(), ROUNDING * scale);
            }
        }
    }

    /// Song et al. 2020, eq. 16.
    #[test]
    fn eta_is_the_share_of_the_posteriors_noise([s, t] in levels(), eta in 0.0..=1.0) {
        let step = factors(&Ddim { eta: Eta::new(eta).unwrap() }, None, t, s);
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

        let one = Ddim { eta: Eta::ONE };
        let ddpm: [(&dyn Solver, f64); 3] = [(&SMALL, beta_tilde), (&LARGE, beta), (&one, beta_tilde)];
        for (solver, variance) in ddpm {
            let step = factors(solver, None, t, s);
            assert_relative(step.x0, x0, ROUNDING_OVER_DELTA);
            assert_relative(step.x_t, x_t, ROUNDING_OVER_DELTA);
            assert_relative(step.z.powi(2), variance, ROUNDING_OVER_DELTA);
            assert_eq!(step.x0_prev, 0.0);
            assert_eq!(step.z_span, 0.0);
        }
        // The range of a learned variance: v = 0 is β̃, v = 1 is β.
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
        let step = factors(&DPMPP_2M, Some(prev), t, s);
        assert_relative(step.x0, d * (1.0 + 1.0 / (2.0 * r)), ROUNDING_OVER_DELTA);
        assert_relative(step.x0_prev, -d / (2.0 * r), ROUNDING_OVER_DELTA);
        assert_relative(step.x_t, s.noise() / t.noise(), ROUNDING);
        assert_eq!(step.z, 0.0);
    }

    /// The first order of DPM-Solver++ is DDIM (Lu et al. 2022).
    #[test]
    fn the_first_multistep_is_ddim([s, t] in levels()) {
        let (first, ddim) = (factors(&DPMPP_2M, None, t, s), factors(&DDIM, None, t, s));
        assert_relative(first.x0, ddim.x0, ROUNDING);
        assert_relative(first.x_t, ddim.x_t, ROUNDING);
    }
}
