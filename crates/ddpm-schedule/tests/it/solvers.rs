//! The solvers against the sums that other libraries come to, in f64, to 10⁻⁹.

mod exponential;
mod multistep;

use ddpm_schedule::{NoiseLevel, NoiseSchedule, Parametrization};

use crate::assert_relative;
use crate::scalars::Said;

/// Σ|x|.
pub(crate) fn size(x: &[f64]) -> f64 {
    x.iter().map(|x| x.abs()).sum()
}

/// `sample[b, c, h, w]` = (((c·8 + h)·8 + w)·4 + b)/768, rows first.
pub(crate) fn sample() -> Vec<f64> {
    let value = |i: usize| (i % 192) * 4 + i / 192;
    (0..768).map(|i| value(i) as f64 / 768.0).collect()
}

/// T = 1000, β from 10⁻⁴ to 0.02.
pub(crate) fn lin() -> NoiseSchedule {
    NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap()
}

/// The fixture's network x·τ/(τ+1), told τ at each level.
pub(crate) fn network(
    parametrization: Parametrization,
    time: impl Fn(NoiseLevel) -> f64,
) -> impl Fn(f64, NoiseLevel) -> Said {
    move |x, at| {
        let tau = time(at);
        let output = x * tau / (tau + 1.0);
        let denoise = parametrization.denoise(at).unwrap();
        Said::x0(denoise.x_t * x + denoise.output * output, x, at)
    }
}

/// The index of the timestep of `schedule` that has this level exactly.
pub(crate) fn index(schedule: &NoiseSchedule) -> impl Fn(NoiseLevel) -> f64 {
    move |at| {
        let t = schedule.iter().find(|&t| schedule.level(t) == at);
        f64::from(t.expect("a level of the schedule").get() - 1)
    }
}

#[track_caller]
pub(crate) fn assert_sum(x: &[f64], expected: f64) {
    assert_relative(size(x), expected, 1e-9);
}

/// For noise that torch computes in single precision, and this test in double, rounded at the end:
/// each number differs by about 3·10⁻⁸.
#[track_caller]
pub(crate) fn assert_seeded(x: &[f64], expected: f64) {
    assert_relative(size(x), expected, 1e-7);
}
