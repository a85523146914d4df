//! Drawing t: uniform, by importance, stratified.

use ddpm_schedule::{
    LossHistory, LossHistoryError, NoiseSchedule, TimestepDistribution, stratified,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{assert_close, assert_relative};

fn walk(timesteps: u32) -> NoiseSchedule {
    NoiseSchedule::random_walk(timesteps, 1.0).unwrap()
}

/// Ten losses of each t = 1, 2, ….
fn full(losses: &[f64]) -> (NoiseSchedule, LossHistory) {
    let schedule = walk(u32::try_from(losses.len()).unwrap());
    let rows = losses.iter().map(|&loss| vec![loss; LossHistory::LENGTH]);
    let history = LossHistory::from_losses(&schedule, rows).unwrap();
    (schedule, history)
}

#[test]
fn times_are_uniform_until_each_has_ten_losses() {
    let schedule = walk(4);
    let mut history = LossHistory::new(&schedule);
    let uniform = TimestepDistribution::uniform(&schedule);
    let last = schedule.last();
    for t in schedule.iter() {
        for loss in [1.0, 5.0, 2.0, 1.0, 3.0, 1.0, 9.0, 1.0, 1.0] {
            history.record(t, loss).unwrap();
            assert_eq!(history.distribution(), uniform);
        }
        if t != last {
            history.record(t, 1.0).unwrap();
            assert_eq!(history.distribution(), uniform);
        }
    }
    history.record(last, 1.0).unwrap();
    assert_relative(history.distribution().probability(last), 0.25, 1e-15);
    history.record(last, 50.0).unwrap();
    assert!(history.distribution().probability(last) > 0.25);
}

#[test]
fn the_oldest_loss_makes_room() {
    let schedule = walk(2);
    let mut history = LossHistory::new(&schedule);
    for n in 0..13 {
        history.record(schedule.last(), f64::from(n)).unwrap();
    }
    let kept: Vec<f64> = (3..13).map(f64::from).collect();
    assert_eq!(history.losses(schedule.last()), kept);
    assert!(history.losses(schedule.timestep(1).unwrap()).is_empty());
}

/// Nichol & Dhariwal 2021, eq. 18: √E[L²] of (3, 4)-mixtures, by hand, with 0.001 of 1/T.
#[test]
fn probabilities_follow_the_root_mean_square() {
    let schedule = walk(2);
    let mixed = [3.0, 4.0].repeat(5); // E[L²] = 12.5
    let rows = [mixed, vec![-2.0; 10]]; // E[L²] = 4
    let history = LossHistory::from_losses(&schedule, rows).unwrap();
    let distribution = history.distribution();
    let share = 12.5_f64.sqrt() / (12.5_f64.sqrt() + 2.0);
    let first = schedule.timestep(1).unwrap();
    let expected = 0.999 * share + 0.001 / 2.0;
    assert_relative(distribution.probability(first), expected, 1e-14);
    assert_relative(distribution.weight(first), 0.5 / expected, 1e-14);
}

#[test]
fn losses_of_zero_make_times_uniform_or_rare() {
    let (schedule, zero) = full(&[0.0; 3]);
    assert_eq!(
        zero.distribution(),
        TimestepDistribution::uniform(&schedule)
    );
    let (schedule, history) = full(&[0.0, 1.0]);
    let rare = history
        .distribution()
        .probability(schedule.timestep(1).unwrap());
    assert_relative(rare, 0.0005, 1e-12);
}

#[test]
fn histories_of_another_shape_or_not_finite_are_refused() {
    let schedule = walk(3);
    let from = |rows: Vec<Vec<f64>>| LossHistory::from_losses(&schedule, rows).unwrap_err();
    let error = from(vec![vec![]; 2]);
    assert_eq!(
        error,
        LossHistoryError::Timesteps {
            rows: 2,
            timesteps: 3
        }
    );
    assert_eq!(
        error.to_string(),
        "the history has 2 timesteps, but the schedule has 3"
    );
    let error = from(vec![vec![], vec![1.0; 11], vec![]]);
    assert_eq!(error, LossHistoryError::Length { t: 2, length: 11 });
    assert_eq!(
        error.to_string(),
        "the history at t = 2 has 11 losses, more than 10"
    );
    let error = from(vec![vec![], vec![1.0], vec![2.0, f64::NAN]]);
    assert_eq!(
        error.to_string(),
        "the loss at t = 3 is NaN, not a finite number"
    );
    let mut history = LossHistory::new(&schedule);
    let loss = f64::INFINITY;
    let refused = history.record(schedule.last(), loss);
    assert_eq!(refused, Err(LossHistoryError::Loss { t: 3, loss }));
    assert!(history.losses(schedule.last()).is_empty());
}

#[test]
fn arguments_outside_the_unit_interval_are_clamped() {
    let schedule = walk(5);
    let distribution = TimestepDistribution::uniform(&schedule);
    for (u, t) in [
        (-1.0, 1),
        (0.0, 1),
        (0.2, 2),
        (1.0, 5),
        (7.0, 5),
        (f64::NAN, 1),
    ] {
        assert_eq!(distribution.quantile(u).get(), t, "u = {u}");
    }
}

/// The smallest variance that the weights allow: with p ∝ L it is 0 up to the uniform part of
/// 0.001, for any spread of L.
#[test]
fn importance_sampling_reduces_the_variance() {
    let losses = [100.0, 10.0, 1.0, 0.1];
    let (schedule, history) = full(&losses);
    let variance = |distribution: &TimestepDistribution| {
        let mean = losses.iter().sum::<f64>() / 4.0;
        let square = |(t, loss): (_, &f64)| {
            distribution.probability(t) * (distribution.weight(t) * loss - mean).powi(2)
        };
        schedule.iter().zip(&losses).map(square).sum::<f64>()
    };
    let uniform = variance(&TimestepDistribution::uniform(&schedule));
    assert!(variance(&history.distribution()) < 1e-3 * uniform);
}

proptest! {
    /// The losses of a history restore it.
    #[test]
    fn a_history_is_its_losses(rows in vec(vec(0.0..9.0, 0..=10), 1..20)) {
        let schedule = walk(u32::try_from(rows.len()).unwrap());
        let history = LossHistory::from_losses(&schedule, rows.clone()).unwrap();
        let kept: Vec<Vec<f64>> = schedule.iter().map(|t| history.losses(t).to_vec()).collect();
        assert_eq!(&kept, &rows);
        assert_eq!(LossHistory::from_losses(&schedule, kept), Ok(history));
    }

    /// Probabilities sum to 1, the weights invert them, and the quantile of the middle of each t's
    /// interval is t.
    #[test]
    fn weights_make_the_estimate_unbiased(losses in vec(1e-3..1e3_f64, 1..50)) {
        let (schedule, history) = full(&losses);
        for distribution in [history.distribution(), TimestepDistribution::uniform(&schedule)] {
            let (mut sum, mut mean) = (0.0, 0.0);
            for (t, loss) in schedule.iter().zip(&losses) {
                let p = distribution.probability(t);
                mean += p * distribution.weight(t) * loss;
                assert_eq!(distribution.quantile(sum + 0.5 * p), t);
                sum += p;
            }
            // p is a difference of sums up to 1, and at least 10⁻⁸.
            assert_relative(sum, 1.0, 1e-13);
            assert_relative(mean, losses.iter().sum::<f64>() / losses.len() as f64, 1e-13);
        }
    }

    /// t_i = ⌈T·(u + i)/n⌉ where p is uniform.
    #[test]
    fn stratified_times_leave_no_gap(u in 0.01..0.99, n in 1_u32..200, timesteps in 1_u32..200) {
        let distribution = TimestepDistribution::uniform(&walk(timesteps));
        let times: Vec<u32> = stratified(u, n).map(|u| distribution.quantile(u).get()).collect();
        assert_eq!(times.len(), n as usize);
        for (i, &t) in (0..n).zip(&times) {
            let exact = f64::from(timesteps) * (u + f64::from(i)) / f64::from(n);
            // Both neighbours of an integer are correct where rounding decides.
            let distance = f64::from(t) - exact;
            assert!((-1e-12..1.0 + 1e-12).contains(&distance), "t = {t} for {exact}");
        }
        // Each time occurs ⌊n/T⌋ or ⌈n/T⌉ times.
        for t in 1..=timesteps {
            let count = u32::try_from(times.iter().filter(|&&x| x == t).count()).unwrap();
            assert!(count == n / timesteps || count == n.div_ceil(timesteps), "{count} of {t}");
        }
    }

    /// The mean over a stratified batch of t, u being uniform, is the mean over p.
    #[test]
    fn stratified_draws_have_the_distribution(losses in vec(0.1..10.0_f64, 1..8), n in 1_u32..5) {
        let (schedule, history) = full(&losses);
        let distribution = history.distribution();
        let grid: u32 = 2000;
        for t in schedule.iter() {
            let draws = stratified(0.5, grid).flat_map(|u| stratified(u, n));
            let hits = draws.filter(|&u| distribution.quantile(u) == t).count();
            let frequency = hits as f64 / f64::from(grid * n);
            // Each edge of an interval is off by less than one point of the grid.
            assert_close(frequency, distribution.probability(t), 2.0 / f64::from(grid * n));
        }
    }
}
