//! Against numbers of 60 digits from `golden.py`: the published schedules in `golden.tsv`,
//! the decoder of 8-bit data in `decoder.tsv`.

use ddpm_schedule::bound::{Gaussian, decoder_nll};
use ddpm_schedule::{NoiseSchedule, ScheduleError};

use crate::{assert_close, assert_relative};

const SCHEDULES: &str = include_str!("golden.tsv");
const DECODER: &str = include_str!("decoder.tsv");

/// Each λ has an absolute error of at most 20 units of 2⁻⁵² times its size, and so has every number
/// made from it: 10⁻¹⁴. β and β̃ also divide by the step's Δ, at least 10⁻³. That leaves 10⁻¹¹ for
/// them, 10⁻¹² for ᾱ and λ.
const LEVEL: f64 = 1e-12;
const VARIANCE: f64 = 1e-11;

fn published(name: &str) -> Result<NoiseSchedule, ScheduleError> {
    let linear = || NoiseSchedule::linear(1000, 1e-4, 0.02);
    let scaled_linear = || NoiseSchedule::scaled_linear(1000, 0.000_85, 0.012);
    match name {
        "linear" => linear(),
        "scaled_linear" => scaled_linear(),
        "cosine" => NoiseSchedule::cosine(1000, 0.008),
        "sigmoid" => NoiseSchedule::sigmoid(1000, -3.0, 3.0, 1.0),
        "random_walk" => NoiseSchedule::random_walk(1000, 0.3),
        "linear_zero_snr" => linear()?.rescale_zero_terminal_snr(),
        "scaled_linear_zero_snr" => scaled_linear()?.rescale_zero_terminal_snr(),
        _ => panic!("golden.tsv has an unknown schedule {name}"),
    }
}

/// The cells of each row below the heading.
fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    table.lines().skip(1).map(|line| line.split('\t').collect())
}

#[test]
fn published_schedules_have_the_golden_values() {
    for row in rows(SCHEDULES) {
        let schedule = published(row[0]).unwrap();
        let t = schedule.timestep(row[1].parse().unwrap()).unwrap();
        let [alpha_bar, beta, beta_tilde, log_snr] =
            [2, 3, 4, 5].map(|i| row[i].parse::<f64>().unwrap());
        let level = schedule.level(t);
        assert_relative(level.alpha_bar(), alpha_bar, LEVEL);
        assert_relative(schedule.beta(t), beta, VARIANCE);
        assert_relative(schedule.posterior_variance(t), beta_tilde, VARIANCE);
        if log_snr.is_finite() {
            // λ is zero where signal and noise balance, hence the 1.
            assert_close(level.log_snr(), log_snr, LEVEL * log_snr.abs().max(1.0));
        } else {
            assert_eq!(level.log_snr(), log_snr);
        }
    }
    assert_eq!(rows(SCHEDULES).count(), 7 * 8);
}

/// From the middle of a bin to 50 000 standard deviations away, in bins from 170 times as wide as σ
/// to 2500 times as narrow. The squared distance rounds to 2⁻⁵² of the result, and the bin, a
/// difference of two tails of size 1, to 2⁻⁵² of 2/(255·σ), a few times each.
#[test]
fn the_decoder_has_the_golden_values() {
    for row in rows(DECODER) {
        let [mean, log_variance, nll] = [1, 2, 3].map(|i| row[i].parse::<f64>().unwrap());
        let found = decoder_nll(
            row[0].parse().unwrap(),
            255,
            Gaussian { mean, log_variance },
        );
        let narrow = (0.5 * log_variance).exp().max(1.0);
        assert_close(found, nll, 1e-14 * nll + 1e-13 * narrow);
    }
    assert_eq!(rows(DECODER).count(), 7 * 6 * 6);
}
