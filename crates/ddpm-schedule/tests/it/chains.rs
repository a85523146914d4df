//! Random processes, written as one would write them down: β or (a, λ), in few digits.

use std::ops::RangeInclusive;

use ddpm_schedule::{NoiseLevel, NoiseSchedule};
use proptest::collection::vec;
use proptest::prelude::*;

/// A forward process by its definition, T = 1 to 40.
#[derive(Clone, Debug)]
pub(crate) enum Chain {
    /// x_t = √(1−β_t)·x_{t−1} + √β_t·ε.
    Ddpm { betas: Vec<f64> },
    /// x_t = x_{t−1} + σ·ε.
    RandomWalk { timesteps: u32, sigma: f64 },
    /// x_t = a·x₀ + b·ε where λ falls from 8 and a is whatever it is.
    AnySignal {
        a_and_fall_of_log_snr: Vec<(f64, f64)>,
    },
}

impl Chain {
    pub(crate) fn schedule(&self) -> NoiseSchedule {
        match self {
            Self::Ddpm { betas } => NoiseSchedule::from_betas(betas.iter().copied()),
            &Self::RandomWalk { timesteps, sigma } => NoiseSchedule::random_walk(timesteps, sigma),
            Self::AnySignal {
                a_and_fall_of_log_snr,
            } => {
                let mut log_snr = 8.0;
                NoiseSchedule::from_levels(a_and_fall_of_log_snr.iter().map(|&(a, fall)| {
                    log_snr -= fall;
                    NoiseLevel::new(a, a * (-0.5 * log_snr).exp()).unwrap()
                }))
            }
        }
        .unwrap()
    }
}

/// 10^−k.
fn power(k: RangeInclusive<i32>) -> impl Strategy<Value = f64> {
    k.prop_map(|k| 10_f64.powi(-k))
}

/// β everywhere in (0, 1), down to 10⁻⁹ and up to 1 − 10⁻⁶.
fn beta() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (1..1000).prop_map(|n| f64::from(n) / 1000.0),
        2 => power(3..=9),
        1 => power(1..=6).prop_map(|x| 1.0 - x),
    ]
}

/// The two processes that are defined by their steps.
pub(crate) fn stepwise() -> impl Strategy<Value = Chain> {
    let sigma = prop_oneof![(1..100).prop_map(f64::from), power(0..=6)];
    prop_oneof![
        3 => vec(beta(), 1..=40).prop_map(|betas| Chain::Ddpm { betas }),
        1 => (1..=40_u32, sigma)
            .prop_map(|(timesteps, sigma)| Chain::RandomWalk { timesteps, sigma }),
    ]
}

/// Any Gaussian process.
pub(crate) fn chain() -> impl Strategy<Value = Chain> {
    let signal = (1..=30).prop_map(|n| f64::from(n) / 10.0);
    let fall = (1..=300).prop_map(|n| f64::from(n) / 100.0);
    prop_oneof![
        3 => stepwise(),
        1 => vec((signal, fall), 1..=40)
            .prop_map(|a_and_fall_of_log_snr| Chain::AnySignal { a_and_fall_of_log_snr }),
    ]
}

/// The relative error of what is made from t's level and s's: λ is rounded to 2⁻⁵² of
/// itself, and so is the exponent of every coefficient; Δ, a difference of two λ, keeps
/// that error whole, and expm1(Δ) divides it by Δ where Δ is small. Of such errors a formula
/// here adds up a few.
pub(crate) fn rounding(t: NoiseLevel, s: NoiseLevel) -> f64 {
    let size = |level: NoiseLevel| match level.log_snr() {
        log_snr if log_snr.is_finite() => log_snr.abs(),
        _ => 0.0, // an infinite λ is exact
    };
    let delta = (s.log_snr() - t.log_snr()).min(1.0);
    8.0 * f64::EPSILON * (4.0 + size(t) + size(s)) / delta
}
