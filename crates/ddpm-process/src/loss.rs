//! Training examples, and the weighted square loss.

use burn::tensor::Tensor;
use ddpm_schedule::{NoiseLevel, Objective};

use crate::diffuse;
use crate::output::scaled;
use crate::rows::{assert_like, network_time, per_row};

/// One training batch of an [`Objective`]: the network's input, its target and the weight of each
/// row. Any loss can be computed from it.
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::Example;
///
/// /// Huber's loss in place of the square (δ = 1).
/// fn huber(network: impl Fn(Tensor<2>, Tensor<1>) -> Tensor<2>, example: Example<2>) -> Tensor<1> {
///     let error = (network(example.input, example.time) - example.target).abs();
///     let large = error.clone() - 0.5;
///     let small = error.clone().square() * 0.5;
///     small.mask_where(error.greater_elem(1.0), large).mean()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Example<const D: usize> {
    /// x_t = a·x₀ + b·ε, `[B, …]`.
    pub x_t: Tensor<D>,
    /// The network's input c_in·x_t, which is x_t itself for ε, x₀, v and flow.
    pub input: Tensor<D>,
    /// The network time ([`Process::time`](ddpm_schedule::Process::time)), `[B]`, in the dtype of
    /// x_t, or in f32 if that has 16 bits.
    pub time: Tensor<1>,
    /// p·x₀ + q·ε with (p, q) of the objective's parametrization, `[B, …]`.
    pub target: Tensor<D>,
    /// The weight of each row's loss, `[B]`.
    pub weight: Tensor<1>,
}

impl<const D: usize> Example<D> {
    /// The example of `x0`, with each row diffused to its own level.
    ///
    /// * `x0`, `eps`: `[B, …]`, `eps` standard normal;
    /// * `levels`: B levels of the objective's process.
    ///
    /// # Panics
    ///
    /// If `eps` differs from `x0` in shape or dtype, if there are not B levels, or if the network's
    /// output does not determine x̂₀ at one of them ([`Objective::preconditioning`]).
    pub fn new(
        objective: &Objective,
        x0: Tensor<D>,
        eps: Tensor<D>,
        levels: &[NoiseLevel],
    ) -> Self {
        let x_t = diffuse(x0.clone(), eps.clone(), levels);
        let target = |&at: &NoiseLevel| objective.parametrization().target(at);
        let p = per_row(levels.iter().map(|at| target(at).x0), &x0);
        let q = per_row(levels.iter().map(|at| target(at).eps), &x0);
        Self {
            input: scaled(objective, x_t.clone(), levels),
            time: network_time(objective.process(), levels, &x0),
            weight: per_row(levels.iter().map(|&at| objective.weight(at)), &x0),
            target: x0 * p + eps * q,
            x_t,
        }
    }

    /// w·mean((target − output)²) of each row, shape `[B]`.
    ///
    /// # Panics
    ///
    /// If the output differs from x_t in shape or dtype.
    pub fn loss(&self, output: Tensor<D>) -> Tensor<1> {
        assert_like("the network's output", &output, &self.target);
        row_mean((self.target.clone() - output).square()) * self.weight.clone()
    }
}

/// The loss of each row: w · mean((target − f(x_t, t))²), shape `[B]`.
///
/// With ε-prediction and [`Weighting::Simple`](ddpm_schedule::Weighting::Simple) this is L_simple
/// (Ho et al. 2020, eq. 14). Gradient descent minimizes its mean. An [`Example`] has its parts.
///
/// * `network`: f(x_t, t) with `x_t: [B, …]`, `t: [B]`; it returns a tensor shaped like `x_t`;
/// * `x0`, `eps`: `[B, …]`, `eps` standard normal;
/// * `levels`: B levels of the objective's process.
///
/// ```
/// use burn::tensor::Tensor;
/// use ddpm_process::training_loss;
/// use ddpm_schedule::{NoiseSchedule, Objective, Parametrization, Weighting};
///
/// let schedule = NoiseSchedule::linear(1000, 1e-4, 0.02)?;
/// let level = schedule.level(schedule.last());
/// let objective = Objective::new(schedule, Parametrization::Epsilon, Weighting::Simple)?;
/// let network = |x_t: Tensor<2>, _t: Tensor<1>| x_t * 0.0; // ε̂ = 0
/// # let device = burn::tensor::Device::flex();
/// let (x0, eps) = (Tensor::<2>::zeros([1, 2], &device), Tensor::<2>::ones([1, 2], &device));
/// let loss = training_loss(network, &objective, x0, eps, &[level]);
/// assert_eq!(loss.into_scalar::<f32>(), 1.0); // the mean of ε²
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Panics
///
/// As [`Example::new`] and [`Example::loss`].
pub fn training_loss<const D: usize>(
    network: impl FnOnce(Tensor<D>, Tensor<1>) -> Tensor<D>,
    objective: &Objective,
    x0: Tensor<D>,
    eps: Tensor<D>,
    levels: &[NoiseLevel],
) -> Tensor<1> {
    let example = Example::new(objective, x0, eps, levels);
    let output = network(example.input.clone(), example.time.clone());
    example.loss(output)
}

/// The mean of each row: `[B, …]` to `[B]`.
pub(crate) fn row_mean<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    x.flatten::<2>(1, -1).mean_dim(1).squeeze_dim(1)
}
