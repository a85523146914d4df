//! Schedules: their processes step by step, and zero terminal SNR.

use ddpm_schedule::{NoiseLevel, NoiseSchedule, Timestep};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{assert_close, assert_relative};

/// Rounding of a one-step variance: 2⁻⁵² times |λ| < 50, over Δ > 10⁻³.
const ONE_STEP: f64 = 1e-10;

fn betas() -> impl Strategy<Value = Vec<f64>> {
    vec(1e-3..0.5, 1..60)
}

#[test]
fn timesteps_count_from_one_and_networks_from_zero() {
    let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap();
    assert_eq!(schedule.timesteps(), 1000);
    assert_eq!(schedule.timestep(0), None);
    assert_eq!(schedule.timestep(1001), None);
    assert_eq!(schedule.timestep(1000), Some(schedule.last()));
    assert_eq!(schedule.last().get(), 1000);
    assert_eq!(schedule.last().network_input(), 999.0);
    assert_eq!(schedule.timestep(1).unwrap().network_input(), 0.0);
    assert_eq!(schedule.iter().len(), 1000);
    assert!(schedule.iter().map(Timestep::get).eq(1..=1000));
    assert!(
        schedule
            .iter()
            .rev()
            .map(Timestep::get)
            .eq((1..=1000).rev())
    );
}

#[test]
fn clean_data_precedes_the_first_timestep() {
    let schedule = NoiseSchedule::linear(3, 0.1, 0.3).unwrap();
    let [t1, t2, t3] = [1, 2, 3].map(|t| schedule.timestep(t).unwrap());
    assert_eq!(schedule.previous(t1), NoiseLevel::CLEAN);
    assert_eq!(schedule.previous(t2), schedule.level(t1));
    assert_eq!(schedule.previous(t3), schedule.level(t2));
    assert_eq!(schedule.posterior_variance(t1), 0.0);
}

/// Here 1−β is 1 in f64, and a product of them would stay there.
#[test]
fn betas_below_the_rounding_of_one_are_kept() {
    let schedule = NoiseSchedule::from_betas([1e-18, 3e-18]).unwrap();
    assert_relative(schedule.beta(schedule.last()), 3e-18, 1e-13);
    assert_relative(schedule.level(schedule.last()).noise(), 2e-9, 1e-13);
}

#[test]
fn the_ends_of_linear_schedules_are_the_betas_given() {
    for timesteps in [1, 2, 1000] {
        for make in [NoiseSchedule::linear, NoiseSchedule::scaled_linear] {
            let schedule = make(timesteps, 0.01, 0.05).unwrap();
            let first = schedule.timestep(1).unwrap();
            assert_relative(schedule.beta(first), 0.01, ONE_STEP);
            if timesteps > 1 {
                assert_relative(schedule.beta(schedule.last()), 0.05, ONE_STEP);
            }
        }
    }
}

#[test]
fn the_middle_of_scaled_linear_is_linear_in_the_root() {
    let schedule = NoiseSchedule::scaled_linear(3, 0.01, 0.09).unwrap();
    // √β = 0.1, 0.2, 0.3.
    assert_relative(schedule.beta(schedule.timestep(2).unwrap()), 0.04, ONE_STEP);
}

#[test]
fn one_timestep_of_the_capped_schedules_has_the_capped_beta() {
    for schedule in [
        NoiseSchedule::cosine(1, 0.008),
        NoiseSchedule::cosine(1, 0.0),
        NoiseSchedule::sigmoid(1, -3.0, 3.0, 1.0),
    ] {
        let schedule = schedule.unwrap();
        assert_relative(schedule.beta(schedule.last()), 0.999, ONE_STEP);
    }
}

#[test]
fn a_sharper_sigmoid_still_follows_its_definition() {
    let (timesteps, start, end, tau) = (40, 0.0, 3.0, 0.7);
    let schedule = NoiseSchedule::sigmoid(timesteps, start, end, tau).unwrap();
    let logistic = |x: f64| 1.0 / (1.0 + (-x / tau).exp());
    let x = |t: u32| start + (end - start) * f64::from(t) / f64::from(timesteps);
    // T itself is left out: there β is capped.
    for t in schedule.iter().rev().skip(1) {
        let fall = logistic(end) - logistic(x(t.get()));
        let expected = fall / (logistic(end) - logistic(start));
        assert_relative(schedule.level(t).alpha_bar(), expected, 1e-11);
    }
}

