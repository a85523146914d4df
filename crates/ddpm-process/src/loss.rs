//! The simple objective: diffuse, predict, compare.

use burn::tensor::Tensor;
use ddpm_schedule::{Objective, Timestep};

use crate::{diffuse, per_row};

/// The loss of each row: w_t · mean((target − f(x_t, t))²), shape `[B]`.
///
/// x_t is [`diffuse`]d from `x0` with `eps`; the target is p·x₀ + q·ε with (p, q) of the
/// objective's parametrization, the weight w_t that of its weighting. With ε-prediction and
/// [`Weighting::Simple`](ddpm_schedule::Weighting::Simple) this is L_simple (Ho et al. 2020,
/// eq. 14). A pure function: its mean is what gradient descent is run on.
///
/// * `network`: f(x_t, t) with `x_t: [B, …]`, `t: [B]` holding t − 1 (what published checkpoints
///   are fed), returning a tensor shaped like `x_t`;
/// * `x0`, `eps`: `[B, …]`, `eps` standard normal;
/// * `t`: B times of the objective's schedule.
///
/// # Panics
///
/// If shapes disagree or there are not B times.
pub fn training_loss<const D: usize>(
    network: impl FnOnce(Tensor<D>, Tensor<1>) -> Tensor<D>,
    objective: &Objective,
    x0: Tensor<D>,
    eps: Tensor<D>,
    t: &[Timestep],
) -> Tensor<1> {
    let x_t = diffuse(x0.clone(), eps.clone(), objective.schedule(), t);
    let output = network(x_t, network_time(t, &x0));
    regression(objective, output, x0, eps, t)
}

/// t − 1 of each row, on the device of `like`.
pub(crate) fn network_time<const D: usize>(t: &[Timestep], like: &Tensor<D>) -> Tensor<1> {
    let inputs = t.iter().map(|t| f64::from(t.network_input()));
    per_row(inputs, &like.device())
}

/// w_t · mean((p·x₀ + q·ε − output)²) of each row.
pub(crate) fn regression<const D: usize>(
    objective: &Objective,
    output: Tensor<D>,
    x0: Tensor<D>,
    eps: Tensor<D>,
    t: &[Timestep],
) -> Tensor<1> {
    let device = x0.device();
    let schedule = objective.schedule();
    let target = |t: &Timestep| objective.parametrization().target(schedule.level(*t));
    let p = per_row(t.iter().map(|t| target(t).x0), &device);
    let q = per_row(t.iter().map(|t| target(t).eps), &device);
    let weight = per_row::<1>(t.iter().map(|&t| objective.weight(t)), &device);
    let error = x0 * p + eps * q - output;
    row_mean(error.square()) * weight
}

/// The mean of each row: `[B, …]` to `[B]`.
pub(crate) fn row_mean<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    x.flatten::<2>(1, -1).mean_dim(1).squeeze_dim(1)
}
