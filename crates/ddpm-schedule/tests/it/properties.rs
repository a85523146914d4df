//! Properties of every schedule: random walks, variance preserving and other processes, of any
//! length and any β.

use ddpm_schedule::solver::{Ddim, Eta, run};
use ddpm_schedule::{Levels, NoiseLevel, NoiseSchedule, Parametrization, Timestep};
use proptest::array;
use proptest::prelude::*;

use crate::cases::{Chain, chain, levels, long, rounding, some_levels, stepwise};
use crate::{assert_close, assert_relative};

/// The T steps of the process in sequence, once as it is defined and once as the schedule's
/// transitions. Both have x_t = signal·x₀ + √variance·ε with the coefficients of t's level.
///
/// They agree to 10⁻¹² + T·2⁻⁵²: a step's factor is near 1 and rounded to 2⁻⁵³, twice in its
/// square, and equal steps are rounded alike.
#[track_caller]
fn assert_steps_make_the_marginals(chain: &Chain) {
    let schedule = chain.schedule();
    let tolerance = 1e-12 + f64::from(schedule.timesteps()) * f64::EPSILON;
    let transitions = schedule
        .iter()
        .map(|t| schedule.level(t).transition(schedule.previous(t)))
        .map(|step| (step.signal, step.variance));
    for steps in [chain.steps(), transitions.collect()] {
        assert_eq!(steps.len(), schedule.iter().len());
        let (mut signal, mut variance) = (1.0, 0.0);
        for (t, (factor, beta)) in schedule.iter().zip(steps) {
            signal *= factor;
            variance = factor * factor * variance + beta;
            let level = schedule.level(t);
            assert_relative(signal, level.signal(), tolerance);
            assert_relative(variance, level.noise().powi(2), tolerance);
        }
    }
}

/// ln N(x; mean, variance).
fn log_density(x: f64, mean: f64, variance: f64) -> f64 {
    -0.5 * ((x - mean).powi(2) / variance + (std::f64::consts::TAU * variance).ln())
}

/// Fewer cases, for tests that take a tenth of a second per case.
fn few() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.div_ceil(128),
        ..default
    }
}