/// Given both ends, a random walk is a Brownian bridge: it passes s = t−1 at
/// x₀ + (t−1)/t·(x_t − x₀), with variance σ²(t−1)/t.
#[test]
fn the_random_walk_has_a_brownian_bridge_for_posterior() {
    let sigma = 0.3_f64;
    let schedule = NoiseSchedule::random_walk(200, sigma).unwrap();
    for t in schedule.iter() {
        let level = schedule.level(t);
        let share = f64::from(t.get() - 1) / f64::from(t.get());
        assert_eq!(level.signal(), 1.0);
        assert_relative(level.noise(), sigma * f64::from(t.get()).sqrt(), 1e-14);
        assert_relative(schedule.beta(t), sigma * sigma, ONE_STEP);
        let posterior = level.posterior(schedule.previous(t));
        assert_close(posterior.x_t, share, 1e-13);
        assert_close(posterior.x0, 1.0 - share, 1e-13);
        assert_close(schedule.posterior_variance(t), sigma * sigma * share, 1e-13);
    }
}

#[test]
fn a_walk_can_be_given_by_its_levels() {
    let levels = (1..=9).map(|t| NoiseLevel::variance_exploding(f64::from(t).sqrt()).unwrap());
    assert_eq!(
        NoiseSchedule::from_levels(levels),
        NoiseSchedule::random_walk(9, 1.0)
    );
}

#[test]
#[should_panic(expected = "index out of bounds")]
fn the_level_of_a_longer_schedules_time_panics() {
    let [short, long] = [3, 4].map(|n| NoiseSchedule::random_walk(n, 1.0).unwrap());
    short.level(long.last());
}

#[test]
#[should_panic(expected = "out of range")]
fn the_previous_level_of_a_longer_schedules_time_panics() {
    let [short, long] = [3, 4].map(|n| NoiseSchedule::random_walk(n, 1.0).unwrap());
    short.previous(long.last());
}

/// Rescaling a second time changes nothing but the rounding.
#[test]
fn rescaling_twice_is_rescaling_once() {
    let once = NoiseSchedule::linear(1000, 1e-4, 0.02)
        .and_then(|schedule| schedule.rescale_zero_terminal_snr())
        .unwrap();
    let twice = once.rescale_zero_terminal_snr().unwrap();
    for t in once.iter() {
        assert_relative(twice.level(t).alpha_bar(), once.level(t).alpha_bar(), 1e-11);
    }
}

proptest! {
    /// Ho et al. 2020: ᾱ_t is the product of 1−β, β̃_t = β_t(1−ᾱ_{t−1})/(1−ᾱ_t), and
    /// each β comes back from the levels.
    #[test]
    fn levels_follow_from_betas_as_in_the_paper(betas in betas()) {
        let schedule = NoiseSchedule::from_betas(betas.iter().copied()).unwrap();
        let mut previous = 1.0;
        for (t, beta) in schedule.iter().zip(betas) {
            let alpha_bar = previous * (1.0 - beta);
            let level = schedule.level(t);
            assert_relative(level.alpha_bar(), alpha_bar, 1e-13);
            assert_relative(level.prior_std(), 1.0, 1e-15);
            assert_relative(schedule.beta(t), beta, ONE_STEP);
            // 1−ᾱ here is a difference, of 10⁻³ at least.
            let variance = beta * (1.0 - previous) / (1.0 - alpha_bar);
            assert_relative(schedule.posterior_variance(t), variance, ONE_STEP);
            previous = alpha_bar;
        }
    }

    /// Lin et al. 2023, algorithm 1, written as there.
    #[test]
    fn rescaling_ends_at_zero_snr_and_keeps_the_start(mut betas in betas()) {
        betas.push(0.1);
        let schedule = NoiseSchedule::from_betas(betas).unwrap();
        let rescaled = schedule.rescale_zero_terminal_snr().unwrap();
        let first = schedule.timestep(1).unwrap();
        assert_eq!(rescaled.level(first), schedule.level(first));
        assert_eq!(rescaled.level(rescaled.last()).signal(), 0.0);
        assert_eq!(rescaled.level(rescaled.last()).noise(), 1.0);
        let [a1, a_last] = [first, schedule.last()].map(|t| schedule.level(t).signal());
        for t in schedule.iter() {
            let a = (schedule.level(t).signal() - a_last) * a1 / (a1 - a_last);
            // Both routes subtract a_T from numbers of size 1, and a₁ − a_T > 10⁻⁴.
            assert_close(rescaled.level(t).signal(), a, 1e-11);
            assert_relative(rescaled.level(t).prior_std(), 1.0, 1e-15);
        }
    }
}
