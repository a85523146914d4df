//! Burn's layers on images `[B, H, W, C]`, computed by the operations of `ddpm-kernels`.

use burn::module::Param;
use burn::nn::{GroupNorm, Linear, conv::Conv2d};
use burn::tensor::{Tensor, activation};
use ddpm_kernels::{ConvOptions, Images, Input, Norm, NormOptions, Terms};
use serde::{Deserialize, Serialize};

/// The function between a norm and a convolution (`act_fn`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// x·σ(x), the function of every published DDPM; diffusers also calls it swish.
    #[default]
    Silu,
    /// x·tanh(ln(1 + eˣ)).
    Mish,
    /// x·Φ(x), where Φ is the distribution function of the standard normal.
    Gelu,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Silu, Self::Mish, Self::Gelu, Self::Relu];

    /// The function of each element.
    pub fn of<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Silu => activation::silu(x),
            Self::Mish => activation::mish(x),
            Self::Gelu => activation::gelu(x),
            Self::Relu => activation::relu(x),
        }
    }
}

/// The operations after a group norm, in this order.
#[derive(Clone, Debug, Default)]
pub(crate) struct After {
    /// `[B, 2·C]`, scales first, then shifts: y·(1 + scale) + shift.
    pub(crate) scale_shift: Option<Tensor<2>>,
    /// The activation function.
    pub(crate) activation: Option<Activation>,
    /// `[B, H, W, C]`: a factor for each value, the mask of dropout.
    pub(crate) mask: Option<Tensor<4>>,
}

/// The norm of images and the operations after it, as the input of a convolution.
pub(crate) fn normed(norm: &GroupNorm, images: impl Into<Images>, after: After) -> Input {
    let After {
        scale_shift,
        activation,
        mask,
    } = after;
    let silu = activation == Some(Activation::Silu);
    // The norm computes SiLU itself.
    let Some(activation) = activation.filter(|_| !silu) else {
        return images.into().normed(norm_of(norm, scale_shift, silu, mask));
    };
    let y = activation.of(ddpm_kernels::group_norm(
        images,
        norm_of(norm, scale_shift, false, None),
    ));
    match mask {
        Some(mask) => (y * mask).into(),
        None => y.into(),
    }
}

/// The norm of images.
pub(crate) fn group_norm(norm: &GroupNorm, images: Tensor<4>) -> Tensor<4> {
    ddpm_kernels::group_norm(images, norm_of(norm, None, false, None))
}

fn norm_of(
    norm: &GroupNorm,
    scale_shift: Option<Tensor<2>>,
    silu: bool,
    mask: Option<Tensor<4>>,
) -> Norm {
    let (Some(gamma), Some(beta)) = (&norm.gamma, &norm.beta) else {
        unreachable!("every group norm of this crate has weights")
    };
    Norm {
        weight: gamma.val(),
        bias: beta.val(),
        scale_shift,
        mask,
        options: NormOptions {
            groups: norm.num_groups,
            eps: norm.epsilon,
            silu,
        },
    }
}

/// The output of a residual block, divided by `factor`.
pub(crate) fn rescaled(y: Tensor<4>, factor: f64) -> Tensor<4> {
    // Only the mid block has another factor than 1. Dividing by 1 would cost a pass over the image.
    if factor == 1.0 { y } else { y / factor }
}

/// A convolution of images. `shift`, `[B, C]`, and `residual` are added to it.
pub(crate) fn conv(
    conv: &Conv2d,
    input: impl Into<Input>,
    shift: Option<Tensor<2>>,
    residual: Option<Tensor<4>>,
) -> Tensor<4> {
    conv_as(
        conv,
        input,
        shift,
        residual,
        ConvOptions::same(conv.kernel_size[0]),
    )
}

/// As [`conv`], with options that may change the size of the image.
pub(crate) fn conv_as(
    conv: &Conv2d,
    input: impl Into<Input>,
    shift: Option<Tensor<2>>,
    residual: Option<Tensor<4>>,
    options: ConvOptions,
) -> Tensor<4> {
    let terms = Terms {
        bias: conv.bias.as_ref().map(Param::val),
        shift,
        residual,
    };
    ddpm_kernels::conv(input, conv.weight.val(), terms, options)
}

/// A linear layer on the channels of each pixel: a 1×1 convolution.
pub(crate) fn pixelwise(
    linear: &Linear,
    images: Tensor<4>,
    residual: Option<Tensor<4>>,
) -> Tensor<4> {
    let [input, output] = linear.weight.dims();
    let terms = Terms {
        bias: linear.bias.as_ref().map(Param::val),
        shift: None,
        residual,
    };
    let weight = linear
        .weight
        .val()
        .transpose()
        .reshape([output, input, 1, 1]);
    ddpm_kernels::conv(images, weight, terms, ConvOptions::same(1))
}
