//! The forward process: from data to noise, in one jump or one step at a time.

use burn::tensor::Tensor;
use ddpm_schedule::{NoiseSchedule, Timestep, Transition};

use crate::per_row;

/// Draws from the marginal q(x_t | x₀): x_t = a_t·x₀ + b_t·ε, each row at its own time.
///
/// For DDPM, a_t = √ᾱ_t and b_t = √(1 − ᾱ_t) (Ho et al. 2020, eq. 4). If x₀ has mean μ and
/// covariance Σ, whatever its distribution, x_t has mean a_t·μ and covariance a_t²·Σ + b_t²·I.
///
/// * `x0`, `eps`: `[B, …]`, `eps` standard normal;
/// * `t`: B times of `schedule`.
///
/// # Panics
///
/// If the shapes of `x0` and `eps` differ, or there are not B times.
pub fn diffuse<const D: usize>(
    x0: Tensor<D>,
    eps: Tensor<D>,
    schedule: &NoiseSchedule,
    t: &[Timestep],
) -> Tensor<D> {
    assert_eq!(x0.dims()[0], t.len(), "diffuse needs one time per row");
    let device = x0.device();
    let a = per_row(t.iter().map(|&t| schedule.level(t).signal()), &device);
    let b = per_row(t.iter().map(|&t| schedule.level(t).noise()), &device);
    x0 * a + eps * b
}

/// One step of the chain, q(x_t | x_s): x_t = (a_t/a_s)·x_s + σ·z.
///
/// The [`Transition`] comes from [`NoiseLevel::transition`](ddpm_schedule::NoiseLevel::transition).
/// For neighbouring times of DDPM it is √(1 − β_t)·x_{t−1} + √β_t·z (Ho et al. 2020, eq. 2); for
/// the random walk, x_{t−1} + σ·z.
///
/// # Panics
///
/// If the shapes of `x_s` and `z` differ.
pub fn transition<const D: usize>(
    x_s: Tensor<D>,
    z: Tensor<D>,
    transition: Transition,
) -> Tensor<D> {
    x_s * transition.signal + z * transition.variance.sqrt()
}