proptest! {
    #[test]
    fn one_step_transitions_compose_to_the_marginal(chain in stepwise()) {
        assert_steps_make_the_marginals(&chain);
    }

    /// The signal-to-noise ratio falls at every step and ends at the prior's. Data of unit variance
    /// arrives at the prior's standard deviation.
    #[test]
    fn every_process_goes_from_clean_data_to_its_prior(chain in chain()) {
        let schedule = chain.schedule();
        let levels = levels(&schedule);
        let first = schedule.iter().next().unwrap();
        assert_eq!(schedule.previous(first), NoiseLevel::CLEAN);
        assert!(levels.is_sorted_by(|s, t| s.log_snr() > t.log_snr()));
        assert!(levels.is_sorted_by(|s, t| s.snr() > t.snr()));
        let prior = schedule.level(schedule.last()).prior_std();
        match chain {
            Chain::Ddpm { .. } | Chain::LongDdpm { .. } => assert_relative(prior, 1.0, 1e-15),
            Chain::RandomWalk { timesteps, sigma } => {
                let variance = 1.0 + sigma * sigma * f64::from(timesteps);
                assert_relative(prior, variance.sqrt(), 1e-14);
            }
            Chain::AnySignal { a_and_fall_of_log_snr } => {
                let a = a_and_fall_of_log_snr.last().unwrap().0;
                let fall: f64 = a_and_fall_of_log_snr.iter().map(|(_, fall)| fall).sum();
                assert_relative(prior, a * (1.0 + (fall - 8.0).exp()).sqrt(), 1e-13);
            }
        }
    }

    /// q(x_t | x_r) = ∫ q(x_t | x_s) q(x_s | x_r) dx_s, r clean data or not.
    #[test]
    fn transitions_are_a_semigroup([r, s, t] in some_levels()) {
        let (first, second, both) = (s.transition(r), t.transition(s), t.transition(r));
        assert_relative(second.signal * first.signal, both.signal, 1e-12);
        let variance = second.signal.powi(2) * first.variance + second.variance;
        assert_relative(variance, both.variance, rounding(t, s) + rounding(s, r));
    }

    /// q(x_s | x₀)·q(x_t | x_s) = q(x_s | x_t, x₀)·q(x_t | x₀), as densities at any point.
    #[test]
    fn prior_times_likelihood_is_posterior_times_marginal(
        [_, s, t] in some_levels(),
        x0 in -3.0..3.0,
        [eps, z] in [-4.0..4.0, -4.0..4.0],
    ) {
        let (step, posterior) = (t.transition(s), t.posterior(s));
        let x_s = s.signal() * x0 + s.noise() * eps;
        let x_t = step.signal * x_s + step.variance.sqrt() * z;

        let prior = log_density(x_s, s.signal() * x0, s.noise().powi(2));
        let likelihood = log_density(x_t, step.signal * x_s, step.variance);
        let mean = posterior.x0 * x0 + posterior.x_t * x_t;
        let posterior_density = log_density(x_s, mean, posterior.variance);
        let marginal = log_density(x_t, t.signal() * x0, t.noise().powi(2));

        // Besides the rounding of coefficients: x_s and x_t round too, and their distances from a
        // mean are measured in its standard deviations.
        let distances = [
            x_s / s.noise(),
            x_s / posterior.variance.sqrt(),
            x_t / step.variance.sqrt(),
            posterior.x_t * x_t / posterior.variance.sqrt(),
        ];
        let measured: f64 = distances.iter().map(|x| x.abs()).sum();
        let tolerance = 100.0 * rounding(t, s) + 64.0 * f64::EPSILON * measured * 8.0;
        assert_close(prior + likelihood, posterior_density + marginal, tolerance);
    }

    /// From one parametrization's output to x̂₀ and ε̂, to another's output, and back.
    #[test]
    fn every_pair_of_parametrizations_goes_round(
        [_, level] in some_levels(),
        x0 in -3.0..3.0,
        eps in -3.0..3.0,
    ) {
        let (a, b) = (level.signal(), level.noise());
        let x_t = a * x0 + b * eps;
        // The effect of a rounding of x_t on x₀ = (x_t − bε)/a and on ε = (x_t − ax₀)/b.
        let size = f64::abs(a * x0) + f64::abs(b * eps) + 1.0;
        let tolerance = 1e-14 * size * (1.0 + b / a) * (1.0 + a / b) * (1.0 + 1.0 / a.min(b));
        for from in Parametrization::ALL {
            for to in Parametrization::ALL {
                let output = |parametrization: Parametrization, x0: f64, eps: f64| {
                    let target = parametrization.target(level);
                    target.x0 * x0 + target.eps * eps
                };
                let x0_of = |parametrization: Parametrization, output: f64| {
                    let c = parametrization.preconditioning(level)?;
                    Some(c.c_skip * x_t + c.c_out * output)
                };
                let eps_of = |x0: f64| (x_t - a * x0) / b;
                let first = output(from, x0, eps);
                let Some(there) = x0_of(from, first) else { continue };
                let second = output(to, there, eps_of(there));
                let Some(back) = x0_of(to, second) else { continue };
                assert_close(there, x0, tolerance);
                assert_close(back, x0, tolerance);
                assert_close(output(from, back, eps_of(back)), first, tolerance * (1.0 + a / b));
            }
        }
    }

    /// Song et al. 2020, lemma 1, along a whole trajectory: while x̂₀ is x₀, every x visited
    /// has the marginal of its level, N(a·x₀, b²), for every η and every choice of times.
    #[test]
    fn ddim_keeps_the_marginals_for_every_eta(
        chain in chain(),
        visited in array::uniform(any::<bool>()),
        eta in 0.0..=1.0,
    ) {
        let schedule = chain.schedule();
        let ddim = Ddim { eta: Eta::new(eta).unwrap() };
        let (_, levels) = subsequence(&schedule, &visited);
        let start = levels.start();
        // The factors of x₀ and of the noise of the start, and of the step's own.
        let (mut signal, mut variance) = (start.signal(), start.noise().powi(2));
        for (t, s) in levels.pairs() {
            let x = vec![signal, variance.sqrt(), 0.0];
            let x0 = |_: &[f64], _| vec![1.0, 0.0, 0.0];
            let x = run(&ddim, &[t, s], x, x0, |_| vec![0.0, 0.0, 1.0]).unwrap();
            (signal, variance) = (x[0], x[1].powi(2) + x[2].powi(2));
            // Errors shrink with the noise, and up to forty add up.
            assert_relative(signal, s.signal(), 1e-11 * (1.0 + t.noise() / s.signal()));
            assert_relative(variance, s.noise().powi(2), 1e-11);
        }
        assert_eq!((signal, variance), (1.0, 0.0));
    }

    /// A process respaced to any of its times keeps their ᾱ, and each of its steps is the product
    /// of the steps that it skips.
    #[test]
    fn respacing_keeps_alpha_bar(chain in chain(), visited in array::uniform(any::<bool>())) {
        let schedule = chain.schedule();
        let (times, levels) = subsequence(&schedule, &visited);
        let visited = levels.as_slice()[..levels.len()].iter().rev();
        let respaced = NoiseSchedule::from_levels(visited.copied()).unwrap();
        for ((new, t), (level, s)) in respaced.iter().rev().zip(times).zip(levels.pairs()) {
            assert_eq!(respaced.level(new), level);
            assert_eq!(respaced.level(new).alpha_bar(), schedule.level(t).alpha_bar());
            assert_eq!(respaced.previous(new), s);
            assert_eq!(respaced.before(level), s);
            assert_eq!(schedule.nearest(level), t);
            let leapt = schedule.iter().filter(|&u| u <= t && schedule.level(u).log_snr() < s.log_snr());
            let (signal, variance) = leapt.fold((1.0, 0.0), |(signal, variance), u| {
                let step = schedule.level(u).transition(schedule.previous(u));
                (step.signal * signal, step.signal.powi(2) * variance + schedule.beta(u))
            });
            assert_relative(level.transition(s).signal, signal, 1e-12);
            assert_relative(respaced.beta(new), variance, 10.0 * rounding(level, s));
        }
    }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn a_hundred_thousand_transitions_compose_to_the_marginal(chain in long()) {
        assert_steps_make_the_marginals(&chain);
    }
}

/// The chosen times of a schedule of T ≤ 40 and its last time; and the levels from there to clean
/// data.
fn subsequence(schedule: &NoiseSchedule, chosen: &[bool; 40]) -> (Vec<Timestep>, Levels) {
    let visited = schedule.iter().rev().zip(chosen);
    let visited = visited.filter(|&(t, &chosen)| chosen || t == schedule.last());
    let times: Vec<_> = visited.map(|(t, _)| t).collect();
    let levels = times.iter().map(|&t| schedule.level(t));
    let levels = Levels::new(levels.chain([NoiseLevel::CLEAN])).unwrap();
    (times, levels)
}
