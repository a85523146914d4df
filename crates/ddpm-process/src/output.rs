//! The scaling of a network's input, and the meaning of its output.

use burn::tensor::Tensor;
use ddpm_schedule::{NoiseLevel, Objective};

use crate::rows::{assert_dtype, assert_shape, per_row};

/// c_in·x_t of each row: the network's input.
pub(crate) fn scaled<const D: usize>(
    objective: &Objective,
    x_t: Tensor<D>,
    levels: &[NoiseLevel],
) -> Tensor<D> {
    let c_in = levels.iter().map(|&at| objective.preconditioning(at).c_in);
    if c_in.clone().all(|c_in| c_in == 1.0) {
        return x_t;
    }
    let c_in = per_row(c_in, &x_t);
    x_t * c_in
}

/// x̂₀ of each row from the network's output for it: c_skip·x_t + c_out·output.
pub(crate) fn denoised<const D: usize>(
    objective: &Objective,
    x_t: Tensor<D>,
    output: Tensor<D>,
    levels: &[NoiseLevel],
) -> Tensor<D> {
    let c = levels.iter().map(|&at| objective.preconditioning(at));
    let c_skip = per_row(c.clone().map(|c| c.c_skip), &x_t);
    let c_out = per_row(c.map(|c| c.c_out), &x_t);
    x_t * c_skip + output * c_out
}

/// The two halves of a network's output for `x_t`: the prediction, and v = (o + 1)/2 if there is a
/// second half.
///
/// # Panics
///
/// If the output's shape is neither that of `x_t` nor that with twice the channels (axis 1), or its
/// dtype differs.
pub(crate) fn heads<const D: usize>(
    output: Tensor<D>,
    x_t: &Tensor<D>,
) -> (Tensor<D>, Option<Tensor<D>>) {
    assert_dtype("the network's output", &output, x_t.dtype());
    let mut shape = x_t.dims();
    let channels = shape.get(1).copied();
    let channels = channels.filter(|c| output.dims()[1] == 2 * c);
    if let Some(channels) = channels {
        shape[1] = 2 * channels;
    }
    assert_shape("the network's output", &output, shape);
    let Some(channels) = channels else {
        return (output, None);
    };
    let o = output.clone().narrow(1, channels, channels);
    (output.narrow(1, 0, channels), Some((o + 1.0) * 0.5))
}
