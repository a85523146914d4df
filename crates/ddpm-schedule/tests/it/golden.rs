//! The published schedules against `golden.csv`, which `golden.py` makes at 60 digits.

use ddpm_schedule::{NoiseSchedule, ScheduleError};

use crate::{assert_close, assert_relative};

const GOLDEN: &str = include_str!("../golden.csv");

/// Each λ carries an absolute error of a few units of 2⁻⁵² times its size, at most
/// 20, and so does everything made from it: 10⁻¹⁴. β̃ also divides by the step's Δ,
/// 10⁻² where it is least. That leaves 10⁻¹², and ᾱ and λ keep to it easily.
const TOLERANCE: f64 = 1e-12;

fn published(name: &str) -> Result<NoiseSchedule, ScheduleError> {
    match name {
        "linear" => NoiseSchedule::linear(1000, 1e-4, 0.02),
        "scaled_linear" => NoiseSchedule::scaled_linear(1000, 0.000_85, 0.012),
        "cosine" => NoiseSchedule::cosine(1000, 0.008),
        "sigmoid" => NoiseSchedule::sigmoid(1000, -3.0, 3.0, 1.0),
        _ => panic!("golden.csv has an unknown schedule {name}"),
    }
}

#[test]
fn published_schedules_have_the_golden_values() {
    let mut rows = 0;
    for line in GOLDEN.lines().skip(1) {
        let columns: Vec<_> = line.split(',').collect();
        let schedule = published(columns[0]).unwrap();
        let t = schedule.timestep(columns[1].parse().unwrap()).unwrap();
        let [alpha_bar, variance, log_snr] = [2, 3, 4].map(|i| columns[i].parse::<f64>().unwrap());
        let level = schedule.level(t);
        assert_relative(level.alpha_bar(), alpha_bar, TOLERANCE);
        assert_relative(schedule.posterior_variance(t), variance, TOLERANCE);
        // λ goes through zero where signal and noise balance, hence the 1.
        assert_close(level.log_snr(), log_snr, TOLERANCE * log_snr.abs().max(1.0));
        rows += 1;
    }
    assert_eq!(rows, 20);
}
