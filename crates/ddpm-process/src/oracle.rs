//! The exact denoiser E\[x₀ | x_t\] of a mixture of Gaussians.
//!
//! With it, every error of a sample is the sampler's. The tests of the samplers use it, and so can
//! the tests of anything that takes a [`Denoiser`].

use std::fmt;

use burn::tensor::{Tensor, TensorData};
use ddpm_schedule::NoiseLevel;

use crate::{Denoiser, Prediction};

/// One Gaussian of a [`Mixture`].
///
/// ```
/// use ddpm_process::oracle::Component;
///
/// // N((1, 0), diag(0.25, 1)), drawn twice as often as a component of weight 1.
/// let component = Component {
///     weight: 2.0,
///     mean: vec![1.0, 0.0],
///     covariance: vec![0.25, 0.0, 0.0, 1.0],
/// };
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// The weight relative to the others; above 0.
    pub weight: f64,
    /// μ, d numbers.
    pub mean: Vec<f64>,
    /// Σ, d rows of d numbers; symmetric, without negative eigenvalues. All zeros give a point
    /// mass.
    pub covariance: Vec<f64>,
}

/// Invalid components of a mixture, or a component that is singular at some level. The index is the
/// component's.
///
/// ```
/// use ddpm_process::oracle::{Mixture, MixtureError};
///
/// assert_eq!(Mixture::new(vec![]), Err(MixtureError::Empty));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum MixtureError {
    /// There are no components, or the first has no dimensions.
    Empty,
    /// A weight is not a positive number.
    Weight(usize, f64),
    /// The size of the mean or the covariance does not fit the first mean.
    Size(usize),
    /// The covariance is not finite, not symmetric, or negative in some direction.
    Covariance(usize),
    /// The covariance a²Σ + b²I of x is singular: Σ is, and the noise b is too small.
    Singular(usize, f64),
}

impl fmt::Display for MixtureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(
                f,
                "a mixture needs at least one component of at least one dimension"
            ),
            Self::Weight(k, weight) => {
                write!(f, "component {k}: weight {weight} is not a positive number")
            }
            Self::Size(k) => write!(
                f,
                "component {k}: the mean must have d numbers and the covariance d·d, with d as in \
                 component 0"
            ),
            Self::Covariance(k) => {
                write!(f, "component {k}: the covariance is not that of a Gaussian")
            }
            Self::Singular(k, noise) => write!(
                f,
                "component {k}: at noise b = {noise:.2e} the covariance of x is singular in double \
                 precision, because the component's own covariance is singular"
            ),
        }
    }
}

impl std::error::Error for MixtureError {}

/// p(x₀) = Σ_k w_k·N(x₀; μ_k, Σ_k).
///
/// ```
/// use ddpm_process::oracle::{Component, Mixture};
/// use ddpm_schedule::NoiseLevel;
///
/// let point = |x: f64| Component { weight: 1.0, mean: vec![x], covariance: vec![0.0] };
/// let mixture = Mixture::new(vec![point(-1.0), point(1.0)]).unwrap();
/// let at = NoiseLevel::new(0.6, 0.8)?;
/// let mean = mixture.posterior_mean(&[0.5], at).unwrap();
/// assert!((mean[0] - (0.6 * 0.5 / 0.64_f64).tanh()).abs() < 1e-12);
/// # Ok::<(), ddpm_schedule::LevelError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    components: Vec<Component>,
}

/// x | k at some level: N(m, C), with C = L·Lᵀ.
struct Noisy<'a> {
    component: &'a Component,
    mean: Vec<f64>,
    factor: Vec<f64>,
    /// ln(w_k / √|2πC|).
    log_weight: f64,
}

