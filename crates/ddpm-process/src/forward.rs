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
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::diffuse;
/// use ddpm_schedule::NoiseLevel;
///
/// # let device = burn::tensor::Device::flex();
/// let (x0, eps) = (Tensor::<2>::ones([1, 2], &device), Tensor::<2>::zeros([1, 2], &device));
/// let x_t = diffuse(x0, eps, &[NoiseLevel::new(0.6, 0.8)?]);
/// assert!((x_t.mean().into_scalar::<f32>() - 0.6).abs() < 1e-6);
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
///
/// # Panics
///
/// If `x0` and `eps` differ in shape or dtype, if there are not B levels, or if a_t or b_t is not
/// finite in that dtype. In f32 both are finite at every level of an
/// [`Objective`](ddpm_schedule::Objective).
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
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::transition;
/// use ddpm_schedule::NoiseSchedule;
///
/// let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02)?;
/// let t = schedule.last();
/// let step = schedule.level(t).transition(schedule.previous(t));
/// # let device = burn::tensor::Device::flex();
/// let (x, z) = (Tensor::<2>::zeros([1, 2], &device), Tensor::<2>::ones([1, 2], &device));
/// let x_t = transition(x, z, step);
/// assert!((x_t.mean().into_scalar::<f32>() - 0.02_f32.sqrt()).abs() < 1e-6); // √β_T
/// # Ok::<(), ddpm_schedule::ScheduleError>(())
/// ```
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
