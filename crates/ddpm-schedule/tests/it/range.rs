//! Numbers beyond single precision are refused; the error has the name, the time and the size.

use ddpm_schedule::solver::{
    Ddim, Ddpm, Eta, Info, Method, Position, Solver, SolverError, Variance, steps,
};
use ddpm_schedule::{
    Grid, NoiseLevel, NoiseSchedule, Objective, ObjectiveError, Parametrization, Process, Weighting,
};

use crate::assert_relative;

fn linear(timesteps: u32) -> NoiseSchedule {
    NoiseSchedule::linear(timesteps, 1e-4, 0.02).unwrap()
}

/// ln a_t for t = 1, 2, … of the linear schedule, by the plain sum.
fn ln_signals(timesteps: u32) -> impl Iterator<Item = (u32, f64)> {
    (1..=timesteps).scan(0.0, move |sum, t| {
        let share = f64::from(t - 1) / f64::from(timesteps - 1);
        *sum += 0.5 * (1.0 - (1e-4 + (0.02 - 1e-4) * share)).ln();
        Some((t, *sum))
    })
}

/// With T = 17,700 and ε the factor 1/a of x_t is 4.5·10³⁸ at the end, infinite as an f32, and
/// the factor −b/a of the output is minus that: x̂₀ was NaN. The first time refused is that of
/// 1/a above 10³². Targets without 1/a are not affected.
#[test]
fn a_schedule_too_long_for_epsilon_is_refused() {
    for timesteps in [15_000, 17_700, 40_000] {
        let schedule = linear(timesteps);
        let limit = -32.0 * 10.0_f64.ln();
        let (t, ln_a) = ln_signals(timesteps)
            .find(|&(_, ln_a)| ln_a < limit)
            .unwrap();
        let objective = Objective::new(
            schedule.clone(),
            Parametrization::Epsilon,
            Weighting::Simple,
        );
        let Err(ObjectiveError::Parametrization(error)) = objective else {
            panic!("{objective:?}");
        };
        assert_eq!(error.t, f64::from(t));
        // The error of a sum of 15,000 rounded logarithms.
        assert_relative(error.signal, ln_a.exp(), 1e-9);
        let level = schedule.level(schedule.timestep(t).unwrap());
        let refused = Parametrization::Epsilon.check(level, f64::from(t));
        assert_eq!(refused, Err(error));
        let before = schedule.before(level);
        assert_eq!(Parametrization::Epsilon.check(before, 0.0), Ok(()));
        for parametrization in [Parametrization::X0, Parametrization::V] {
            let objective = Objective::new(schedule.clone(), parametrization, Weighting::Simple);
            assert!(objective.is_ok(), "{objective:?}");
        }
    }
    let epsilon = Parametrization::Epsilon;
    let error = Objective::new(linear(17_700), epsilon, Weighting::Simple).unwrap_err();
    let message = error.to_string();
    let ObjectiveError::Parametrization(error) = error else {
        panic!("{message}");
    };
    assert_eq!(
        message,
        format!(
            "Epsilon does not determine x̂₀ at t = {}, where x_t = {:.2e}·x₀ + 1·ε",
            error.t, error.signal
        )
    );
}

