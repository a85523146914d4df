//! Generators of cases: random processes, given by β or by (a, λ) in few digits.

use std::ops::RangeInclusive;

use ddpm_schedule::{NoiseLevel, NoiseSchedule};
use proptest::array;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// A forward process by its definition.
#[derive(Clone, Debug)]
pub(crate) enum Chain {
    /// x_t = √(1−β_t)·x_{t−1} + √β_t·ε.
    Ddpm { betas: Vec<f64> },
    /// The same where β goes up and down between `highest` and 10^−`digits` of it.
    LongDdpm {
        timesteps: u32,
        highest: f64,
        digits: i32,
    },
    /// x_t = x_{t−1} + σ·ε.
    RandomWalk { timesteps: u32, sigma: f64 },
    /// x_t = a·x₀ + b·ε, where λ falls from 8 and a is arbitrary.
    AnySignal {
        a_and_fall_of_log_snr: Vec<(f64, f64)>,
    },
}

impl Chain {
    pub(crate) fn schedule(&self) -> NoiseSchedule {
        match self {
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
            _ => NoiseSchedule::from_betas(self.betas()),
        }
        .unwrap()
    }

    /// (factor of x_{t−1}, variance) of each step; empty for a process that is not defined by
    /// steps.
    pub(crate) fn steps(&self) -> Vec<(f64, f64)> {
        match *self {
            Self::RandomWalk { timesteps, sigma } => vec![(1.0, sigma * sigma); timesteps as usize],
            _ => self
                .betas()
                .iter()
                .map(|b| ((1.0 - b).sqrt(), *b))
                .collect(),
        }
    }

    fn betas(&self) -> Vec<f64> {
        match *self {
            Self::Ddpm { ref betas } => betas.clone(),
            Self::LongDdpm {
                timesteps,
                highest,
                digits,
            } => {
                // The golden ratio's multiples visit (0, 1) evenly and never twice.
                let place = |t: u32| (f64::from(t) * 0.618_033_988_749_894_9).fract();
                (1..=timesteps)
                    .map(|t| highest * 10_f64.powf(-f64::from(digits) * place(t)))
                    .collect()
            }
            Self::RandomWalk { .. } | Self::AnySignal { .. } => vec![],
        }
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

/// The two processes that are defined by their steps, T = `shortest` to 40.
fn stepwise_of(shortest: u32) -> impl Strategy<Value = Chain> {
    let sigma = prop_oneof![(1..100).prop_map(f64::from), power(0..=6)];
    prop_oneof![
        3 => vec(beta(), shortest as usize..=40).prop_map(|betas| Chain::Ddpm { betas }),
        1 => (shortest..=40, sigma)
            .prop_map(|(timesteps, sigma)| Chain::RandomWalk { timesteps, sigma }),
    ]
}

/// The two processes that are defined by their steps, T = 1 to 40.
pub(crate) fn stepwise() -> impl Strategy<Value = Chain> {
    stepwise_of(1)
}

/// The same with T = 1 to 10⁵. Σβ is at most 10, which leaves e⁻⁵ of the signal.
pub(crate) fn long() -> impl Strategy<Value = Chain> {
    let timesteps = || (0..5_u32, 1..=10_u32).prop_map(|(k, n)| n * 10_u32.pow(k));
    let sigma = power(-2..=3);
    let ddpm = (timesteps(), power(-1..=1), 0..=6).prop_map(|(timesteps, noise, digits)| {
        let highest = (noise / f64::from(timesteps)).min(0.9);
        Chain::LongDdpm {
            timesteps,
            highest,
            digits,
        }
    });
    prop_oneof![
        ddpm,
        (timesteps(), sigma).prop_map(|(timesteps, sigma)| Chain::RandomWalk { timesteps, sigma }),
    ]
}

/// Any Gaussian process, T = 1 to 40.
pub(crate) fn chain() -> impl Strategy<Value = Chain> {
    chain_of(1)
}

fn chain_of(shortest: u32) -> impl Strategy<Value = Chain> {
    let signal = (1..=30).prop_map(|n| f64::from(n) / 10.0);
    let fall = (1..=300).prop_map(|n| f64::from(n) / 100.0);
    prop_oneof![
        3 => stepwise_of(shortest),
        1 => vec((signal, fall), shortest as usize..=40)
            .prop_map(|a_and_fall_of_log_snr| Chain::AnySignal { a_and_fall_of_log_snr }),
    ]
}

/// `N` levels of any process, the least noisy first, which may be clean data.
pub(crate) fn some_levels<const N: usize>() -> impl Strategy<Value = [NoiseLevel; N]> {
    let shortest = u32::try_from(N - 1).unwrap();
    (chain_of(shortest), array::uniform::<_, N>(any::<Index>())).prop_map(|(chain, places)| {
        let schedule = chain.schedule();
        let levels = levels(&schedule);
        let mut next = 0;
        std::array::from_fn(|i| {
            // Leaves as many levels as are still to be chosen.
            let place = next + places[i].index(levels.len() + 1 + i - N - next);
            next = place + 1;
            levels[place]
        })
    })
}

/// The levels of t = 0, 1, …, T.
pub(crate) fn levels(schedule: &NoiseSchedule) -> Vec<NoiseLevel> {
    let levels = schedule.iter().map(|t| schedule.level(t));
    std::iter::once(NoiseLevel::CLEAN).chain(levels).collect()
}

/// The relative rounding error of a coefficient of the levels t and s. λ is rounded to 2⁻⁵² of
/// itself, and so is the exponent of every coefficient. Δ, a difference of two λ, keeps that error,
/// and expm1(Δ) divides it by Δ where Δ is small. A formula here adds up a few such errors.
pub(crate) fn rounding(t: NoiseLevel, s: NoiseLevel) -> f64 {
    let size = |level: NoiseLevel| match level.log_snr() {
        log_snr if log_snr.is_finite() => log_snr.abs(),
        _ => 0.0, // an infinite λ is exact
    };
    let delta = (s.log_snr() - t.log_snr()).min(1.0);
    8.0 * f64::EPSILON * (4.0 + size(t) + size(s)) / delta
}