impl Mixture {
    /// The mixture of these components. Their weights are divided by the sum.
    ///
    /// # Errors
    ///
    /// If a component is not a Gaussian with a positive weight, or the dimensions differ.
    pub fn new(mut components: Vec<Component>) -> Result<Self, MixtureError> {
        let d = components.first().map_or(0, |first| first.mean.len());
        if d == 0 {
            return Err(MixtureError::Empty);
        }
        for (k, component) in components.iter().enumerate() {
            if !(component.weight > 0.0 && component.weight.is_finite()) {
                return Err(MixtureError::Weight(k, component.weight));
            }
            if (component.mean.len(), component.covariance.len()) != (d, d * d) {
                return Err(MixtureError::Size(k));
            }
            if !is_covariance(&component.covariance, d) {
                return Err(MixtureError::Covariance(k));
            }
        }
        let sum: f64 = components.iter().map(|c| c.weight).sum();
        for component in &mut components {
            component.weight /= sum;
        }
        Ok(Self { components })
    }

    /// The components; their weights sum to 1.
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// d, the dimension of a row.
    pub fn dimension(&self) -> usize {
        self.components[0].mean.len()
    }

    /// E\[x₀ | x\] for one row at `level`:
    ///
    /// Σ_k γ_k·(μ_k + a·Σ_k·C_k⁻¹·(x − a·μ_k)) with C_k = a²·Σ_k + b²·I and γ_k ∝ w_k·N(x; a·μ_k, C_k).
    ///
    /// # Errors
    ///
    /// If a C_k is singular in double precision ([`MixtureError::Singular`]). If Σ_k is singular,
    /// as for a point mass, the noise must be at least about 10⁻⁸ of its width.
    ///
    /// # Panics
    ///
    /// If `x` does not have d numbers.
    pub fn posterior_mean(&self, x: &[f64], level: NoiseLevel) -> Result<Vec<f64>, MixtureError> {
        let noisy = self.noisy(level)?;
        Ok(posterior_mean(&noisy, x, level.signal()))
    }

    /// ln p(x) of the marginal at `level`, in nats.
    ///
    /// # Errors
    ///
    /// As [`posterior_mean`](Self::posterior_mean).
    ///
    /// # Panics
    ///
    /// If `x` does not have d numbers.
    pub fn log_density(&self, x: &[f64], level: NoiseLevel) -> Result<f64, MixtureError> {
        let noisy = self.noisy(level)?;
        let logs: Vec<f64> = noisy.iter().map(|k| k.log_density(x)).collect();
        Ok(log_sum(&logs))
    }

    fn noisy(&self, level: NoiseLevel) -> Result<Vec<Noisy<'_>>, MixtureError> {
        let components = self.components.iter().enumerate();
        components
            .map(|(k, component)| {
                let singular = MixtureError::Singular(k, level.noise());
                Noisy::new(component, level).ok_or(singular)
            })
            .collect()
    }
}

impl<'a> Noisy<'a> {
    /// `None` if C is singular.
    fn new(component: &'a Component, level: NoiseLevel) -> Option<Self> {
        let (a, b) = (level.signal(), level.noise());
        let d = component.mean.len();
        let mut factor: Vec<f64> = component.covariance.iter().map(|c| a * a * c).collect();
        for i in 0..d {
            factor[i * d + i] += b * b;
        }
        if !cholesky(&mut factor, d) {
            return None;
        }
        let half_log_det: f64 = (0..d).map(|i| libm::log(factor[i * d + i])).sum();
        let half_log_2pi = 0.5 * libm::log(std::f64::consts::TAU);
        Some(Self {
            component,
            mean: component.mean.iter().map(|m| a * m).collect(),
            factor,
            log_weight: libm::log(component.weight) - half_log_det - d as f64 * half_log_2pi,
        })
    }

    /// L⁻¹·(x − m).
    fn whitened(&self, x: &[f64]) -> Vec<f64> {
        let d = self.mean.len();
        assert_eq!(x.len(), d, "a row has {d} numbers");
        let mut y: Vec<f64> = x.iter().zip(&self.mean).map(|(x, m)| x - m).collect();
        for i in 0..d {
            let known: f64 = (0..i).map(|j| self.factor[i * d + j] * y[j]).sum();
            y[i] = (y[i] - known) / self.factor[i * d + i];
        }
        y
    }

