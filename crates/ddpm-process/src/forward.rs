//! The forward process: from data to noise, in one jump or one step at a time.

use burn::tensor::Tensor;
use ddpm_schedule::{NoiseLevel, Transition};

use crate::rows::{assert_fits, assert_like, per_row};

/// Draws from the marginal q(x_t | x₀): x_t = a_t·x₀ + b_t·ε, each row at its own level.
///
/// For DDPM, a_t = √ᾱ_t and b_t = √(1 − ᾱ_t) (Ho et al. 2020, eq. 4). If x₀ has mean μ and
/// covariance Σ, whatever its distribution, x_t has mean a_t·μ and covariance a_t²·Σ + b_t²·I.
///
/// * `x0`, `eps`: `[B, …]`, `eps` standard normal;
/// * `levels`: B levels of any process.
///
/// # Panics
///
/// If `x0` and `eps` differ in shape or dtype, or there are not B levels. If a_t or b_t is not
/// finite in that dtype, which no level of an [`Objective`](ddpm_schedule::Objective) is in f32.
pub fn diffuse<const D: usize>(x0: Tensor<D>, eps: Tensor<D>, levels: &[NoiseLevel]) -> Tensor<D> {
    assert_eq!(
        x0.dims()[0],
        levels.len(),
        "diffuse needs one level per row"
    );
    assert_like("eps", &eps, &x0);
    let a = per_row(levels.iter().map(|at| at.signal()), &x0);
    let b = per_row(levels.iter().map(|at| at.noise()), &x0);
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
/// If `x_s` and `z` differ in shape or dtype, or a coefficient is not finite in that dtype.
pub fn transition<const D: usize>(
    x_s: Tensor<D>,
    z: Tensor<D>,
    transition: Transition,
) -> Tensor<D> {
    assert_like("z", &z, &x_s);
    assert_fits(transition.signal, &x_s);
    assert_fits(transition.variance.sqrt(), &x_s);
    x_s * transition.signal + z * transition.variance.sqrt()
}
