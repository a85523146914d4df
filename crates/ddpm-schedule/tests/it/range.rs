//! Numbers that tensors of single precision have no room for are refused, by name, time and size.

use ddpm_schedule::{
    Eta, NoiseLevel, NoiseSchedule, Objective, ObjectiveError, Parametrization, Sampler,
    SamplerError, Trajectory, Visit, Weighting,
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
        let error = Parametrization::Epsilon.check(&schedule).unwrap_err();
        assert_eq!(error.t, t);
        // The sum of 15,000 rounded logarithms.
        assert_relative(error.signal, ln_a.exp(), 1e-9);
        assert_eq!(
            Objective::new(
                schedule.clone(),
                Parametrization::Epsilon,
                Weighting::Simple
            ),
            Err(ObjectiveError::Parametrization(error))
        );
        for parametrization in [Parametrization::X0, Parametrization::V] {
            let objective = Objective::new(schedule.clone(), parametrization, Weighting::Simple);
            assert!(objective.is_ok(), "{objective:?}");
        }
    }
    let error = Parametrization::Epsilon.check(&linear(17_700)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Epsilon does not determine x̂₀ at t = {}, where x_t = {:.2e}·x₀ + 1·ε",
            error.t, error.signal
        )
    );
}

/// What is accepted can be multiplied by a million in single precision.
#[test]
#[expect(clippy::cast_possible_truncation, reason = "the numbers become f32")]
fn every_coefficient_of_an_objective_has_room() {
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
                    let denoise = objective.denoise(level);
                    for number in [
                        level.signal(),
                        level.noise(),
                        denoise.x_t,
                        denoise.output,
                        objective.weight(t),
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
        assert_eq!((found, at), (name, t));
        assert_relative(number, value, 1e-12);
    }
    assert_eq!(
        refused(1e40, Parametrization::V, Weighting::Simple).to_string(),
        "the noise b at t = 1 is 1.00e40, which single precision has no room for: at most 1e32"
    );
}

#[test]
fn a_sampler_takes_the_steps_of_its_trajectory() {
    let schedule = linear(1000);
    let trajectory = Trajectory::trailing(&schedule, 7).unwrap();
    for sampler in [
        Sampler::ANCESTRAL,
        Sampler::AncestralLearned,
        Sampler::DpmPp2M,
    ] {
        let steps = sampler.steps(&trajectory).unwrap();
        let mut prev = None;
        for ((t, s), step) in trajectory.pairs().zip(steps) {
            assert_eq!(step, sampler.step(prev, t.level, s));
            prev = Some(t.level);
        }
    }
}

/// Noise on the way to noise was a panic in the first step.
#[test]
fn noise_on_the_way_to_noise_is_refused() {
    let schedule = linear(1000);
    let first = schedule.level(schedule.first());
    let there = Trajectory::trailing(&schedule, 5).and_then(|there| there.ending_at(first));
    let back = there.unwrap().inverse().unwrap();
    let half = Sampler::Ddim {
        eta: Eta::new(0.5).unwrap(),
    };
    for sampler in [half, Sampler::AncestralBeta, Sampler::AncestralLearned] {
        let start = first.log_snr();
        let end = schedule.level(schedule.last()).log_snr();
        let error = SamplerError::AddsNoise {
            sampler,
            start,
            end,
        };
        assert_eq!(sampler.steps(&back), Err(error));
        assert_eq!(
            error.to_string(),
            format!(
                "{sampler:?} adds noise, and cannot go from data to noise, from a log-SNR of \
                 {start} to {end}; DDIM with η = 0 and DPM-Solver++ can"
            )
        );
    }
    for sampler in [Sampler::Ddim { eta: Eta::ZERO }, Sampler::DpmPp2M] {
        assert_eq!(sampler.steps(&back).unwrap().len(), 5);
    }
}

/// On the way to noise x̂₀ counts 1 − b_s/b_t: from b = 10⁻²⁰ to 10²⁰ that is −10⁴⁰. And an x_t
/// of width 10⁴⁰ is infinite itself.
#[test]
fn steps_beyond_single_precision_are_refused() {
    let t = linear(10).last();
    let level = |noise| NoiseLevel::new(1.0, noise).unwrap();
    let visit = |noise| Visit {
        t,
        level: level(noise),
    };
    let ddim = Sampler::Ddim { eta: Eta::ZERO };
    for (from, to, name, expected) in [
        (1e-20, 1e20, "the factor of x̂₀", -1e40),
        (1e40, 1.0, "the standard deviation of x_t", 1e40),
    ] {
        let trajectory = Trajectory::new([visit(from)], level(to)).unwrap();
        let error = ddim.steps(&trajectory).unwrap_err();
        let SamplerError::Coefficient {
            name: found,
            value,
            t: 10,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(found, name);
        assert_relative(value, expected, 1e-12);
    }
}