    fn log_density(&self, x: &[f64]) -> f64 {
        self.log_weight - 0.5 * self.whitened(x).iter().map(|y| y * y).sum::<f64>()
    }

    /// μ + a·Σ·C⁻¹·(x − m).
    fn posterior_mean(&self, x: &[f64], a: f64) -> Vec<f64> {
        let d = self.mean.len();
        let mut y = self.whitened(x);
        for i in (0..d).rev() {
            let known: f64 = (i + 1..d).map(|j| self.factor[j * d + i] * y[j]).sum();
            y[i] = (y[i] - known) / self.factor[i * d + i];
        }
        let rows = self.component.covariance.chunks_exact(d);
        rows.zip(&self.component.mean)
            .map(|(row, mean)| mean + a * row.iter().zip(&y).map(|(c, y)| c * y).sum::<f64>())
            .collect()
    }
}

fn posterior_mean(noisy: &[Noisy], x: &[f64], a: f64) -> Vec<f64> {
    let logs: Vec<f64> = noisy.iter().map(|k| k.log_density(x)).collect();
    let total = log_sum(&logs);
    let mut mean = vec![0.0; x.len()];
    for (k, log) in noisy.iter().zip(logs) {
        let share = libm::exp(log - total);
        for (mean, own) in mean.iter_mut().zip(k.posterior_mean(x, a)) {
            *mean += share * own;
        }
    }
    mean
}

/// ln Σ eˣ.
fn log_sum(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + libm::log(logs.iter().map(|log| libm::exp(log - most)).sum())
}

/// Replaces the lower triangle with L of C = L·Lᵀ; false if C is not positive definite.
fn cholesky(c: &mut [f64], d: usize) -> bool {
    for i in 0..d {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| c[i * d + k] * c[j * d + k]).sum();
            let rest = c[i * d + j] - known;
            if i == j {
                c[i * d + i] = rest.sqrt();
            } else {
                c[i * d + j] = rest / c[j * d + j];
            }
        }
        // The root of a negative number is NaN.
        if c[i * d + i].is_nan() || c[i * d + i] <= 0.0 {
            return false;
        }
    }
    true
}

/// Whether the matrix is symmetric and, up to rounding, without a negative eigenvalue.
fn is_covariance(c: &[f64], d: usize) -> bool {
    let largest = c.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let symmetric = (0..d).all(|i| (0..i).all(|j| c[i * d + j] == c[j * d + i]));
    let mut shifted = c.to_vec();
    for i in 0..d {
        shifted[i * d + i] += 1e-12 * largest.max(f64::MIN_POSITIVE) + f64::MIN_POSITIVE;
    }
    symmetric && largest.is_finite() && cholesky(&mut shifted, d)
}

/// Rows may have any shape with d elements. The computation runs on the host, in f64. It panics if
/// a row does not have d elements, or if [`posterior_mean`](Mixture::posterior_mean) is an error.
impl<const D: usize> Denoiser<D> for Mixture {
    fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D> {
        let noisy = self.noisy(at).unwrap_or_else(|e| panic!("{e}"));
        let (shape, device, dtype) = (x_t.dims(), x_t.device(), x_t.dtype());
        let (row, d) = (shape[1..].iter().product::<usize>(), self.dimension());
        assert!(
            row == d,
            "a row of x_t has {row} numbers, but the mixture has {d}"
        );
        let x: Vec<f64> = x_t.into_data().iter().collect();
        let rows = x.chunks_exact(d);
        let x0: Vec<f64> = rows
            .flat_map(|row| posterior_mean(&noisy, row, at.signal()))
            .collect();
        // Only the finished expectation is rounded.
        Tensor::from_data(TensorData::new(x0, shape), (&device, dtype)).into()
    }
}

impl<const D: usize> Denoiser<D> for &Mixture {
    fn predict(&self, x_t: Tensor<D>, at: NoiseLevel) -> Prediction<D> {
        (**self).predict(x_t, at)
    }
}
