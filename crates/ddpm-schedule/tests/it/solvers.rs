//! The solvers against sums from other libraries, in f64, to 10⁻⁹.

#![allow(
    clippy::unreadable_literal,
    reason = "the numbers are as the libraries print them"
)]

mod adams;
mod blocks;
pub(crate) mod ddim;
pub(crate) mod ddpm;
mod distilled;
mod euler;
mod exponential;
mod grids;
mod known;
mod known_multistep;
mod laws;
mod multistep;
mod orders;
mod sigma;

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

/// The same numbers in the opposite order.
pub(crate) fn noise() -> Vec<f64> {
    sample().into_iter().map(|x| 767.0 / 768.0 - x).collect()
}

/// T = 1000, β from 10⁻⁴ to 0.02.
pub(crate) fn lin() -> NoiseSchedule {
    NoiseSchedule::linear(1000, 1e-4, 0.02).unwrap()
}

/// The fixture's network x·τ/(τ+1), where τ is the network time of each level.
pub(crate) fn network(
    parametrization: Parametrization,
    time: impl Fn(NoiseLevel) -> f64,
) -> impl Fn(f64, NoiseLevel) -> Said {
    move |x, at| {
        let tau = time(at);
        let output = x * tau / (tau + 1.0);
        let known = parametrization.preconditioning(at).unwrap();
        Said::x0(known.c_skip * x + known.c_out * output, x, at)
    }
}

/// The whole part of a number.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times are small and not negative"
)]
pub(crate) fn whole(x: f64) -> u32 {
    x as u32
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

/// For noise: torch computes it in single precision, with a logarithm, a sine and a cosine whose
/// last digit can differ from ours.
#[track_caller]
pub(crate) fn assert_seeded(x: &[f64], expected: f64) {
    assert_relative(size(x), expected, 1e-7);
}

/// Comparisons that are all made before the test fails.
pub(crate) struct Check {
    faults: Vec<String>,
}

impl Check {
    pub(crate) fn new() -> Self {
        let faults = Vec::new();
        Self { faults }
    }

    /// |got/expected − 1| ≤ `tolerance`, unless nothing is expected.
    pub(crate) fn relative(&mut self, name: &str, got: f64, expected: f64, tolerance: f64) {
        let error = (got / expected - 1.0).abs();
        if !(error <= tolerance || expected.is_nan()) {
            let fault = format!("{name}: {got} is not {expected}: off by {error:.1e}");
            self.faults.push(fault);
        }
    }

    /// |got − expected| ≤ `tolerance`.
    pub(crate) fn close(&mut self, name: &str, got: f64, expected: f64, tolerance: f64) {
        let error = (got - expected).abs();
        if error.is_nan() || error > tolerance {
            let fault = format!("{name}: {got} is not {expected}: off by {error:.1e}");
            self.faults.push(fault);
        }
    }

    #[track_caller]
    pub(crate) fn done(self) {
        assert!(self.faults.is_empty(), "\n{}", self.faults.join("\n"));
    }
}
