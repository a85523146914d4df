//! The simple objective: diffuse, predict, compare.

use burn::tensor::Tensor;
use ddpm_schedule::{Objective, Timestep};

use crate::diffuse;
use crate::rows::{assert_like, network_time, per_row};

/// The loss of each row: w_t · mean((target − f(x_t, t))²), shape `[B]`.
///
/// x_t is [`diffuse`]d from `x0` with `eps`; the target is p·x₀ + q·ε with (p, q) of the
/// objective's parametrization, the weight w_t that of its weighting. With ε-prediction and
/// [`Weighting::Simple`](ddpm_schedule::Weighting::Simple) this is L_simple (Ho et al. 2020,
/// eq. 14). A pure function: its mean is what gradient descent is run on.
///
/// * `network`: f(x_t, t) with `x_t: [B, …]`, `t: [B]` holding t − 1 (what published checkpoints
///   are fed) in the dtype of `x_t`, f32 if that has 16 bits; it returns a tensor shaped like
///   `x_t`;
/// * `x0`, `eps`: `[B, …]`, `eps` standard normal;
/// * `t`: B times of the objective's schedule.
///
/// # Panics
///
/// If `eps` or the network's output differs from `x0` in shape or dtype, or there are not B times.
pub fn training_loss<const D: usize>(
    network: impl FnOnce(Tensor<D>, Tensor<1>) -> Tensor<D>,
    objective: &Objective,
    x0: Tensor<D>,
    eps: Tensor<D>,
    t: &[Timestep],
) -> Tensor<1> {
    let x_t = diffuse(x0.clone(), eps.clone(), objective.schedule(), t);
    let output = network(x_t, network_time(t.iter().copied(), &x0));
    regression(objective, output, x0, eps, t)
}

/// w_t · mean((p·x₀ + q·ε − output)²) of each row.
pub(crate) fn regression<const D: usize>(
    objective: &Objective,
    output: Tensor<D>,
    x0: Tensor<D>,
    eps: Tensor<D>,
    t: &[Timestep],
) -> Tensor<1> {
    assert_like("the network's output", &output, &x0);
    let schedule = objective.schedule();
    let target = |t: &Timestep| objective.parametrization().target(schedule.level(*t));
    let p = per_row(t.iter().map(|t| target(t).x0), &x0);
    let q = per_row(t.iter().map(|t| target(t).eps), &x0);
    let weight = per_row(t.iter().map(|&t| objective.weight(t)), &x0);
    let error = x0 * p + eps * q - output;
    row_mean(error.square()) * weight
}

/// The mean of each row: `[B, …]` to `[B]`.
pub(crate) fn row_mean<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    x.flatten::<2>(1, -1).mean_dim(1).squeeze_dim(1)
}