/// Accepted coefficients can be multiplied by a million in single precision.
#[test]
#[expect(clippy::cast_possible_truncation, reason = "the numbers become f32")]
fn every_coefficient_of_an_objective_fits_f32() {
    let walk = |sigma| NoiseSchedule::random_walk(30, sigma).unwrap();
    let schedules = [
        linear(1000),
        linear(14_000),
        walk(1e-15),
        walk(1.0),
        walk(1e15),
    ];
    for schedule in schedules {
        for parametrization in Parametrization::ALL {
            for weighting in [
                Weighting::Simple,
                Weighting::Vlb,
                Weighting::MinSnr { gamma: 5.0 },
            ] {
                let objective = Objective::new(schedule.clone(), parametrization, weighting);
                let objective = objective.unwrap();
                for t in schedule.iter() {
                    let level = schedule.level(t);
                    let c = objective.preconditioning(level);
                    for number in [
                        level.signal(),
                        level.noise(),
                        c.c_skip,
                        c.c_out,
                        c.c_in,
                        objective.weight(level),
                    ] {
                        assert!((number as f32 * 1e6).is_finite(), "{number} at {t:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn levels_and_weights_beyond_single_precision_are_refused() {
    let refused = |sigma, parametrization, weighting| {
        let walk = NoiseSchedule::random_walk(3, sigma).unwrap();
        Objective::new(walk, parametrization, weighting).unwrap_err()
    };
    // σ√t, 1/(2σ²) with the decoder's variance for t = 1, and ½(SNR₁ − SNR₂) = 1/(4σ²).
    for (found, name, t, value) in [
        (
            refused(1e40, Parametrization::V, Weighting::Simple),
            "the noise b",
            1,
            1e40,
        ),
        (
            refused(7e31, Parametrization::X0, Weighting::Simple),
            "the noise b",
            3,
            7e31 * 3.0_f64.sqrt(),
        ),
        (
            refused(1e-20, Parametrization::X0, Weighting::Vlb),
            "the weight of the loss",
            1,
            0.5e40,
        ),
        (
            refused(1e-40, Parametrization::X0, Weighting::Simple),
            "√(½(SNR_s − SNR_t)) of the bound",
            2,
            0.5e40,
        ),
    ] {
        let ObjectiveError::Coefficient {
            name: found,
            t: at,
            value: number,
        } = found
        else {
            panic!("{found}");
        };
        assert_eq!((found, at), (name, f64::from(t)));
        assert_relative(number, value, 1e-12);
    }
    assert_eq!(
        refused(1e40, Parametrization::V, Weighting::Simple).to_string(),
        "the noise b at t = 1 is 1.00e40, but single precision allows at most 1e32"
    );
}

/// The steps of a run are those of its pairs of levels, where the past evaluations are those of the
/// earlier steps.
#[test]
fn steps_are_those_of_each_pair_of_levels() {
    let process = Process::from(linear(1000));
    let levels = Grid::Trailing.levels(&process, 7).unwrap();
    for name in ["ddpm", "ddpm-learned", "dpmpp-2m", "heun", "unipc"] {
        let solver = name.parse::<Method>().unwrap().solver(&process, &levels);
        let mut past = Vec::new();
        let taken = steps(&solver, levels.as_slice()).unwrap();
        assert_eq!(taken.len(), levels.len());
        for (i, ((t, s), step)) in levels.pairs().zip(taken).enumerate() {
            let (past_, left) = (&past[..], Some(levels.len() - 1 - i));
            let past_ = Position {
                past: past_,
                t,
                s,
                left,
            };
            assert_eq!(step, solver.step(&past_), "{name}");
            past.splice(0..0, step.asks.iter().rev().map(|ask| ask.0));
        }
    }
}

/// A stochastic step towards noise used to panic.
#[test]
fn stochastic_steps_towards_noise_are_refused() {
    let schedule = linear(1000);
    let process = Process::from(schedule.clone());
    let first = schedule.level(schedule.first());
    let there = Grid::Trailing.levels(&process, 5).unwrap();
    let back = there.ending_at(first).unwrap().inverse().unwrap();
    let half = Eta::new(0.5).unwrap();
    let (variance, eta) = (Variance::Large, half);
    let solvers: [&dyn Solver; 4] = [
        &Ddim { eta },
        &Ddpm { variance },
        &Ddpm {
            variance: Variance::Small,
        },
        &Ddpm {
            variance: Variance::Learned,
        },
    ];
    let from = first.log_snr();
    let to = back.as_slice()[1].log_snr();
    for solver in solvers {
        let error = SolverError::AddsNoise { from, to };
        assert_eq!(steps(&solver, back.as_slice()), Err(error));
        assert_eq!(
            error.to_string(),
            format!(
                "the sampler adds noise, so it cannot step towards noise, from a log-SNR of {from} \
                 to {to}; use one without noise, such as ddim with η = 0"
            )
        );
    }
    // Each solver of the table adds noise or can step towards noise.
    for info in Info::all() {
        let method: Method = info.name.parse().unwrap();
        let solver = method.solver(&process, &back);
        let taken = steps(&solver, back.as_slice());
        if info.stochastic {
            assert_eq!(
                taken,
                Err(SolverError::AddsNoise { from, to }),
                "{}",
                info.name
            );
        } else {
            assert_eq!(taken.map(|steps| steps.len()), Ok(5), "{}", info.name);
        }
    }
}

/// In a step towards noise the factor of x is b_s/b_t: from b = 10⁻²⁰ to 10²⁰ that is 10⁴⁰. An x_t
/// with a standard deviation of 10⁴⁰ is infinite itself.
#[test]
fn steps_beyond_single_precision_are_refused() {
    let level = |noise| NoiseLevel::new(1.0, noise).unwrap();
    let ddim = Ddim { eta: Eta::ZERO };
    for (from, to, name, expected) in [
        (1e-20, 1e20, "the factor of x", 1e40),
        (1e40, 1.0, "the standard deviation of x_t", 1e40),
    ] {
        let error = steps(&ddim, &[level(from), level(to)]).unwrap_err();
        let SolverError::Coefficient {
            name: found, value, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(found, name);
        assert_relative(value, expected, 1e-12);
    }
}
